"""Who may be in memory together: groups and the matrix, against counting out every combination."""

from collections.abc import Mapping
from itertools import chain, combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.groups import Group, Groups
from bercail.core.matrix import All, Either, Expression, Matrix, One, all_of, covers, either_of, models_of
from bercail.core.matrix import combinations as largest
from fakes.configuration import configuration

MODELS = "abcdef"


def rule(text: str, models: str = MODELS) -> Groups | Matrix:
    declared = "".join(f"  {name}: {{cmd: run, proxy: http://h}}\n" for name in models)
    found = configuration(f"models:\n{declared}{text}").rule
    assert found is not None
    return found


def matrix(**sets: str) -> Matrix:
    lines = "".join(f"    {name}: {text}\n" for name, text in sets.items())
    found = rule(f"matrix:\n  sets:\n{lines}")
    assert isinstance(found, Matrix)
    return found


def test_without_groups_one_model_runs_at_a_time() -> None:
    found = rule("")
    assert found == Groups(groups=(Group(name="(default)", members=tuple(MODELS)),))
    assert found.eviction_for("a", {"b", "c"}) == {"b", "c"}
    assert not found.may_coexist(["a", "b"])
    assert found.may_coexist(["a", "a"])


GROUPS = """
groups:
  pair: {swap: false, exclusive: true, members: [a, b]}
  small: {swap: true, exclusive: false, members: [c, d]}
  always: {swap: false, exclusive: false, persistent: true, members: [e]}
"""


@pytest.mark.parametrize(
    ("target", "running", "leave"),
    [
        ("a", "b", ""), ("a", "bcf", "cf"), ("a", "e", ""), ("a", "ae", ""), ("c", "d", "d"), ("c", "abe", ""),
        ("c", "abdf", "d"), ("e", "abcf", ""), ("f", "abcde", "abcd"), ("a", "", ""),
    ],
)  # fmt: skip
def test_groups_evict_by_swap_exclusive_and_persistent(target: str, running: str, leave: str) -> None:
    assert rule(GROUPS).eviction_for(target, set(running)) == set(leave)


def test_a_model_nobody_placed_is_in_the_default_group() -> None:
    found = Groups(groups=())
    assert found.group_of("x") == Group(name="(default)", members=("x",))
    assert rule(GROUPS).may_coexist(["a", "b"])
    assert not rule(GROUPS).may_coexist(["a", "e"])


def test_and_binds_tighter_than_or() -> None:
    found = matrix(s="a & b | c & d")
    assert found.eviction_for("a", {"b"}) == set()
    assert found.eviction_for("a", {"d"}) == {"d"}
    assert matrix(s="a & (b | c) & d").eviction_for("a", {"b", "d"}) == set()
    assert matrix(s="a & (b | c) & d").eviction_for("c", {"b", "d"}) == {"b"}


def test_a_model_in_no_set_runs_alone() -> None:
    found = matrix(s="a & b")
    assert found.eviction_for("c", {"a", "b"}) == {"a", "b"}
    assert found.eviction_for("a", {"c"}) == {"c"}


def test_a_set_uses_others_wherever_they_are_written() -> None:
    found = matrix(s="a & +t", t="b | +u", u="c & d")
    assert found.eviction_for("a", {"c", "d"}) == set()
    assert found.eviction_for("b", {"c", "d"}) == {"c", "d"}


def test_variables_win_over_models_of_the_same_name() -> None:
    found = rule("matrix: {vars: {a: b, x: c}, evict_costs: {x: 5, d: 2}, sets: {s: a & x}}")
    assert isinstance(found, Matrix)
    assert found.eviction_for("b", {"c"}) == set()
    assert found.eviction_for("a", {"b", "c"}) == {"b", "c"}
    assert found.costs == {"c": 5, "d": 2}


def test_the_cheapest_leave_and_of_equals_the_first_written_stays() -> None:
    assert matrix(s="a & b", t="a & c").eviction_for("a", {"b", "c"}) == {"c"}
    assert matrix(t="a & c", s="a & b").eviction_for("a", {"b", "c"}) == {"b"}
    found = rule("matrix: {evict_costs: {c: 3}, sets: {s: a & b, t: a & c}}")
    assert found.eviction_for("a", {"b", "c"}) == {"b"}
    assert matrix(s="a & (b | c)").eviction_for("a", {"b", "c"}) == {"c"}


def test_nothing_is_expanded_beyond_the_models_at_hand() -> None:
    pairs = [(f"x{number}", f"y{number}") for number in range(70)]
    names = [name for pair in pairs for name in pair]
    expression = " & ".join(f"({one} | {other})" for one, other in pairs)
    declared = "".join(f"  {name}: {{cmd: run, proxy: http://h}}\n" for name in names)
    found = configuration(f"models:\n{declared}matrix: {{sets: {{all: '{expression}'}}}}\n").rule
    assert found is not None
    assert found.may_coexist([one for one, _ in pairs])
    assert not found.may_coexist(["x3", "y3"])
    assert found.eviction_for("x0", {"y0", "x1", "y2"}) == {"y0"}
    many = " | ".join(names * 50)
    wide = configuration(f"models:\n{declared}matrix: {{sets: {{any: '{many}'}}}}\n").rule
    assert wide is not None
    assert wide.eviction_for("x0", {"y0"}) == {"y0"}


def expressions() -> st.SearchStrategy[Expression]:
    leaves = st.sampled_from([One(name) for name in MODELS])
    return st.recursive(
        leaves,
        lambda below: st.lists(below, min_size=1, max_size=3).map(tuple).flatmap(
            lambda parts: st.sampled_from([all_of(parts), either_of(parts)])
        ),
        max_leaves=8,
    )  # fmt: skip


def counted(expression: Expression) -> set[frozenset[str]]:
    """Every combination, by writing all of them out."""
    if isinstance(expression, One):
        return {frozenset({expression.model})}
    parts = [counted(part) for part in expression.parts]
    if isinstance(expression, Either):
        return set(chain.from_iterable(parts))
    return {frozenset().union(*chosen) for chosen in product(*parts)}


def cheapest(sets: Mapping[str, Expression], costs: Mapping[str, int], target: str, running: frozenset[str]) -> int:
    """The least cost of what must leave, by trying every part of ``running``."""
    allowed = [one for expression in sets.values() for one in counted(expression)]
    others = running - {target}
    return min(
        sum(costs.get(model, 1) for model in others - set(kept))
        for count in range(len(others) + 1)
        for kept in combinations(sorted(others), count)
        if not kept or any({target, *kept} <= one for one in allowed)
    )


@given(
    st.lists(expressions(), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(MODELS), st.integers(1, 9)),
    st.sampled_from(MODELS),
    st.frozensets(st.sampled_from(MODELS)),
)
def test_what_leaves_costs_as_little_as_it_can(
    parts: list[Expression], costs: dict[str, int], target: str, running: frozenset[str]
) -> None:
    sets = {f"s{number}": part for number, part in enumerate(parts)}
    found = Matrix(sets=sets, costs=costs)
    leaving = found.eviction_for(target, running)
    assert leaving <= running - {target}
    assert sum(costs.get(model, 1) for model in leaving) == cheapest(sets, costs, target, running)
    staying = (running - leaving) | {target}
    if len(staying) > 1:
        assert found.may_coexist(staying)


@given(expressions(), st.frozensets(st.sampled_from(MODELS)))
def test_combinations_are_the_largest_of_all(expression: Expression, within: frozenset[str]) -> None:
    every = {one & within for one in counted(expression)}
    found = largest(expression, within)
    assert set(found) == {one for one in every if not any(one < other for other in every)}
    assert len(set(found)) == len(found)
    assert covers(expression, within) == any(within <= one for one in counted(expression))
    assert models_of(expression) == frozenset().union(*counted(expression))


def test_an_expression_of_one_part_is_that_part() -> None:
    assert all_of((One("a"),)) == One("a") == either_of((One("a"),))
    assert isinstance(all_of((One("a"), One("b"))), All)
