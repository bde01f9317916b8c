from typing import Any

import pytest

from bercail.core.errors import EngineError
from bercail.core.responses_reply import Reply, response

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
COUNTS = {
    "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 12,
}  # fmt: skip


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": 7, "choices": [{"index": 0, "finish_reason": finish, "delta": said}]}


def call(at: int | None, arguments: str = "", name: str | None = None) -> dict[str, Any]:
    named = {"id": f"t{at}", "type": "function"} if name else {}
    function = ({"name": name} if name else {}) | {"arguments": arguments}
    return delta(tool_calls=[{"index": at, "function": function} | named])


LAST: dict[str, Any] = {"choices": [], "usage": USAGE}


def told(*chunks: dict[str, Any], **echo: Any) -> list[Any]:
    reply = Reply(model="tiny", echo=echo)
    events = [event for chunk in chunks for event in reply.take(chunk)] + reply.end()
    assert [event.pop("sequence_number") for event in events] == list(range(len(events)))
    return events


def at(index: int, prefix: str) -> dict[str, Any]:
    return {"item_id": f"{prefix}_1_{index}", "output_index": index}


def test_items_follow_one_another_between_the_beginning_of_a_response_and_its_end() -> None:
    events = told(
        delta(role="assistant", content=None) | {"prompt_progress": {"total": 9}},
        delta(reasoning_content="h"),
        delta(reasoning_content="m"),
        delta(content="so"),
        delta(content=""),
        call(0, '{"a"', "f"),
        call(0, ":1}"),
        call(1, "", "g"),
        delta("tool_calls"),
        LAST,
    )
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    first, last = events[0]["response"], events[-1]["response"]
    known = {"id": "resp_1", "object": "response", "created_at": 7, "model": "tiny", "error": None}
    assert (known | {"status": "in_progress", "output": [], "usage": None}).items() <= first.items()
    assert (last["status"], last["incomplete_details"], last["usage"]) == ("completed", None, COUNTS)
    thought = {"type": "reasoning_text", "text": "hm"}
    said = {"type": "output_text", "text": "so", "annotations": [], "logprobs": []}
    done = {"status": "completed"}
    assert last["output"] == [
        {"id": "rs_1_0", "type": "reasoning", "summary": [], "content": [thought]} | done,
        {"id": "msg_1_1", "type": "message", "role": "assistant", "content": [said]} | done,
        {"id": "fc_1_2", "type": "function_call", "call_id": "t0", "name": "f", "arguments": '{"a":1}'} | done,
        {"id": "fc_1_3", "type": "function_call", "call_id": "t1", "name": "g", "arguments": ""} | done,
    ]
    begun = {"id": "msg_1_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    assert events[9:15] == [
        {"type": "response.output_item.added", "output_index": 1, "item": begun},
        {"type": "response.content_part.added", "content_index": 0, "part": said | {"text": ""}} | at(1, "msg"),
        {"type": "response.output_text.delta", "content_index": 0, "delta": "so", "logprobs": []} | at(1, "msg"),
        {"type": "response.output_text.done", "content_index": 0, "text": "so", "logprobs": []} | at(1, "msg"),
        {"type": "response.content_part.done", "content_index": 0, "part": said} | at(1, "msg"),
        {"type": "response.output_item.done", "output_index": 1, "item": last["output"][1]},
    ]
    assert events[15]["item"] | {"arguments": '{"a":1}'} | done == last["output"][2]
    assert events[18] == {
        "type": "response.function_call_arguments.done", "name": "f", "arguments": '{"a":1}',
    } | at(2, "fc")  # fmt: skip


@pytest.mark.parametrize(
    ("finish", "status", "details"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_an_answer_that_was_cut_is_not_called_complete(finish: str, status: str, details: Any) -> None:
    last = told(delta(content="a"), delta(finish), LAST)[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (f"response.{status}", details)
    assert [last["response"]["status"], last["response"]["output"][0]["status"]] == [status, status]


def test_words_from_the_middle_are_told_without_reading_a_chunk() -> None:
    reply = Reply(model="tiny")
    assert reply.more(b'"a"') is None
    reply.take(delta(content="a"))
    assert reply.more(rb'"\ud83d"') is None
    assert reply.more(rb'"\n"') == {
        "type": "response.output_text.delta", "sequence_number": 5, "content_index": 0, "delta": "\n", "logprobs": [],
    } | at(0, "msg")  # fmt: skip
    reply.take(delta("stop"))
    reply.take(LAST)
    assert (reply.is_finished, reply.counts()) == (True, USAGE)
    assert reply.end()[0]["text"] == "a\n"
    assert reply.more(b'"a"') is None


def test_a_response_that_breaks_off_has_failed_with_what_there_is_of_it() -> None:
    reply = Reply(model="tiny")
    reply.take(delta(content="a"))
    made: Any = reply.fail("engine", "it died")
    assert (made["type"], made["sequence_number"], reply.number) == ("response.failed", 5, 6)
    assert (made["response"]["status"], made["response"]["error"]) == (
        "failed",
        {"code": "engine", "message": "it died"},
    )
    assert [item["type"] for item in made["response"]["output"]] == ["message"]


def test_the_answer_repeats_what_of_the_request_it_is_given() -> None:
    last = told(delta(content="a"), delta("stop"), LAST, temperature=0.5, metadata={"a": "b"})[-1]["response"]
    assert (last["temperature"], last["metadata"], last["top_p"]) == (0.5, {"a": "b"}, None)


def test_one_answer_is_the_response_that_its_stream_would_end_with() -> None:
    calls = [{"id": "t0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    said = {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": calls}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": said}
    made = response({"id": "chatcmpl-1", "created": 7, "choices": [choice], "usage": USAGE}, "tiny", {"user": "u"})
    streamed = told(
        delta(reasoning_content="hm"), delta(content="so"), call(0, "{}", "f"), delta("tool_calls"), LAST, user="u"
    )
    assert made == streamed[-1]["response"]


def test_thought_tokens_are_those_that_the_engine_tells() -> None:
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 2}}
    last = told(delta(content="a"), delta("stop"), {"usage": usage})[-1]
    assert last["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_calls_without_a_number_or_a_name_of_their_own_get_one() -> None:
    function = {"function": {"name": "f", "arguments": "{}"}}
    last = told(delta(tool_calls=[function, function, "x"]), delta("tool_calls"))[-1]["response"]
    assert [item["call_id"] for item in last["output"]] == ["call_1_0", "call_1_1"]
    assert last["usage"] is None


@pytest.mark.parametrize(
    "chunks",
    [[call(0, "{}")], [call(1, "", "f"), call(0, "", "g")], [call(0, "", "f"), delta(content="a"), call(0, "{}")]],
)
def test_an_engine_that_goes_on_with_a_call_that_has_ended_is_refused(chunks: list[dict[str, Any]]) -> None:
    with pytest.raises(EngineError, match="has ended, or has no name"):
        told(*chunks)


def test_an_answer_of_nothing_is_still_a_response() -> None:
    events = told({"id": 3, "choices": "x"}, {"choices": [{"finish_reason": "stop"}]})
    assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
    assert events[-1]["response"]["id"] == "resp_"
    assert response({}, "tiny", {})["output"] == []
