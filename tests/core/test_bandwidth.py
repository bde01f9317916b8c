"""Of several readings of memory the best counts, and what disturbed it is told."""

import json

import pytest

from bercail.core.bandwidth import MOST_KEPT, Reading, best, doubt, is_settled, kept, to_keep

QUIET = Reading(bytes_per_s=20e9, busy=0.02, withheld=0.0, spread=0.03)
BUSY = Reading(bytes_per_s=7e9, busy=0.43, withheld=0.0, spread=0.1)
OLD = Reading(bytes_per_s=7e9)


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (QUIET, ""),
        (BUSY, "other programs took 43% of the CPUs"),
        (Reading(bytes_per_s=1.0, busy=0.5, withheld=0.12, spread=0.6),
         "other programs took 50% of the CPUs and the hypervisor kept 12% of the CPUs and its rounds differed by 60%"),
        (Reading(bytes_per_s=1.0, spread=0.1), ""),
        (OLD, "it is not known what else ran then"),
    ],
)  # fmt: skip
def test_what_disturbed_a_measurement_is_told(reading: Reading, words: str) -> None:
    assert reading.doubt == words


def test_the_fastest_counts_and_is_beyond_doubt_once_one_was_undisturbed() -> None:
    fast = Reading(bytes_per_s=21e9, busy=0.2, withheld=0.0, spread=0.0)
    assert best((BUSY, fast, QUIET)) == fast
    assert doubt((BUSY, fast)) == fast.doubt
    assert doubt((BUSY, fast, QUIET)) == ""


def test_there_is_an_end_to_measuring_on_a_machine_that_is_never_quiet() -> None:
    assert not is_settled(())
    assert not is_settled([BUSY] * (MOST_KEPT - 1))
    assert is_settled([BUSY] * MOST_KEPT)
    assert is_settled((BUSY, QUIET))


def test_readings_are_kept_as_they_are() -> None:
    assert kept(json.loads(json.dumps(to_keep((BUSY, QUIET, OLD))))) == (BUSY, QUIET, OLD)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ()), ({}, ()), ({"bytes_per_s": "fast"}, ()), ({"bytes_per_s": True}, ()), ({"bytes_per_s": 0}, ()),
        ({"bytes_per_s": 7e9}, (OLD,)), ({"readings": [1, {"bytes_per_s": -1}, {"bytes_per_s": 7e9}]}, (OLD,)),
    ],
)  # fmt: skip
def test_what_makes_no_sense_was_not_kept_and_an_earlier_version_is_understood(
    value: dict[str, object] | None, found: tuple[Reading, ...]
) -> None:
    assert kept(value) == found
