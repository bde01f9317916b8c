from collections.abc import Sequence
from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from bercail.core.evict import EXACT, Candidate, cheapest

BYTES = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 5))
COSTS = st.tuples(st.integers(0, 1).map(float), st.integers(0, 4).map(float))


def candidates(most: int) -> st.SearchStrategy[list[Candidate]]:
    pairs = st.lists(st.tuples(BYTES, COSTS), max_size=most)
    return pairs.map(
        lambda found: [Candidate(model=f"m{at}", bytes=size, cost=cost) for at, (size, cost) in enumerate(found)]
    )


SHORT = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(1, 12), min_size=1)


def enough(chosen: Sequence[Candidate], short: dict[str, int]) -> bool:
    return all(sum(one.bytes.get(device, 0) for one in chosen) >= missing for device, missing in short.items())


@given(candidates(7), SHORT)
def test_the_cheapest_set_that_is_enough(found: list[Candidate], short: dict[str, int]) -> None:
    sets = chain.from_iterable(combinations(found, count) for count in range(len(found) + 1))
    fitting = [
        (tuple(sum(one.cost[part] for one in chosen) for part in (0, 1)), len(chosen), sorted(o.model for o in chosen))
        for chosen in sets
        if enough(chosen, short)
    ]
    best = min(fitting, default=None)
    assert cheapest(found, short) == (None if best is None else frozenset(best[2]))


def test_the_sum_decides_not_the_first_that_comes() -> None:
    found = [
        Candidate(model="a", bytes={"x": 2}, cost=(1.0,)),
        Candidate(model="b", bytes={"x": 2}, cost=(1.0,)),
        Candidate(model="c", bytes={"x": 4}, cost=(1.5,)),
    ]
    assert cheapest(found, {"x": 4}) == frozenset("c")
    assert cheapest(found, {"x": 9}) is None


def test_among_many_the_cheap_go_and_none_in_vain() -> None:
    found = [Candidate(model=f"m{at:02}", bytes={"x": 1 + at}, cost=(float(at),)) for at in range(EXACT + 4)]
    chosen = cheapest(found, {"x": 16})
    assert chosen is not None
    freed = {one.model: one.bytes["x"] for one in found if one.model in chosen}
    assert sum(freed.values()) >= 16
    assert all(sum(freed.values()) - size < 16 for size in freed.values())
    assert max(chosen) == "m05", "no dearer one than needed"


@given(candidates(EXACT + 6), SHORT)
def test_it_is_enough_if_all_of_them_are(found: list[Candidate], short: dict[str, int]) -> None:
    chosen = cheapest(found, short)
    assert (chosen is not None) is enough(found, short)
    assert chosen is None or enough([one for one in found if one.model in chosen], short)
