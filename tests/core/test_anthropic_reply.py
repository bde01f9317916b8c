from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.anthropic_reply import Reply, message
from bercail.core.errors import EngineError

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
COUNTS = {
    "input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3,
}  # fmt: skip


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "finish_reason": finish, "delta": said}]}


def call(at: int, arguments: str = "", name: str | None = None) -> dict[str, Any]:
    named = {"id": f"t{at}", "type": "function"} if name else {}
    function = ({"name": name} if name else {}) | {"arguments": arguments}
    return delta(tool_calls=[{"index": at, "function": function} | named])


LAST = [{"choices": [], "usage": USAGE}]


def told(*chunks: dict[str, Any], stops: tuple[str, ...] = ()) -> list[Any]:
    reply = Reply(model="tiny", stops=stops)
    return [event for chunk in chunks for event in reply.take(chunk)] + reply.end()


def block(at: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": at, "content_block": begin},
        *({"type": "content_block_delta", "index": at, "delta": one} for one in deltas),
        {"type": "content_block_stop", "index": at},
    ]


@pytest.mark.parametrize(
    ("chunks", "input_tokens"),
    [
        ((delta(content="a") | {"usage": USAGE}, delta("stop"), *LAST), 5),
        ((delta(content="a") | {"prompt_progress": {"total": 9, "cache": 4}}, delta("stop"), *LAST), 5),
        ((delta("stop") | {"usage": USAGE},), 5),
        ((delta(content="a"), delta("stop"), *LAST), 0),
    ],
)
def test_a_message_begins_with_the_length_of_its_prompt_if_that_is_told_and_ends_with_it_in_any_case(
    chunks: tuple[dict[str, Any], ...], input_tokens: int
) -> None:
    events = told(*chunks)
    begin = events[0]["message"]["usage"]
    assert (begin["input_tokens"], begin["output_tokens"]) == (input_tokens, 0)
    assert events[-2]["usage"] == COUNTS


def test_blocks_follow_one_another_between_the_beginning_of_a_message_and_its_end() -> None:
    events = told(
        delta(role="assistant", content=None) | {"prompt_progress": {"total": 9, "cache": 4, "processed": 9}},
        delta(reasoning_content="h"),
        delta(reasoning_content="m"),
        delta(content="so"),
        delta(content=""),
        call(0, '{"a"', "f"),
        call(0, ":1}"),
        call(1, "", "g"),
        delta("tool_calls"),
        *LAST,
    )
    usage = COUNTS | {"output_tokens": 0}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "tiny", "content": []}
    assert events == [
        {"type": "message_start", "message": head | {"stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "h"},
            {"type": "thinking_delta", "thinking": "m"},
            {"type": "signature_delta", "signature": ""},
        ),
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "so"}),
        *block(
            2,
            {"type": "tool_use", "id": "t0", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a"'},
            {"type": "input_json_delta", "partial_json": ":1}"},
        ),
        *block(3, {"type": "tool_use", "id": "t1", "name": "g", "input": {}}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": COUNTS},
        {"type": "message_stop"},
    ]


def test_an_answer_without_a_word_is_a_message_all_the_same() -> None:
    """As of tokens that are halves of letters to the last."""
    kinds = [event["type"] for event in told(delta(role="assistant"), delta("length"), *LAST)]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]
    whole = message({"choices": [{"finish_reason": "length", "message": {"content": ""}}], "usage": USAGE}, "tiny", ())
    assert (whole["content"], whole["stop_reason"], whole["usage"]) == ([], "max_tokens", COUNTS)


@pytest.mark.parametrize(
    ("finish", "word", "reason", "sequence"),
    [
        ("stop", None, "end_turn", None),
        ("stop", "###", "stop_sequence", "###"),
        ("stop", "<|im_end|>", "end_turn", None),
        ("tool_calls", "###", "tool_use", None),
        ("length", None, "max_tokens", None),
        ("content_filter", None, "refusal", None),
        ("odd", None, "end_turn", None),
    ],
)
def test_why_an_answer_ended_is_told_alike_whole_and_streamed(
    finish: str, word: str | None, reason: str, sequence: str | None
) -> None:
    verbose = {"__verbose": {"stopping_word": word}} if word else {}
    last = told(delta(content="a"), delta(finish) | verbose, stops=("###",))[-2]
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    answer: dict[str, Any] = {"choices": [{"finish_reason": finish, "message": {"content": "a"}}]} | verbose
    whole = message(answer, "tiny", ("###",))
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)


def test_a_whole_answer_has_the_same_blocks() -> None:
    calls = [{"id": "t", "function": {"name": "f", "arguments": '{"a":1}'}}, {"function": {"name": "g"}}]
    said = {"reasoning_content": "hm", "content": "so", "tool_calls": calls}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "choices": [{"finish_reason": "tool_calls", "message": said}],
        "usage": USAGE,
    }
    assert message(answer, "tiny", ()) == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "tiny",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_1_1", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": None, "usage": COUNTS,
    }  # fmt: skip
    assert message({}, "tiny", ())["content"] == []


def test_an_engine_that_counts_nothing_is_believed_as_far_as_it_tells() -> None:
    usage = told(delta(content="a"), delta("stop"))[-2]["usage"]
    assert usage == {
        "input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
    }  # fmt: skip


def test_a_call_without_a_number_is_the_next_one_and_one_without_an_id_gets_one() -> None:
    first = delta(tool_calls=[{"function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}}, 5])
    second = delta(tool_calls=[{"function": {"name": "g"}}])
    events = told(first, second, delta("tool_calls"))
    begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [(one["id"], one["name"]) for one in begun] == [("toolu_1_0", "f"), ("toolu_1_1", "g")]
    parts = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert parts == ["{", "}"]


@pytest.mark.parametrize(
    "chunks",
    [
        [call(0, "{", "f"), call(1, "{", "g"), call(0, "}")],
        [call(0, "{", "f"), delta(content="x"), call(0, "}")],
        [call(0, "{}")],
    ],
)
def test_a_call_that_cannot_be_told_in_order_is_an_error_not_a_loss(chunks: list[dict[str, Any]]) -> None:
    with pytest.raises(EngineError, match="tool call") as refused:
        told(*chunks)
    assert refused.value.code == "engine_event"


def test_the_end_is_known_by_its_reason() -> None:
    reply = Reply(model="tiny")
    reply.take(delta(content="a"))
    assert (reply.begun, reply.is_finished, reply.counts()) == (True, False, {})
    reply.take(delta("stop") | {"usage": USAGE})
    assert (reply.is_finished, reply.counts()) == (True, USAGE)


CALL = st.fixed_dictionaries(
    {}, optional={"index": st.integers(0, 2), "id": st.just("t"), "function": st.sampled_from([{}, {"name": "f"}, 5])}
)
DELTA = st.dictionaries(
    st.sampled_from(["content", "reasoning_content", "tool_calls"]), st.one_of(st.text(max_size=2), st.lists(CALL))
)
CHUNK = st.fixed_dictionaries(
    {}, optional={
        "id": st.sampled_from(["a", 5]), "usage": st.sampled_from([USAGE, 5, {}]),
        "choices": st.one_of(st.none(), st.just([]), st.lists(st.fixed_dictionaries({"delta": DELTA}), min_size=1)),
        "prompt_progress": st.sampled_from([{"total": 3}, 5]),
    },
)  # fmt: skip


@given(st.lists(CHUNK))
def test_every_stream_is_one_message_with_blocks_that_do_not_overlap(chunks: list[dict[str, Any]]) -> None:
    with suppress(EngineError):
        events = told(*chunks)
        kinds = [event["type"] for event in events if event["type"] != "content_block_delta"]
        assert kinds[:2] == ["message_start", "ping"]
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds[2:-2] == ["content_block_start", "content_block_stop"] * ((len(kinds) - 4) // 2)
        assert [event["index"] for event in events if event["type"] == "content_block_stop"] == list(
            range((len(kinds) - 4) // 2)
        )
