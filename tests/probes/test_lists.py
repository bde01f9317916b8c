import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.cpulist import format_cpulist, parse_cpulist, parse_number
from bercail.probes.lists import parse_cache_size, parse_cpumask


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0-3,8\n", (0, 1, 2, 3, 8)),
        ("5", (5,)),
        ("", ()),
        ("\n", ()),
        ("8,0-1,1-2", (0, 1, 2, 8)),
        ("3-1", None),
        ("0-99999999999", None),
        ("0-65536", None),
        ("a-b", None),
        ("-1", None),
        ("0-31:1/2", None),
        ("٣", None),
    ],
)
def test_a_cpulist_is_read_or_refused_as_a_whole(text: str, ids: tuple[int, ...] | None) -> None:
    assert parse_cpulist(text) == ids


@given(st.sets(st.integers(0, 9999)))
def test_cpulists_survive_a_round_trip(ids: set[int]) -> None:
    assert parse_cpulist(format_cpulist(ids)) == tuple(sorted(ids))


def test_runs_are_joined() -> None:
    assert format_cpulist([8, 1, 0, 2, 3, 5]) == "0-3,5,8"


@pytest.mark.parametrize(
    ("text", "ids"),
    [("00000000,0000000f\n", (0, 1, 2, 3)), ("3", (0, 1)), ("1,00000000", (32,)), ("0", ()), ("", None), ("0xf", None)],
)
def test_a_cpumask_is_read_or_refused(text: str, ids: tuple[int, ...] | None) -> None:
    assert parse_cpumask(text) == ids


@pytest.mark.parametrize(
    ("text", "size"), [("36864K\n", 36864 * 1024), ("32M", 32 << 20), ("512", 512), ("K", None), ("", None)]
)
def test_cache_sizes_have_units(text: str, size: int | None) -> None:
    assert parse_cache_size(text) == size


@given(st.text())
def test_no_text_breaks_a_parser_of_numbers(text: str) -> None:
    for parse in (parse_cpulist, parse_cpumask, parse_cache_size, parse_number):
        assert parse(text) == parse(text)
