"""Anthropic's messages, asked of an engine in the words of OpenAI's chat."""

import asyncio
import json
from typing import Any

import pytest

from bercail.core.configuration import SideRule
from bercail.core.errors import EngineError
from bercail.core.model import Capability
from bercail.core.route import Phase
from fakes.bench import Bench
from fakes.chats import BEGIN, CHAT, COUNTER, COUNTS, DONE, USAGE, bench, chunk, packed, words
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
THEIRS: dict[str, Any] = {"engine": "theirs", "format": None, "plain": True}


WORDS = words("a", "b", "c")
ANSWER = [BEGIN, *WORDS, chunk("stop"), COUNTS, DONE]


def told(client: Client) -> list[Any]:
    """The events of a stream; each bears the name of its type."""
    made = []
    for event in client.body.decode().split("\n\n"):
        name, _, data = event.partition("\n")
        if name.startswith("event: "):
            made.append(json.loads(data.removeprefix("data: ")))
            assert made[-1]["type"] == name.removeprefix("event: ")
    return made


@pytest.mark.parametrize("engine", ["llama.cpp", "openvino", "onnxruntime", None])
def test_every_engine_is_asked_for_a_chat_and_its_answer_is_a_message(engine: str | None) -> None:
    one = bench(*ANSWER, engine=engine)
    client = one.post(MESSAGES + "?beta=true", HELLO | {"system": "Be brief.", "stop_sequences": ["#"]})
    assert client.json == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "tiny",
        "content": [{"type": "text", "text": "abc"}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {
            "input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3,
        },
    }  # fmt: skip
    [asked] = one.upstream.asked
    assert asked.target == CHAT
    assert json.loads(asked.body) == {
        "model": "tiny", "max_tokens": 5, "stop": ["#"], "stream": True, "stream_options": {"include_usage": True},
        "return_progress": True, "verbose": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
    }  # fmt: skip
    lines = one.get("/metrics").body.decode().splitlines()
    assert 'bercail_requests_total{model="tiny",endpoint="messages",status="200"} 1' in lines
    assert 'bercail_prefill_tokens_total{model="tiny"} 5' in lines
    assert 'bercail_decode_tokens_total{model="tiny"} 3' in lines


@pytest.mark.parametrize("pieces", [ANSWER, [b"".join(ANSWER)], [bytes([one]) for one in b"".join(ANSWER)]])
def test_a_stream_is_told_event_by_event_however_it_is_cut(pieces: list[bytes]) -> None:
    one = bench(*pieces)
    client = one.post(MESSAGES, HELLO | {"stream": True})
    assert client.headers["content-type"] == "text/event-stream"
    assert client.complete
    events = told(client)
    kinds = ["content_block_start", *["content_block_delta"] * 3, "content_block_stop"]
    assert [one["type"] for one in events] == ["message_start", "ping", *kinds, "message_delta", "message_stop"]
    assert events[0]["message"]["usage"]["input_tokens"] == 5
    assert "".join(one["delta"]["text"] for one in events[3:6]) == "abc"
    assert events[-2]["usage"]["output_tokens"] == 3
    assert "verbose" not in json.loads(one.upstream.asked[0].body)
    lines = one.get("/metrics").body.decode().splitlines()
    assert 'bercail_prefill_tokens_total{model="tiny"} 5' in lines
    assert 'bercail_decode_tokens_total{model="tiny"} 3' in lines


def pushed(*pieces: Any, path: str = MESSAGES, takes: bool = True) -> Client:
    app = bench(*pieces).app
    client = Client(app, takes=lambda _: takes)

    async def scene() -> None:
        await client.post(path, HELLO | {"stream": True})

    run(scene)
    return client


@pytest.mark.parametrize("path", [MESSAGES, "/api/chat"])
def test_the_middle_of_a_stream_wakes_no_task(path: str) -> None:
    client = pushed(*ANSWER, path=path)
    assert client.complete
    # What is pushed before a stream has begun, and what ends it, needs the task.
    assert 2 <= len([piece for piece in client.pushed if piece]) < len(WORDS) + 2
    slow = pushed(*ANSWER, path=path, takes=False)
    assert not slow.pushed
    if path == MESSAGES:
        assert slow.body == client.body
    calls = [chunk(said={"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]})]
    with_call = pushed(BEGIN, *WORDS, *calls, chunk("tool_calls"), COUNTS, DONE, path=path)
    assert b'"f"' in with_call.body
    assert not any(b'"f"' in piece for piece in with_call.pushed)


@pytest.mark.parametrize("path", [MESSAGES, "/api/chat", "/api/generate"])
@pytest.mark.parametrize("order", [("index", "finish_reason", "delta"), ("finish_reason", "index", "delta")])
@pytest.mark.parametrize("first", [True, False])
def test_words_are_the_same_whichever_way_they_go(path: str, order: tuple[str, ...], *, first: bool) -> None:
    words = ['"', "\\", "\n", "\u00e4\N{EURO SIGN}", '"choices":[{"index":0', "data: x", "}]"]

    def piece(word: str) -> bytes:
        members: dict[str, object] = {"index": 0, "finish_reason": None, "delta": {"content": word}}
        choices: dict[str, object] = {"choices": [{name: members[name] for name in order}]}
        return b"data: " + packed(choices | {"id": "c"} if first else {"id": "c"} | choices) + b"\n\n"

    pieces = [BEGIN, *map(piece, words), chunk("stop"), COUNTS, DONE]
    asked = {"prompt": "x"} if path == "/api/generate" else {"messages": HELLO["messages"]}

    def said(*, takes: bool) -> tuple[str, list[bytes]]:
        client = Client(bench(*pieces).app, takes=lambda _: takes)

        async def scene() -> None:
            await client.post(path, {"model": "tiny", "stream": True} | asked)

        run(scene)
        if path == MESSAGES:
            texts = [one["delta"]["text"] for one in told(client) if one["type"] == "content_block_delta"]
        else:
            lines = [json.loads(line) for line in client.body.splitlines()]
            texts = [line["message"]["content"] if "message" in line else line["response"] for line in lines]
        return "".join(texts), [piece for piece in client.pushed if piece]

    quick, pushed = said(takes=True)
    assert len(pushed) >= len(words) - 1
    assert quick == said(takes=False)[0] == "".join(words)


def test_what_cannot_be_told_breaks_off_also_in_the_middle() -> None:
    last = chunk("stop", said={"content": "x"})
    cut = chunk(said={"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]})
    client = pushed(BEGIN, cut, *WORDS, last, DONE, path="/api/chat")
    assert not client.complete
    assert b"not JSON" in client.body


def test_an_answer_without_a_whole_letter_is_a_message() -> None:
    for stream in (True, False):
        client = bench(BEGIN, chunk("length"), COUNTS, DONE).post(MESSAGES, HELLO | {"stream": stream})
        assert client.complete
        message = client.json if not stream else told(client)[0]["message"]
        assert (message["content"], message["usage"]["input_tokens"]) == ([], 5)


@pytest.mark.parametrize("end", [EngineError("it died"), DONE])
def test_a_stream_that_breaks_ends_with_an_error_and_no_clean_end(end: Any) -> None:
    client = bench(BEGIN, WORDS[0], end).post(MESSAGES, HELLO | {"stream": True})
    assert told(client)[-1]["error"]["type"] == "api_error"
    assert not client.complete
    whole = bench(BEGIN, WORDS[0], end).post(MESSAGES, HELLO)
    assert (whole.status, whole.error["type"]) == (502, "api_error")


def test_an_overflow_is_told_in_the_sentence_that_agents_match() -> None:
    error = {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5, "code": 400}}
    for pieces, status in ((packed(error), 400), (b"data: " + packed(error) + b"\n\n", 200)):
        for stream in (True, False):
            client = bench(pieces, status=status).post(MESSAGES, HELLO | {"stream": stream})
            assert (client.status, client.error["message"]) == (400, "prompt is too long: 9 tokens > 5 maximum")


def test_silence_is_filled_with_pings() -> None:
    client = bench(BEGIN, 40.0, *ANSWER[1:]).post(MESSAGES, HELLO | {"stream": True})
    assert client.body.count(b'event: ping\ndata: {"type": "ping"}\n\n') == 2
    assert client.complete


def test_what_is_not_heeded_goes_with_the_answer_and_what_cannot_be_done_is_refused_before_a_load() -> None:
    for stream in (True, False):
        one = bench(*ANSWER)
        client = one.post(MESSAGES, HELLO | {"service_tier": "auto", "stream": stream})
        assert client.headers["x-bercail-note"] == "not heeded: service_tier"
    document = [{"role": "user", "content": [{"type": "document", "source": {}}]}]
    seeing = bench(*ANSWER, capabilities=(Capability.CHAT, Capability.VISION), phase=Phase.UNLOADED)
    for path in (MESSAGES, COUNT):
        client = seeing.post(path, HELLO | {"messages": document})
        assert (client.status, client.error["type"]) == (400, "invalid_request_error")
        assert client.error["message"].startswith("messages[0].content[0].type is 'document'")
    assert seeing.host.granted == 0


def test_a_count_is_that_of_the_chat() -> None:
    one = bench(b'{"input_tokens":7,"object":"response.input_tokens"}')
    client = one.post(COUNT, HELLO | {"system": "s"})
    assert client.json == {"input_tokens": 7}
    [asked] = one.upstream.asked
    assert asked.target == COUNTER
    assert json.loads(asked.body)["messages"][0] == {"role": "system", "content": "s"}


def test_a_build_that_does_not_count_chats_is_asked_for_a_count_of_messages() -> None:
    host = FakeHost(known=[served(engine="llama.cpp", format="gguf")])
    one = Bench(host, FakeUpstream(Scripted(status=404, pieces=[b"no"]), Scripted(pieces=[b'{"input_tokens":7}'])))
    assert one.post(COUNT, HELLO).json == {"input_tokens": 7}
    assert [(asked.target, json.loads(asked.body)) for asked in one.upstream.asked][1] == (COUNT, HELLO)


def theirs(*answers: Scripted) -> Bench:
    known = served(capabilities=(Capability.CHAT, Capability.VISION), **THEIRS)
    return Bench(FakeHost(known=[known]), FakeUpstream(*answers))


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_of_someone_elses_that_does_not_know_the_dialect_is_asked_for_a_chat(stream: bool) -> None:
    usage = b"data: " + packed({"choices": [], "usage": USAGE}) + b"\n\n"
    one = theirs(Scripted(status=404, pieces=[b"no"]), Scripted(pieces=[*WORDS, chunk("stop"), usage, DONE]))
    client = one.post(MESSAGES, HELLO | {"stream": stream, "stop_sequences": ["#"]})
    assert (client.status, client.complete) == (200, True)
    own, chat = one.upstream.asked
    assert (own.target, json.loads(own.body)["stop_sequences"]) == (MESSAGES, ["#"])
    sent = json.loads(chat.body)
    assert (chat.target, sent["stop"]) == (CHAT, ["#"])
    assert not {"return_progress", "verbose"} & sent.keys()
    lines = one.get("/metrics").body.decode().splitlines()
    assert 'bercail_prefill_tokens_total{model="tiny"} 5' in lines


def test_what_only_the_words_of_the_dialect_can_say_reaches_a_server_that_knows_them() -> None:
    document = HELLO | {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}
    one = theirs(Scripted(pieces=[b'{"input_tokens":7}']))
    assert one.post(COUNT, document).json == {"input_tokens": 7}
    unknowing = theirs(Scripted(status=404, pieces=[b"no"]))
    assert unknowing.post(COUNT, document).error["message"].startswith("messages[0].content[0].type is 'document'")
    refused = unknowing.post(COUNT, HELLO)
    assert (refused.status, refused.error["type"]) == (501, "api_error")
    assert refused.error["message"] == f"theirs of tiny has no {COUNTER}"
    angry = theirs(Scripted(status=429, pieces=[b"{}"]))
    assert angry.post(MESSAGES, HELLO).status == 429
    assert len(angry.upstream.asked) == 1


def test_a_small_request_beside_a_conversation_may_be_answered_by_another_model() -> None:
    known = [
        served(id="big", phase=Phase.UNLOADED, engine=None, format="gguf"),
        served(id="small", engine="llama.cpp", format="gguf"),
    ]
    rules = (SideRule(id="small ones", line=1, max_tokens=9, models=("small",)),)
    one = Bench(FakeHost(known=known, rules=rules), FakeUpstream(Scripted(pieces=ANSWER)))
    client = one.post(MESSAGES, HELLO | {"model": "big"})
    assert (client.headers["x-bercail-model"], client.json["model"]) == ("small", "small")
    assert json.loads(one.upstream.asked[0].body)["model"] == "small"
    assert one.post(MESSAGES, HELLO | {"model": "big", "max_tokens": 99}).json["model"] == "big"


def test_a_client_that_leaves_ends_its_request_at_the_engine() -> None:
    one = bench(BEGIN, 1000.0)

    async def scene(one: Bench) -> None:
        for stream in (True, False):
            client = one.client().start(MESSAGES, packed(HELLO | {"stream": stream}))
            await asyncio.sleep(0.01)
            client.leave()
            await client.end()
            assert one.upstream.answers[0].aborted

    one.play(scene)
