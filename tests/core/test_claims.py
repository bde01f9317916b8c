"""What the models of a configuration ask for of the CPUs, and which of them may meet."""

import pytest

from bercail.core.allotment import Allotment, Claim
from bercail.core.claims import allotment_problems, claims_of, meeting
from bercail.core.options import EngineOptions
from fakes.configuration import configuration

TEXT = """
server: {}
models:
  own: {model: a.gguf, cores: auto}
  list: {model: a.gguf, cores: 0-3, numa: 0}
  free: {model: a.gguf}
  run: {cmd: "serve --port ${PORT}"}
  kept: {cmd: "/usr/bin/taskset -c 4 serve --port ${PORT}"}
  far: {proxy: https://far.example}
"""


def test_every_model_that_runs_here_has_its_claim() -> None:
    assert claims_of(configuration(TEXT), EngineOptions(), ("found",)) == (
        Claim(id="own", cores="auto"),
        Claim(id="list", cores="0-3", numa=0),
        Claim(id="free"),
        Claim(id="run"),
        Claim(id="found"),
    )


def test_the_general_wish_is_that_of_all_that_have_none() -> None:
    found = claims_of(configuration(TEXT), EngineOptions(cores="auto"), ("found",))
    assert [claim.id for claim in found if claim.is_auto] == ["own", "free", "found"]


GROUPS = """
models: {a: {cmd: x, proxy: http://h}, b: {cmd: x, proxy: http://h}, c: {cmd: x, proxy: http://h}}
groups:
"""


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("server: {}\n" + GROUPS.replace("groups:", ""), {"ab", "ac", "bc"}),  # memory decides
        (GROUPS + "  g: {members: [a, b]}", set()),
        (GROUPS + "  g: {members: [a, b], swap: false}", {"ab"}),
        (GROUPS + "  g: {members: [a, b], swap: false, persistent: true, exclusive: false}", {"ab", "ac", "bc"}),
        (GROUPS + "  g: {members: [a], exclusive: false}", {"ab", "ac"}),  # it comes beside those that are in
        (GROUPS.replace("groups:", "matrix: {sets: {s: a & (b | c)}}"), {"ab", "ac"}),
    ],
)
def test_who_may_meet_is_what_the_rule_allows_in_any_order(text: str, met: set[str]) -> None:
    beside = meeting(configuration(text).rule)
    assert {one + other for one in "abc" for other in "abc" if one < other and beside(one, other)} == met
    assert all(beside(one, other) == beside(other, one) for one in "abc" for other in "abc" if one != other)


def test_what_there_is_to_know_of_shares_is_told() -> None:
    claims = (Claim(id="a", cores="auto"), Claim(id="b", cores="auto"), Claim(id="c"), Claim(id="d"))
    shares = {"a": Allotment(cpus=(0,)), "b": Allotment(refusal="none is left")}
    roams = "kept to no cores and may run on those that others were given"
    first, second = allotment_problems(claims, shares, lambda one, other: True)
    assert first == "b: none is left"
    assert second.startswith(f"c, d are {roams}; cores keeps a model to some")
    assert allotment_problems(claims[:3], shares, lambda one, other: True)[1].startswith(f"c is {roams}")
    assert allotment_problems(claims[:2], shares, lambda one, other: True) == ("b: none is left",)
