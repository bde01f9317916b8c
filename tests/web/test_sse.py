import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.errors import EngineError
from bercail.web.sse import EVENT_LIMIT_BYTES, Sieve, Splitter, parse, split


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def text(words: str) -> bytes:
    return event({"choices": [{"index": 0, "finish_reason": None, "delta": {"content": words}}]})


def progress(done: int, delta: object = None) -> bytes:
    choice = {"index": 0, "finish_reason": None, "delta": delta or {"role": "assistant", "content": None}}
    return event({"choices": [choice], "prompt_progress": {"total": 9, "processed": done}})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
DONE = b"data: [DONE]\n\n"
pieces = st.lists(st.sampled_from([text("a"), text('"prompt_progress":'), text('data: {"error"'), text("\n\n"), ROLE]))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in pairwise(places)]


@given(pieces, st.lists(st.integers(0, 10_000), max_size=30))
def test_every_byte_passes_in_whole_events_however_it_was_cut(events: list[bytes], at: list[int]) -> None:
    sieve = Sieve(drop_progress=True)
    found = [sieve.feed(chunk) for chunk in cut(b"".join(events), at)]
    assert b"".join(piece for piece, _ in found) == b"".join(events)
    assert all(piece.endswith(b"\n\n") or not piece for piece, _ in found)
    assert all(error is None for _, error in found)


@given(st.lists(st.sampled_from([progress(1), progress(5), text("a"), ROLE, DONE, b":\n\n"])),
       st.lists(st.integers(0, 10_000), max_size=30))  # fmt: skip
def test_progress_is_held_back_wherever_it_comes(events: list[bytes], at: list[int]) -> None:
    sieve = Sieve(drop_progress=True)
    found = b"".join(sieve.feed(chunk)[0] for chunk in cut(b"".join(events), at))
    kept = [one for one in split(found) if not one.startswith(b":")]
    assert kept == [one.rstrip() for one in events if b"prompt_progress" not in one and one != b":\n\n"]


@given(
    st.lists(st.sampled_from([text("a"), text('data: {"error"'), ROLE, progress(3), DONE, event({"error": {}})])),
    st.lists(st.integers(0, 10_000), max_size=30),
    st.booleans(),
)
def test_what_passes_is_what_would_be_handed_on_as_it_is(events: list[bytes], at: list[int], drop: bool) -> None:
    sieve = Sieve(drop_progress=drop)
    for chunk in cut(b"".join([text("first"), *events]), at):
        passes = sieve.passes(chunk)
        found = sieve.feed(chunk)
        assert not passes or (found == (chunk, None) and not chunk.endswith(DONE))


def test_a_token_in_the_middle_of_a_stream_passes() -> None:
    sieve = Sieve(drop_progress=True)
    assert not sieve.passes(text("a")), "what comes before it is held back"
    sieve.feed(text("a"))
    assert sieve.passes(text("b") + text("c"))
    assert not sieve.passes(text("b")[:-1]), "it is not whole"


def test_comments_before_the_first_event_are_no_answer_and_pass_later() -> None:
    sieve = Sieve(drop_progress=True)
    assert sieve.feed(b":\n\n" + progress(3)) == (b"", None)
    assert sieve.feed(text("a") + b":\n\n") == (text("a") + b":\n\n", None)
    assert sieve.feed(b":\n\n") == (b":\n\n", None)


def test_progress_passes_to_a_client_that_asked_for_it() -> None:
    sieve = Sieve(drop_progress=False)
    assert sieve.feed(progress(3)) == (progress(3), None)
    assert sieve.begun


def test_text_that_comes_with_progress_is_not_lost() -> None:
    events, _ = Sieve(drop_progress=True).feed(progress(3, {"content": "early"}))
    [found] = [parse(one) for one in split(events)]
    assert found == {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": "early"}}]}


def test_an_error_event_is_taken_out_with_what_came_before_it() -> None:
    sieve = Sieve(drop_progress=True)
    error = {"error": {"message": "broke", "code": 500}}
    assert sieve.feed(text("a")) == (text("a"), None)
    assert sieve.feed(text("b") + event(error) + text("c")) == (text("b"), error)


def test_an_error_may_be_the_first_event() -> None:
    error = {"error": {"message": "broke"}}
    assert Sieve(drop_progress=True).feed(progress(1) + event(error)) == (b"", error)


def test_carriage_returns_end_events_too() -> None:
    sieve = Sieve(drop_progress=True)
    assert sieve.feed(b"data: 1\r\n\r\ndata: 2\r\n") == (b"data: 1\n\n", None)
    assert sieve.feed(b"\r\n") == (b"data: 2\r\n\r\n", None)


def test_an_endless_event_is_given_up() -> None:
    splitter = Splitter()
    with pytest.raises(EngineError, match="event of more than"):
        splitter.feed(b"x" * (EVENT_LIMIT_BYTES + 1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'data: {"a":1}', {"a": 1}),
        (b'data:{"a":1}', {"a": 1}),
        (b'event: x\ndata: {"a":\ndata: 1}', {"a": 1}),
        (b"data: [DONE]", b"[DONE]"),
        (b"data: [1]", b"[1]"),
        (b"data: \xff", b"\xff"),
        (b": comment", None),
        (b"id: 4", None),
    ],
)
def test_data_of_an_event_is_read_as_the_standard_says(raw: bytes, expected: object) -> None:
    assert parse(raw) == expected
