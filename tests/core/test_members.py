from typing import Any

import pytest

from bercail.core.errors import UsageError
from bercail.core.members import flag, items, member, text, within

BODY: dict[str, Any] = {"a": "x", "b": [1], "c": {"d": 2}, "e": True, "f": 3, "g": None}


def test_what_is_there_in_its_type_is_given_and_what_is_not_is_nothing() -> None:
    assert (text(BODY, "a"), items(BODY, "b"), within(BODY, "c"), flag(BODY, "e", absent=False)) == (
        "x", [1], {"d": 2}, True,
    )  # fmt: skip
    assert (text(BODY, "z"), items(BODY, "g"), within(BODY, "z"), flag(BODY, "z", absent=True)) == ("", [], {}, True)
    assert member(BODY, "f", int, float) == 3


@pytest.mark.parametrize(
    ("name", "kinds", "words"),
    [
        ("a", (int,), "c.a must be a whole number"),
        ("e", (int, float), "c.e must be a whole number or a number"),
        ("f", (str, list), "c.f must be a text or a list"),
    ],
)
def test_another_type_is_refused_with_the_place(name: str, kinds: tuple[type, ...], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        member(BODY, name, *kinds, at="c.")
    assert refused.value.message == words
