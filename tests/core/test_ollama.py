import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.errors import EngineError, UsageError
from bercail.core.model import Capability
from bercail.core.ollama import Way, found_name, lacking, notes, read_chat, read_embed, read_generate
from bercail.core.ollama_reply import Reply, embeddings, loaded, running, shown, whole
from bercail.core.route import Phase
from fakes.host import served

AT = "2026-01-01T00:00:00Z"
USER = {"role": "user", "content": "x"}
SCHEMA = {"type": "object"}


def test_a_chat_is_put_into_the_words_of_our_engines() -> None:
    wish = read_chat({
        "model": "tiny", "messages": [USER], "stream": False, "tools": [{"type": "function"}], "format": SCHEMA,
        "options": {"temperature": 0.5, "num_predict": 7, "stop": ["a"], "seed": None, "num_ctx": 1, "num_gpu": 2},
        "keep_alive": "5m", "truncate": True,
    })  # fmt: skip
    assert (wish.model, wish.way, wish.stream, wish.stay_s, wish.cut) == ("tiny", Way.CHAT, False, 300.0, True)
    assert wish.body == {
        "model": "tiny", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}],
        "temperature": 0.5, "n_predict": 7, "stop": ["a"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    }  # fmt: skip


def test_a_chat_streams_where_nothing_is_said_and_one_without_messages_only_loads() -> None:
    assert read_chat({"messages": [USER]}).stream
    wish = read_chat({"model": "tiny"})
    assert (wish.way, wish.unloads) == (Way.NONE, False)
    for zero in (0, "0", "0s"):
        assert read_chat({"model": "tiny", "keep_alive": zero}).unloads
    assert not read_chat({"messages": [USER], "keep_alive": 0}).unloads


def test_calls_and_their_results_find_each_other() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    wish = read_chat({"messages": [
        {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [
            call, {"id": "mine", "function": {"name": "g", "arguments": '{"b":2}'}}, {"function": {"name": "f"}},
        ]},
        {"role": "tool", "tool_name": "g", "content": "2"},
        {"role": "tool", "name": "f", "content": "1"},
        {"role": "tool", "tool_call_id": "given", "content": "3"},
        {"role": "tool", "content": "4"},
        {"role": "tool", "content": "5"},
    ]})  # fmt: skip
    messages: Any = wish.body["messages"]
    assert messages[0]["reasoning_content"] == "hm"
    assert messages[0]["tool_calls"] == [
        {"id": "call_0_f", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "mine", "type": "function", "function": {"name": "g", "arguments": '{"b":2}'}},
        {"id": "call_2_f", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]
    assert [one["tool_call_id"] for one in messages[1:]] == ["mine", "call_0_f", "given", "call_2_f", "call_0"]


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("iVBORw", "data:image/png;base64,iVBORw"),
        ("/9j/", "data:image/jpeg;base64,/9j/"),
        ("data:image/gif;base64,R0", "data:image/gif;base64,R0"),
        ("https://x/y.png", "https://x/y.png"),
    ],
)
def test_pictures_become_parts_of_a_message(image: str, url: str) -> None:
    wish = read_chat({"messages": [{"role": "user", "content": "see", "images": [image]}]})
    picture = {"type": "image_url", "image_url": {"url": url}}
    assert wish.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "see"}, picture]}]
    alone: Any = read_generate({"images": [image]}).body["messages"]
    assert alone == [{"role": "user", "content": [picture]}]


@pytest.mark.parametrize(
    ("think", "kwargs"),
    [
        (True, {"enable_thinking": True}),
        (False, {"enable_thinking": False}),
        ("high", {"enable_thinking": True, "reasoning_effort": "high"}),
        (None, None),
    ],
)
def test_thinking_is_asked_of_the_template(think: object, kwargs: object) -> None:
    assert read_chat({"messages": [USER], "think": think}).body.get("chat_template_kwargs") == kwargs


def test_generate_is_a_question_a_text_or_a_gap() -> None:
    asked = read_generate({"prompt": "x", "system": "be brief", "format": "json"})
    assert asked.way is Way.CHAT
    assert asked.body["messages"] == [{"role": "system", "content": "be brief"}, USER]
    assert asked.body["response_format"] == {"type": "json_object"}
    raw = read_generate({"prompt": "x", "raw": True, "format": ""})
    assert (raw.way, raw.body) == (Way.TEXT, {"model": "", "prompt": "x"})
    gap = read_generate({"model": "m", "prompt": "a", "suffix": "b"})
    assert (gap.way, gap.gap, gap.body) == (Way.TEXT, True, {"model": "m", "prompt": "a", "suffix": "b"})
    assert read_generate({"name": "m"}).way is Way.NONE
    assert read_generate({"name": "m"}).model == "m"


def test_texts_to_embed_are_one_or_several() -> None:
    assert read_embed({"model": "m", "input": ["a", "b"]}, "input").body == {"model": "m", "input": ["a", "b"]}
    assert read_embed({"model": "m", "prompt": "a"}, "prompt").body == {"model": "m", "input": "a"}
    assert read_embed({"model": "m"}, "input").body["input"] == ""


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (read_chat, {"model": 5}, "model must be a text"),
    (read_chat, {"messages": {}}, "messages must be a list"),
    (read_chat, {"messages": [5]}, r"messages\[0\] must be an object with a role"),
    (read_chat, {"messages": [{"content": "x"}]}, "with a role"),
    (read_chat, {"messages": [{"role": "user", "content": 5}]}, "content must be a text"),
    (read_chat, {"messages": [{"role": "user", "images": [5]}]}, "base64"),
    (read_chat, {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "a function that has a name"),
    (read_chat, {"messages": [{"role": "assistant", "tool_calls": [5]}]}, "a tool call must be"),
    (read_chat, {"options": []}, "options must be an object"),
    (read_chat, {"format": "xml"}, "'xml' is not known"),
    (read_chat, {"format": 5}, "format must be a text or an object"),
    (read_chat, {"stream": "yes"}, "stream must be true or false"),
    (read_chat, {"keep_alive": True}, "keep_alive must be"),
    (read_chat, {"think": 5, "messages": [USER]}, "think must be true or false or a text"),
    (read_generate, {"template": "x"}, "template is not supported"),
    (read_generate, {"context": [1]}, "context is not supported"),
    (read_embed, {"input": [5]}, "input must be a text or a list of texts"),
    (read_embed, {"input": 5}, "input must be a text or a list"),
    (read_embed, {"input": "x", "dimensions": 5}, "dimensions cannot be chosen"),
]


@pytest.mark.parametrize(("read", "body", "words"), BAD)
def test_what_is_no_request_is_refused_in_words(read: Any, body: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(body, "input") if read is read_embed else read(body)


MEMBERS = [
    "model", "name", "messages", "prompt", "suffix", "raw", "images", "options", "format", "think", "tools", "stream",
    "keep_alive", "input", "role", "content", "tool_calls", "function", "arguments", "template", "context", "system",
]  # fmt: skip
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_no_body_breaks_the_reading(body: dict[str, Any]) -> None:
    for read in (read_chat, read_generate, lambda found: read_embed(found, "input")):
        with suppress(UsageError):
            wish = read(body)
            assert all(notes(wish, served()))
            refusal = lacking(wish, served())
            assert not refusal or refusal.startswith('"')


@pytest.mark.parametrize(
    ("said", "stay_s"),
    [
        (None, None), ("", None), (0, 0), ("0", 0), ("0s", 0), (90, 90), (1.5, 1.5), ("90", 90), ("10m", 600),
        ("1h30m", 5400), ("300ms", 0.3), (-1, math.inf), ("-1", math.inf), ("-1m", math.inf),
    ],
)  # fmt: skip
def test_how_long_a_model_is_to_stay_is_a_number_of_seconds_or_a_duration(said: object, stay_s: float | None) -> None:
    assert read_chat({"keep_alive": said}).stay_s == stay_s


@pytest.mark.parametrize("said", ["soon", "10 parsecs", "nan", "1e999", "--1", "-", "m"])
def test_what_is_no_duration_is_refused_with_what_to_write(said: str) -> None:
    with pytest.raises(UsageError, match=r"keep_alive is .*, no duration") as caught:
        read_chat({"keep_alive": said})
    assert caught.value.hint == "write seconds, or 10m, or -1 for ever"


def test_the_tag_that_clients_add_is_taken_off_where_only_the_plain_name_is_known() -> None:
    assert found_name("tiny:latest", {"tiny"}.__contains__) == "tiny"
    assert found_name("tiny:latest", {"tiny:latest", "tiny"}.__contains__) == "tiny:latest"
    assert found_name("x:latest", {"tiny"}.__contains__) == "x:latest"
    assert found_name("tiny", {"tiny"}.__contains__) == "tiny"


def test_what_is_not_done_as_asked_is_told() -> None:
    wish = read_chat({
        "messages": [USER], "options": {"num_ctx": 8192, "num_gpu": 1, "seed": 1}, "truncate": True,
    })  # fmt: skip
    context, options, cut = notes(wish, served())
    assert "num_ctx 8192 is not loaded: a request has 512 tokens" in context
    assert options == "not changed by a request: num_gpu"
    assert "truncate" in cut
    assert notes(read_chat({"messages": [USER], "options": {"num_ctx": 100}}), served()) == ()
    assert notes(read_chat({"options": {"num_ctx": 9999}}), served(slot_context_tokens=None)) == ()


def test_what_a_model_cannot_do_is_told_in_the_words_of_ollama() -> None:
    thinks = read_chat({"messages": [USER], "think": True})
    assert lacking(thinks, served()) == '"tiny" does not support thinking'
    assert lacking(thinks, served(capabilities=())) == ""
    assert lacking(read_chat({"messages": [USER], "think": False}), served()) == ""
    assert lacking(read_generate({"suffix": "x"}), served()) == '"tiny" does not support insert'
    assert lacking(read_chat({"messages": [USER]}), served(capabilities=(Capability.EMBEDDINGS,))).endswith("chat")
    plain = served(capabilities=(Capability.COMPLETION,))
    assert lacking(read_generate({"prompt": "x"}), plain).endswith("chat; it completes with raw: true")


def delta(finish: str | None = None, **said: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def take(reply: Reply, *chunks: dict[str, Any]) -> list[dict[str, Any]]:
    return [made for chunk in chunks if (made := reply.take(chunk, AT)) is not None]


TIMINGS = {"prompt_n": 2, "prompt_ms": 1.5, "predicted_n": 3, "predicted_ms": 20}
LAST = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}, "timings": TIMINGS}


def test_a_chat_comes_line_by_line_with_its_times_at_the_end() -> None:
    reply = Reply(model="tiny", chat=True, load_s=0.5)
    pieces = take(reply, delta(role="assistant", content=None), delta(reasoning_content="hm"), delta(content="a"),
                  delta("length"), LAST, {"choices": 5})  # fmt: skip
    assert [piece["message"] for piece in pieces] == [
        {"role": "assistant", "content": "", "thinking": "hm"}, {"role": "assistant", "content": "a"},
    ]  # fmt: skip
    assert all((piece["model"], piece["created_at"], piece["done"]) == ("tiny", AT, False) for piece in pieces)
    end = reply.end(AT, 2.0)
    assert end == {
        "model": "tiny", "created_at": AT, "message": {"role": "assistant", "content": ""}, "done": True,
        "done_reason": "length", "total_duration": 2_000_000_000, "load_duration": 500_000_000, "prompt_eval_count": 9,
        "prompt_eval_duration": 1_500_000, "eval_count": 3, "eval_duration": 20_000_000,
    }  # fmt: skip
    assert reply.counts() == TIMINGS
    assert whole(pieces, end)["message"] == {"role": "assistant", "content": "a", "thinking": "hm"}


def test_a_tool_call_comes_whole_with_its_arguments_as_an_object() -> None:
    reply = Reply(model="tiny", chat=True)
    first = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    pieces = take(
        reply,
        delta(tool_calls=[first, 5]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        delta(tool_calls=[{"function": {"name": "g"}}]),
        delta("tool_calls"),
    )
    calls = [
        {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}},
        {"function": {"name": "g", "arguments": {}}},
    ]
    assert [piece["message"]["tool_calls"] for piece in pieces] == [calls]
    assert reply.end(AT, 0)["done_reason"] == "stop"
    assert whole(pieces, reply.end(AT, 0))["message"] == {"role": "assistant", "content": "", "tool_calls": calls}
    broken = Reply(model="tiny", chat=True)
    with pytest.raises(EngineError, match="not JSON"):
        take(broken, delta(tool_calls=[{"function": {"name": "f", "arguments": "{"}}]), delta("length"))


def test_a_text_comes_as_a_response() -> None:
    reply = Reply(model="tiny", chat=False)
    pieces = take(reply, {"choices": [{"text": "a"}]}, {"choices": [{"text": "", "finish_reason": "stop"}]})
    assert [piece["response"] for piece in pieces] == ["a"]
    assert reply.begun
    assert whole(pieces, reply.end(AT, 0))["response"] == "a"


def test_a_sign_of_life_says_nothing_and_counts_as_no_beginning() -> None:
    reply = Reply(model="tiny", chat=True)
    assert reply.piece(AT)["message"] == {"role": "assistant", "content": ""}
    assert not reply.begun
    assert reply.end(AT, 0)["eval_count"] == 0


def test_loading_is_told_as_such() -> None:
    made = loaded("tiny", AT, 1.0, chat=False)
    assert (made["done"], made["done_reason"], made["load_duration"], made["response"]) == (True, "load", 10**9, "")
    assert "message" in loaded("tiny", AT, 1.0, chat=True)


def test_embeddings_are_handed_on() -> None:
    answer: dict[str, Any] = {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}], "usage": {"prompt_tokens": 4}}
    made = embeddings("tiny", answer, 2.0, 1.0)
    assert (made["embeddings"], made["prompt_eval_count"], made["total_duration"]) == ([[1.0], [2.0]], 4, 2 * 10**9)
    assert embeddings("tiny", {"data": 5}, 0, 0)["embeddings"] == []


LISTED: dict[str, Any] = {
    "name": "tiny",
    "model": "tiny",
    "size": 5,
    "digest": "",
    "details": {"family": "llama"},
    "modified_at": AT,
    "slug": "x",
}


def test_show_tells_what_a_request_may_use() -> None:
    made = shown(served(), LISTED)
    assert made["capabilities"] == ["completion", "tools"]
    assert made["parameters"] == "num_ctx 512"
    assert made["model_info"] == {
        "general.architecture": "llama", "general.parameter_count": 260_000, "llama.context_length": 512,
        "llama.vocab_size": 512,
    }  # fmt: skip
    assert ".Suffix" not in str(made["template"])
    other = shown(served(slot_context_tokens=None, architecture=None, vocabulary=None, phase=Phase.UNLOADED,
                         capabilities=(Capability.INFILL, Capability.MTP)), LISTED)  # fmt: skip
    assert (other["parameters"], other["capabilities"]) == ("", ["insert"])
    assert ".Suffix" in str(other["template"])
    assert other["model_info"] == {
        "general.architecture": "unknown", "general.parameter_count": 260_000, "unknown.context_length": 4096,
    }  # fmt: skip


def test_only_what_is_loaded_runs_and_it_never_expires() -> None:
    made = running(served(), LISTED)
    assert made is not None
    assert (made["name"], made["context_length"]) == ("tiny", 512)
    assert str(made["expires_at"]).endswith("+00:00")
    assert "size_vram" not in made
    assert running(replace(served(), phase=Phase.LOADING), LISTED) is None
