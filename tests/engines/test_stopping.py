"""Stop strings in text that comes in pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.engines.stopping import Tail


def through(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """All that comes out, and whether it was stopped."""
    tail, out = Tail(stops), ""
    for piece in pieces:
        certain, stopped = tail.feed(piece)
        out += certain
        if stopped:
            return out, True
    return out + tail.end(), False


@pytest.mark.parametrize(
    ("pieces", "stops", "out", "stopped"),
    [
        (["Hello", " world"], [], "Hello world", False),
        (["Hello wo", "rld"], ["world"], "Hello ", True),
        (["a", "b", "a", "b", "c", "d"], ["abc"], "ab", True),
        (["end: <", "/s", "> more"], ["</s>", "more"], "end: ", True),
        (["almost <", "/s"], ["</s>"], "almost </s", False),
    ],
)
def test_what_comes_out(pieces: list[str], stops: list[str], out: str, stopped: bool) -> None:
    assert through(pieces, stops) == (out, stopped)


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=2), st.data())
def test_pieces_of_any_size_come_to_the_same_as_the_whole(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
    out, stopped = through(pieces, stops)
    places = [text.find(stop) for stop in stops if stop in text]
    assert stopped == bool(places)
    if places:
        assert text.startswith(out)
        assert not any(stop in out for stop in stops)
    else:
        assert out == text
