import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.probes.topology import count_cores, doubt_core_types, split_by_capacity

ALONE = {number: frozenset((number,)) for number in range(8)}


@pytest.mark.parametrize(
    ("capacities", "fast"),
    [
        ({0: 718, 1: 731, 2: 997, 3: 1017, 4: 1024}, {2, 3, 4}),  # GB10: two core types, five capacities
        ({0: 250, 1: 700, 2: 1024}, {1, 2}),  # the widest gap is below the two big types
        ({0: 1024, 1: 1024}, None),
        ({0: 1000, 1: 1024}, None),
        ({}, None),
        ({0: 5}, None),
    ],
)
def test_capacities_are_split_at_the_widest_gap(capacities: dict[int, int], fast: set[int] | None) -> None:
    assert split_by_capacity(capacities) == fast


@given(st.dictionaries(st.integers(0, 200), st.integers(0, 2000)))
def test_a_split_leaves_slow_cpus_below_fast_ones(capacities: dict[int, int]) -> None:
    fast = split_by_capacity(capacities)
    if fast is not None:
        slow = set(capacities) - fast
        assert slow
        assert max(capacities[number] for number in slow) * 1.2 <= min(capacities[number] for number in fast)


def test_lists_that_share_out_the_online_cpus_are_believed() -> None:
    assert doubt_core_types((0, 1), (2, 3), (0, 1, 2, 3), ALONE) == ""


@pytest.mark.parametrize(("fast", "slow"), [((0, 1), (1, 2, 3)), ((0,), (2, 3)), ((0, 1), (2, 3, 4))])
def test_lists_that_overlap_or_leave_cpus_out_are_doubted(fast: tuple[int, ...], slow: tuple[int, ...]) -> None:
    assert "share out" in doubt_core_types(fast, slow, (0, 1, 2, 3), ALONE)


def test_efficiency_cores_with_a_second_thread_are_doubted() -> None:
    pairs = {number: frozenset((number, number ^ 1)) for number in range(4)}
    assert "second thread" in doubt_core_types((0, 1), (2, 3), (0, 1, 2, 3), pairs)


def test_threads_of_one_core_count_once() -> None:
    pairs = {number: frozenset((number, number ^ 1)) for number in range(4)}
    assert count_cores(pairs, (0, 1, 2)) == 2
