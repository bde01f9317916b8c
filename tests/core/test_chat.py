import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.chat import (
    LOG_LINES,
    ApiError,
    Ask,
    Endpoint,
    Json,
    Way,
    engine_refusal,
    error_from,
    forwarded,
    named,
    splice,
)
from bercail.core.errors import EngineError, RefusedError
from bercail.core.fold import Fold


def ask(endpoint: Endpoint = Endpoint.CHAT, **changes: Any) -> Ask:
    return Ask(endpoint=endpoint, model="m", **changes)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"a":1}'),
        (b"{ \n}", b'{ \n"a":1}'),
        (b'{"b":2}', b'{"b":2,"a":1}'),
        (b' {"b":{"c":"}"}}\r\n\t', b' {"b":{"c":"}"},"a":1}'),
        (b'{"b":"x" }  ', b'{"b":"x" ,"a":1}'),
    ],
)
def test_splice_adds_members_and_leaves_the_rest_as_it_is(body: bytes, expected: bytes) -> None:
    assert splice(body, b'"a":1') == expected


members = st.dictionaries(
    st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=4
)


@given(members, st.sampled_from(["", " ", "\n", "\r\n\t "]), st.sampled_from([None, 2]))
def test_an_addition_overrules_whatever_was_there(found: Json, space: str, indent: int | None) -> None:
    body = (space + json.dumps(found, indent=indent) + space).encode()
    assert json.loads(splice(body, b'"stream":true')) == found | {"stream": True}


@pytest.mark.parametrize(
    ("asked", "way", "added"),
    [
        (ask(stream=True), Way.STREAM, b',"return_progress":true}'),
        (ask(stream=True, wants_progress=True), Way.STREAM, b"}"),
        (ask(), Way.FOLD, b',"stream":true,"return_progress":true,"stream_options":{"include_usage":true}}'),
        (ask(token_details=True), Way.WHOLE, b"}"),
        (ask(stream=True, token_details=True), Way.STREAM, b',"return_progress":true}'),
        (ask(Endpoint.EMBEDDINGS), Way.WHOLE, b"}"),
        (ask(Endpoint.EMBEDDINGS, stream=True), Way.WHOLE, b"}"),
    ],
)
def test_the_engine_is_asked_for_a_stream_with_progress_wherever_its_answer_can_be_folded(
    asked: Ask, way: Way, added: bytes
) -> None:
    assert asked.way is way
    assert forwarded(b'{"x":1}', asked) == b'{"x":1' + added


OVERFLOW = {
    "code": 400,
    "message": "request (2102 tokens) exceeds the available context size (512 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 2102,
    "n_ctx": 512,
}


@pytest.mark.parametrize("left_out", [(), ("n_prompt_tokens", "n_ctx"), ("n_ctx",)])
def test_an_overflow_is_told_in_both_wordings_that_agents_match(left_out: tuple[str, ...]) -> None:
    error = engine_refusal(400, {"error": {name: v for name, v in OVERFLOW.items() if name not in left_out}})
    assert error.status == 400
    body = error.body()["error"]
    assert isinstance(body, dict)
    assert body["code"] == "context_length_exceeded"
    assert body["type"] == "invalid_request_error"
    assert (body["n_prompt_tokens"], body["n_ctx"]) == (2102, 512)
    assert "This model's maximum context length is 512 tokens. However, you requested 2102 tokens" in error.message
    assert "request (2102 tokens) exceeds the available context size (512 tokens)" in error.message


@pytest.mark.parametrize(
    ("message", "place", "counts"),
    [
        (
            "input (8002 tokens) is too large to process. increase the physical batch size (current batch size: 256)",
            "", (8002, 256),
        ),
        ("input 3: request (65 tokens) exceeds the available context size (64 tokens)", "input 3: ", (65, 64)),
    ],
)  # fmt: skip
def test_a_text_to_embed_that_is_too_long_is_an_overflow_with_its_place(
    message: str, place: str, counts: tuple[int, int]
) -> None:
    """Whatever the engine calls it: llama.cpp says 500 and server_error."""
    kind = "exceed_context_size_error" if place else "server_error"
    error = engine_refusal(500, {"error": {"code": 500, "message": message, "type": kind}})
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert error.message.startswith(f"{place}This model's maximum context length is {counts[1]} tokens")
    assert error.extra == {"n_prompt_tokens": counts[0], "n_ctx": counts[1]}


def test_an_overflow_without_counts_keeps_the_engines_words() -> None:
    error = engine_refusal(200, {"error": {"type": "exceed_context_size_error", "message": "too long"}})
    assert (error.status, error.code, error.message) == (400, "context_length_exceeded", "too long")


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, {"error": {"code": 400, "message": "no", "type": "x"}}, (400, "no", "x", None)),
        (
            200,
            {"error": {"code": 500, "message": "broke", "type": "server_error"}},
            (500, "broke", "server_error", None),
        ),
        (200, {"error": {"message": "broke"}}, (502, "broke", "server_error", None)),
        (404, {"error": {"message": "no", "code": "gone"}}, (404, "no", "invalid_request_error", "gone")),
        (503, {"error": "loading"}, (503, "loading", "unavailable_error", None)),
        (
            400,
            {"error": {"code": True, "type": None}},
            (400, "the engine gave no reason", "invalid_request_error", None),
        ),
    ],
)
def test_an_engines_error_keeps_its_words_and_its_status(
    status: int, answer: object, expected: tuple[int, str, str, str | None]
) -> None:
    error = engine_refusal(status, answer)
    assert (error.status, error.message, error.kind, error.code) == expected


@pytest.mark.parametrize(
    ("said", "param", "words"),
    [
        (
            "Field 'top_k': [json.exception.type_error.302] type must be number, but is string",
            "top_k", "top_k: a number was expected, not a text",
        ),
        ("Field 'n': Value must be between 1 <= value <= 4", "n", "n: Value must be between 1 <= value <= 4"),
        (
            "[json.exception.type_error.302] type must be string, but is null",
            None, "a member of the request: a text was expected, not null",
        ),
        (
            "Failed to parse messages: Missing 'role' in message: {}\n",
            "messages", "messages: Missing 'role' in message: {}",
        ),
    ],
)  # fmt: skip
def test_a_member_that_the_engine_cannot_read_is_named_and_is_the_clients_fault(
    said: str, param: str | None, words: str
) -> None:
    error = engine_refusal(500, {"error": {"code": 500, "message": said, "type": "server_error"}})
    assert (error.status, error.kind, error.param, error.message) == (400, "invalid_request_error", param, words)


@pytest.mark.parametrize(("answer", "text"), [(None, "<html>"), ([], ""), ({"detail": "x"}, "")])
def test_an_answer_of_no_known_shape_is_an_error_of_the_engine(answer: object, text: str) -> None:
    error = engine_refusal(302, answer, text)
    assert error.status == 502
    assert "status 302" in error.message
    assert text in error.message


def test_an_error_of_ours_carries_its_hint_and_the_last_lines_of_the_log() -> None:
    tail = tuple(f"line {number}" for number in range(40))
    error = error_from(EngineError("it died", hint="look", code="engine_died", log_tail=tail), 502)
    assert error.body() == {
        "error": {
            "message": "it died: look", "type": "server_error", "param": None, "code": "engine_died",
            "log_tail": list(tail[-LOG_LINES:]),
        }
    }  # fmt: skip
    assert "log_tail" not in str(error_from(RefusedError("too big"), 503).body())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(422, "invalid_request_error"), (409, "invalid_request_error"), (500, "server_error"), (504, "server_error")],
)
def test_only_what_the_server_fails_at_is_called_an_error_of_the_server(status: int, kind: str) -> None:
    assert error_from(RefusedError("no"), status).kind == kind


def test_an_api_error_has_openais_members_even_if_they_are_unknown() -> None:
    assert ApiError(status=400, message="m").body() == {
        "error": {"message": "m", "type": "invalid_request_error", "param": None, "code": None}
    }


def chat_chunk(delta: Json, *, index: int = 0, finish: str | None = None, **more: object) -> Json:
    choice: Json = {"finish_reason": finish, "index": index, "delta": delta}
    return {"choices": [choice], "created": 5, "id": "c1", "model": "m", "object": "chat.completion.chunk", **more}


def folded(chunks: list[Json], endpoint: Endpoint = Endpoint.CHAT, *, choices: int = 1) -> dict[str, Any]:
    fold = Fold(endpoint, choices_per_prompt=choices)
    for chunk in chunks:
        assert not fold.complete
        fold.add(chunk)
    assert fold.complete
    return fold.answer()


USAGE: Json = {"completion_tokens": 2, "prompt_tokens": 3, "total_tokens": 5}


def test_a_chat_folds_into_what_the_engine_answers_without_streaming() -> None:
    fold = Fold(Endpoint.CHAT)
    chunks: list[Json] = [
        chat_chunk({"role": "assistant", "content": None}, prompt_progress={"total": 3}),
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk({"reasoning_content": "hm"}),
        chat_chunk({"content": "Hel"}),
        chat_chunk({"content": "lo"}),
        chat_chunk({}, finish="stop"),
        {"choices": [], "id": "c1", "usage": USAGE, "timings": {"predicted_n": 2}},
    ]
    for chunk in chunks:
        fold.add(chunk)
    assert fold.complete
    assert fold.answer() == {
        "choices": [
            {
                "finish_reason": "stop", "index": 0,
                "message": {"role": "assistant", "content": "Hello", "reasoning_content": "hm"},
            }
        ],
        "created": 5, "id": "c1", "model": "m", "object": "chat.completion", "usage": USAGE,
        "timings": {"predicted_n": 2},
    }  # fmt: skip


def test_tool_calls_grow_by_their_index() -> None:
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "get"}}
    second = {"index": 1, "id": "b", "type": "function", "function": {"name": "put", "arguments": "{"}}
    answer = folded([
        chat_chunk({"tool_calls": [first]}),
        chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"q":'}}]}),
        chat_chunk({"tool_calls": [second]}),
        chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chat_chunk({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}),
        chat_chunk({}, finish="tool_calls"),
    ])  # fmt: skip
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get", "arguments": '{"q":1}'}},
            {"id": "b", "type": "function", "function": {"name": "put", "arguments": "{}"}},
        ],
    }


def test_the_old_function_call_a_refusal_and_unknown_members_survive() -> None:
    answer = folded([
        chat_chunk({"function_call": {"name": "f", "arguments": "{"}, "refusal": "I"}),
        chat_chunk({"function_call": {"arguments": "}"}, "refusal": " won't", "audio": {"id": 1}}),
        chat_chunk({}, finish="function_call", service_tier="x"),
    ])  # fmt: skip
    [choice] = answer["choices"]
    assert choice["message"] == {
        "role": "assistant", "content": "", "refusal": "I won't", "audio": {"id": 1},
        "function_call": {"name": "f", "arguments": "{}"},
    }  # fmt: skip
    assert answer["service_tier"] == "x"


def test_log_probabilities_are_joined_token_by_token() -> None:
    answer = folded([
        chat_chunk({"content": "a"}) | {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [1]}}]},
        {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [2, 3], "refusal": None}}]},
        {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]},
    ])  # fmt: skip
    [choice] = answer["choices"]
    assert choice["logprobs"] == {"content": [1, 2, 3], "refusal": None}


def completion_chunk(text: str, index: int, finish: str | None = None, **more: object) -> Json:
    return {"choices": [{"text": text, "index": index, "logprobs": None, "finish_reason": finish}], **more}


def test_completions_of_several_prompts_and_choices_keep_their_order_and_count_each_prompt_once() -> None:
    fold = Fold(Endpoint.COMPLETION, choices_per_prompt=2)
    details: Json = {"cached_tokens": 4}
    for index in (1, 0, 3, 2):
        fold.add(completion_chunk(f"t{index}", index))
    for index in (3, 2, 0, 1):
        usage: Json = {"completion_tokens": 10, "prompt_tokens": 3 + index // 2, "prompt_tokens_details": details}
        fold.add(completion_chunk("", index, "length", usage=usage, timings={"of": index}))
    answer: dict[str, Any] = fold.answer()
    assert fold.complete
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (0, "t0"), (1, "t1"), (2, "t2"), (3, "t3"),
    ]  # fmt: skip
    assert answer["object"] == "text_completion"
    assert answer["timings"] == {"of": 0}
    assert answer["usage"] == {
        "completion_tokens": 40, "prompt_tokens": 7, "total_tokens": 47, "prompt_tokens_details": {"cached_tokens": 8},
    }  # fmt: skip


def test_an_answer_is_complete_only_when_every_choice_has_ended() -> None:
    fold = Fold(Endpoint.COMPLETION)
    assert not fold.complete
    fold.add(completion_chunk("a", 0, "stop"))
    fold.add(completion_chunk("b", 1))
    assert not fold.complete
    fold.add(completion_chunk("", 1, "stop"))
    assert fold.complete


@given(st.lists(st.tuples(st.sampled_from(["content", "reasoning_content"]), st.text(max_size=4)), max_size=20))
def test_no_text_is_lost_however_it_was_cut(deltas: list[tuple[str, str]]) -> None:
    chunks = [chat_chunk({name: text}) for name, text in deltas]
    answer = folded([*chunks, chat_chunk({}, finish="stop")])
    [choice] = answer["choices"]
    for wanted in ("content", "reasoning_content"):
        assert choice["message"].get(wanted, "") == "".join(text for name, text in deltas if name == wanted)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) |
       st.dictionaries(st.sampled_from(["choices", "delta", "index", "tool_calls", "function", "usage", "logprobs",
                                        "finish_reason", "content", "timings"]), inner, max_size=4)))  # fmt: skip
def test_chunks_of_any_shape_do_no_harm(chunk: object) -> None:
    fold = Fold(Endpoint.CHAT)
    if isinstance(chunk, dict):
        fold.add(chunk)
        fold.add(chunk)
    assert fold.answer()["object"] == "chat.completion"


RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "web" / "llama_cpp_answers.json").read_text())["cases"]


def bare(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from one run to the next."""
    for choice in answer["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            call["id"] = ""
    return {name: value for name, value in answer.items() if name not in ("id", "created", "timings")}


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_a_recorded_stream_folds_into_the_answer_that_llama_cpp_gave_without_streaming(case: dict[str, Any]) -> None:
    fold = Fold(Endpoint(case["endpoint"]), choices_per_prompt=case["choices_per_prompt"])
    for chunk in case["stream"]:
        fold.add(chunk)
    assert fold.complete
    made, whole = fold.answer(), case["whole"]
    assert isinstance(made["timings"], dict)
    assert made["timings"].keys() == whole["timings"].keys()
    if len(whole["choices"]) > 1:
        # The engine counts the first of several choices only; we count all of them.
        ours, theirs = made["usage"], whole["usage"]
        assert isinstance(ours, dict)
        assert ours["completion_tokens"] == theirs["completion_tokens"] * len(whole["choices"])
        made["usage"] = theirs
    assert bare(made) == bare(whole)


def test_members_an_engine_adds_are_kept_and_nonsense_is_passed_over() -> None:
    fold = Fold(Endpoint.COMPLETION)
    fold.add({"choices": [{"index": 0, "text": "a", "finish_reason": None, "stop_type": "none"}]})
    fold.add({"choices": [3, {"index": 0, "text": 7, "finish_reason": "stop"}], "usage": "none"})
    (choice,) = cast("list[dict[str, object]]", fold.answer()["choices"])
    assert (choice["finish_reason"], choice["stop_type"]) == ("stop", "none")
    chat = Fold(Endpoint.CHAT)
    chat.add({"choices": [{"index": 0, "delta": {"content": None, "tool_calls": [3], "mood": {"a": 1}}}]})
    call = {"index": 0, "id": None, "function": {"name": "f"}}
    chat.add({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    (said,) = cast("list[dict[str, dict[str, object]]]", chat.answer()["choices"])
    assert said["message"]["mood"] == {"a": 1}
    assert said["message"]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": ""}}]


def test_fold_has_begun_with_the_first_text_and_not_before() -> None:
    fold = Fold(Endpoint.CHAT)
    assert not fold.begun
    fold.add({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
    assert not fold.begun
    fold.add({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    assert fold.begun


def test_usage_of_several_choices_is_summed_over_what_are_counts() -> None:
    fold = Fold(Endpoint.CHAT, choices_per_prompt=2)
    for _ in range(2):
        fold.add({"usage": {"prompt_tokens": 4, "completion_tokens": 3, "note": "x"}})
    assert fold.answer()["usage"] == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}


@pytest.mark.parametrize(
    ("status", "message", "model", "told"),
    [
        (503, "needs 8 GiB", "m", "m: needs 8 GiB"),
        (503, "m needs 8 GiB", "m", "m needs 8 GiB"),
        (503, "memory is full", "m", "m: memory is full"),
        (503, "/x/m.gguf: no such file", "m", "m: /x/m.gguf: no such file"),
        (503, "x/m needs 8 GiB", "x/m", "x/m needs 8 GiB"),
        (502, "it died", "a+b(", "a+b(: it died"),
        (502, "it died", "", "it died"),
        (400, "prompt is missing", "m", "prompt is missing"),
    ],
)
def test_an_error_of_a_server_names_its_model_once(status: int, message: str, model: str, told: str) -> None:
    assert named(ApiError(status=status, message=message), model).message == told


def test_what_agents_know_by_its_words_stays_as_it_is() -> None:
    error = ApiError(status=503, message="x", code="context_length_exceeded")
    assert named(error, "m") is error
