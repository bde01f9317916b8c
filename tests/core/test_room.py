from dataclasses import replace

import pytest

from bercail.core.line import Line, Ticket
from bercail.core.need import Need, Policy, Terms
from bercail.core.room import retry_after_s, wait_s
from bercail.core.seat import Past, Seat, Stand

TERMS = Terms(
    needs={"a": Need(bytes={"x": 6}, slots=2, reload_s=10.0), "b": Need(bytes={"x": 6})},
    budget={"x": 10},
    policy=Policy(max_wait_s=60.0, first_service_s=4.0),
)
WAITING = Line().with_ticket(Ticket(number=1, model="a", arrived_s=80.0), 0.0)
FULL = Seat(stand=Stand.READY, past=Past(held={"x": 6}))


@pytest.mark.parametrize(
    ("seat", "other", "position", "expected_s"),
    [
        (Seat(stand=Stand.READY), Seat(), 1, 4),
        (Seat(stand=Stand.READY), Seat(), 3, 8),
        (Seat(stand=Stand.READY, service_s=1.0), Seat(), 3, 2),
        (Seat(stand=Stand.STARTING, past=Past(began_s=95.0)), Seat(), 1, 5 + 4),
        (Seat(stand=Stand.STARTING, past=Past(began_s=50.0)), Seat(), 1, 4),
        (Seat(stand=Stand.CALLED), FULL, 1, 4 + 10 + 4),
        (Seat(), Seat(), 1, 10 + 4),
        (Seat(past=Past(load_s=2.0)), Seat(), 1, 2 + 4),
        (Seat(), FULL, 1, 60 + 4 + 10 + 4),
        (Seat(line=WAITING), FULL, 2, 40 + 4 + 10 + 4),
        (Seat(stand=Stand.STOPPING, line=WAITING, past=Past(held={"x": 6})), Seat(), 2, 40 + 4 + 10 + 4),
        (Seat(past=Past(not_before_s=130.0)), Seat(), 1, 30 + 10 + 4),
    ],
)
def test_how_long_one_waits_follows_from_what_was_seen(
    seat: Seat, other: Seat, position: int, expected_s: float
) -> None:
    assert wait_s(TERMS, {"a": seat, "b": other}, "a", position, 100.0) == expected_s


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert [retry_after_s(estimate_s) for estimate_s in (0.0, 1.2, 60.0)] == [1, 2, 60]


def test_what_a_policy_says_is_part_of_its_terms() -> None:
    longer = replace(TERMS, policy=Policy(max_wait_s=90.0, first_service_s=4.0))
    assert wait_s(longer, {"a": Seat(), "b": FULL}, "a", 1, 100.0) == 90 + 4 + 10 + 4
