"""Aliases that are meant for many names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.pattern import is_pattern, meant_by, rival

PATTERNS = {"claude-*": "big", "claude-haiku-*": "small", "*-mini": "tiny", "gpt-*-turbo*": "chat"}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-opus-4-5", "big"),
        ("claude-haiku-4-5-20251001", "small"),
        ("claude-", "big"),
        ("claude-mini", "big"),
        ("gpt-4o-mini", "tiny"),
        ("gpt-3.5-turbo-0125", "chat"),
        ("gpt-4o", None),
        ("xclaude-opus", None),
        ("Claude-opus", None),
        ("claude", None),
    ],
)
def test_the_pattern_that_tells_most_letters_counts(name: str, model: str | None) -> None:
    assert meant_by(name, PATTERNS) == model


def test_a_pattern_is_known_by_its_star() -> None:
    assert is_pattern("claude-*")
    assert not is_pattern("claude-opus")
    assert meant_by("a.b", {"a?b*": "x", "a.*": "y"}) == "y", "nothing else has a meaning of its own"


@pytest.mark.parametrize(
    ("one", "others", "found"),
    [
        ("claude-*", ["*-claude"], "*-claude"),
        ("a*", ["b*"], ""),
        ("a*", ["*b"], "*b"),
        ("ab*", ["a*"], ""),
        ("a*b", ["ab*", "a**b"], "ab*"),
        ("*", ["**"], "**"),
        ("a*c", ["b*c", "a*d"], ""),
    ],
)
def test_patterns_that_tell_as_much_and_may_both_be_meant_are_rivals(one: str, others: list[str], found: str) -> None:
    assert rival(one, others) == found


def test_a_long_name_costs_no_more_than_reading_it() -> None:
    """Trying every place for every star would never end."""
    name = "a" * 50_000
    assert meant_by(name, {"a*" * 20 + "b": "x"}) is None
    assert meant_by(f"{name}b", {"a*" * 20 + "b": "x"}) == "x"


LETTERS = st.text("ab*", min_size=1, max_size=6)


@given(LETTERS.filter(is_pattern), st.text("ab", max_size=8))
def test_a_star_stands_for_any_letters(pattern: str, name: str) -> None:
    expected = re.fullmatch(pattern.replace("*", "[ab]*"), name) is not None
    assert (meant_by(name, {pattern: "x"}) == "x") == expected


@given(LETTERS, LETTERS, st.text("ab", max_size=6))
def test_no_name_means_two_models_unless_their_patterns_are_rivals(one: str, other: str, name: str) -> None:
    def matches(pattern: str) -> bool:
        return re.fullmatch(pattern.replace("*", "[ab]*"), name) is not None

    both = matches(one) and matches(other) and len(one.replace("*", "")) == len(other.replace("*", ""))
    assert not both or rival(one, [other]) == other
