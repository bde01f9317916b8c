"""The official clients of other dialects against the running server, and requests that mean harm."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import ollama
import openai
import pytest

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama
from e2e.conftest import Server, environment_in, serve, wait_until
from e2e.parrot import write_parrot
from e2e.test_openai_client import HELLO, TOOL_TEMPLATE, WEATHER

pytestmark = pytest.mark.engine

LONG: Any = [{"role": "user", "content": "x " * 9000}]
TEXT: Any = {"type": "text", "text": "brief."}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'


def started(folder: Path, model: Path) -> Iterator[Server]:
    server = serve(environment_in(folder), folder, model)
    server.wait_for("ready")
    yield server
    server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.gguf"
    write_llama(path, LlamaShape(layers=2, embedding=64, feed_forward=128), template=TOOL_TEMPLATE)
    yield from started(folder, path)


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("parrot")
    yield from started(folder, write_parrot(folder / "parrot.gguf", CALL, template=TOOL_TEMPLATE))


def claude(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=240)


@pytest.fixture
def llama(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, timeout=240) as client:
        yield client


def test_messages_whole_and_streamed_say_the_same(server: Server) -> None:
    with claude(server) as client:
        asked: Any = {
            "model": "tiny",
            "max_tokens": 16,
            "messages": HELLO,
            "extra_body": {"temperature": 0},
            "system": "Be brief.",
        }
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        assert [block.model_dump() for block in whole.content] == [block.model_dump() for block in streamed.content]
        assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 16)
        counted = client.messages.count_tokens(model="tiny", messages=HELLO, system="Be brief.")
        assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
        for stream_it in (True, False):
            with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 2048 maximum"):
                client.messages.create(model="tiny", max_tokens=1, messages=LONG, stream=stream_it)
        with pytest.raises(anthropic.NotFoundError, match="there are: tiny"):
            client.messages.create(model="claude-9", max_tokens=1, messages=HELLO)


STEPS: Any = [
    HELLO[0],
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi."}]},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Köln"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sunny"}]},
]
TOOLS: Any = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be ", "cache_control": {"type": "ephemeral"}}, TEXT]},
        {"messages": STEPS, "tools": TOOLS},
        {"messages": STEPS, "tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
        {"messages": [*HELLO, {"role": "assistant", "content": "I"}]},
        {"messages": [{"role": "system", "content": "Hush."}, *STEPS[:3]]},
        {"stop_sequences": ["{"]},
    ],
)
def test_a_message_is_what_the_engine_itself_would_have_made_of_it(server: Server, changes: dict[str, Any]) -> None:
    """Its own endpoint for messages takes the same prompt: the same words, reason and counts."""
    asked: Any = {"model": "tiny", "max_tokens": 24, "messages": HELLO, "temperature": 0} | changes
    made: list[Any] = []
    for base in (server.url, server.url + "/upstream/tiny"):
        with anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=240) as client:
            extra = {"temperature": asked["temperature"]}
            known = {name: value for name, value in asked.items() if name != "temperature"}
            with client.messages.stream(**known, extra_body=extra) as stream:
                message = stream.get_final_message()
            read = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
            counted = server.request("POST", base.removeprefix(server.url) + "/v1/messages/count_tokens", asked)[1]
            assert read == counted["input_tokens"]
            content = [block.model_dump() for block in message.content]
            made.append((content, message.stop_reason, message.stop_sequence, read, message.usage.output_tokens))
    ours, its_own = made
    assert ours[0]
    if ours[2]:  # llama.cpp calls it the end of a turn
        assert (ours[1], its_own[1]) == ("stop_sequence", "end_turn")
        its_own = (its_own[0], "stop_sequence", *its_own[2:])
    assert ours == its_own


def test_a_text_that_ends_an_answer_is_named(parrot: Server) -> None:
    asked: Any = {"model": "parrot", "max_tokens": 99, "messages": HELLO, "stop_sequences": ["weather", "ct"]}
    with claude(parrot) as client:
        whole = client.messages.create(**asked, extra_body={"temperature": 0})
        with client.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "weather")
        [text] = message.content
        assert isinstance(text, anthropic.types.TextBlock)
        assert text.text.endswith("get_")


def test_a_message_that_cannot_be_put_into_other_words_is_refused_by_its_place(server: Server) -> None:
    document: Any = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    with claude(server) as client:
        with pytest.raises(anthropic.BadRequestError, match="takes text alone, no document"):
            client.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": [document]}])
        with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].type is 'web_search_20250305'"):
            client.messages.create(model="tiny", max_tokens=1, messages=HELLO, tools=[search])


def test_a_message_with_a_tool_call_has_its_arguments_whole_and_streamed(parrot: Server) -> None:
    schema = WEATHER["function"]
    tool: Any = {"name": schema["name"], "description": "", "input_schema": schema["parameters"]}
    asked: Any = {
        "model": "parrot",
        "max_tokens": 100,
        "messages": HELLO,
        "tools": [tool],
        "extra_body": {"temperature": 0},
    }
    with claude(parrot) as client:
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        [call] = [block for block in message.content if isinstance(block, anthropic.types.ToolUseBlock)]
        assert (call.name, call.input, message.stop_reason) == ("get_weather", {"city": "Rome"}, "tool_use")
    with ollama.Client(host=parrot.url) as other:
        options = {"temperature": 0}
        answer = other.chat("parrot", HELLO, tools=[WEATHER], options=options)
        pieces = list(other.chat("parrot", HELLO, tools=[WEATHER], options=options, stream=True))
    for calls in (answer.message.tool_calls, [call for piece in pieces for call in piece.message.tool_calls or []]):
        assert [(call.function.name, dict(call.function.arguments)) for call in calls or []] == [
            ("get_weather", {"city": "Rome"})
        ]


def test_responses_whole_and_streamed_say_the_same(server: Server) -> None:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=240) as client:
        asked: Any = {"model": "tiny", "input": "Hello", "max_output_tokens": 16, "temperature": 0}
        whole = client.responses.create(**asked)
        events = list(client.responses.create(stream=True, **asked))
        assert whole.output_text == events[-1].response.output_text
        assert whole.output_text
        assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
        assert sum(event.type == "response.in_progress" for event in events) == 1
        assert whole.usage is not None
        assert whole.usage.output_tokens == 16
        with pytest.raises(openai.BadRequestError, match="maximum context length is 2048"):
            client.responses.create(model="tiny", input="x " * 9000)
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(previous_response_id="resp_1", **asked)


def test_the_client_of_ollama_finds_asks_and_is_told(llama: ollama.Client) -> None:
    assert [model.model for model in llama.list().models] == ["tiny"]
    assert [model.context_length for model in llama.ps().models] == [2048]
    shown = llama.show("tiny")
    assert {"completion", "tools"} <= set(shown.capabilities or ())
    assert (shown.modelinfo or {})["llama.context_length"] == 2048
    options = {"num_predict": 8, "temperature": 0, "seed": 1, "num_ctx": 8192}
    whole = llama.chat("tiny", HELLO, options=options, keep_alive="5m")
    pieces = list(llama.chat("tiny:latest", HELLO, options=options, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert whole.message.content
    assert (whole.done_reason, whole.eval_count, pieces[-1].eval_count) == ("length", 8, 8)
    assert (whole.eval_duration or 0) > 0
    assert (whole.total_duration or 0) >= (whole.eval_duration or 0)
    assert llama.generate("tiny", "Once", raw=True, options={"num_predict": 4}).response
    assert llama.generate("tiny", "Once", system="Be brief.", options={"num_predict": 4}).eval_count == 4
    assert llama.generate("tiny").done_reason == "load"
    schema = {
        "type": "object",
        "properties": {"ok": {"const": True}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    kept = llama.chat("tiny", HELLO, format=schema, options={"temperature": 0, "num_predict": 400})
    assert json.loads(kept.message.content or "") == {"ok": True}


def test_the_client_of_ollama_unloads(llama: ollama.Client) -> None:
    assert llama.generate("tiny", "Once", raw=True, keep_alive="10m").response
    assert len(llama.ps().models) == 1
    assert llama.generate("tiny", keep_alive=0).done_reason == "unload"
    assert wait_until(lambda: not llama.ps().models)
    assert llama.generate("tiny", "Once", raw=True, keep_alive=0).response
    assert wait_until(lambda: not llama.ps().models)


def test_the_client_of_ollama_is_refused_in_words(llama: ollama.Client) -> None:
    refusals: list[tuple[Callable[[], object], int, str]] = [
        (lambda: llama.chat("none", HELLO), 404, "there are: tiny"),
        (lambda: llama.chat("tiny", LONG), 400, "maximum context length is 2048"),
        (lambda: list(llama.chat("tiny", LONG, stream=True)), 400, "maximum context length is 2048"),
        (lambda: llama.chat("tiny", HELLO, think=True), 400, "does not support thinking"),
        (lambda: llama.embed("tiny", "x"), 400, "--embedding"),
        (lambda: llama.pull("tiny"), 403, "nothing is fetched"),
        (lambda: llama.delete("tiny"), 403, "nothing is fetched"),
    ]
    for ask, status, words in refusals:
        with pytest.raises(ollama.ResponseError, match=words) as refused:
            ask()
        assert refused.value.status_code == status


def test_a_model_started_for_embeddings_embeds_for_ollamas_client(up: Callable[..., Server], tiny: Path) -> None:
    server = up(tiny, "--embedding", "--pooling", "mean", "--context", "512")
    server.wait_for("ready")
    with ollama.Client(host=server.url) as client:
        both = client.embed("tiny", ["Hello", "World"])
        assert [len(row) for row in both.embeddings] == [64, 64]
        assert both.embeddings[0] != both.embeddings[1]
        assert list(client.embeddings("tiny", "Hello").embedding) == pytest.approx(list(both.embeddings[0]), abs=1e-3)


def test_what_llama_server_speaks_is_spoken_and_its_own_paths_are_reached(server: Server) -> None:
    status, props = server.request("GET", "/props")
    assert (status, props["total_slots"]) == (200, len(server.request("GET", "/slots?model=tiny")[1]))
    assert server.request("GET", "/slots?model=other")[0] == 404
    tokens = server.request("POST", "/tokenize", {"content": "Hello"})[1]["tokens"]
    assert server.request("POST", "/detokenize", {"tokens": tokens})[1]["content"].strip() == "Hello"
    assert "Hello" in server.request("POST", "/apply-template", {"messages": HELLO})[1]["prompt"]
    whole = server.request("POST", "/completion", {"prompt": "Once", "n_predict": 4, "temperature": 0})[1]
    again = server.request("POST", "/upstream/tiny/completion", {"prompt": "Once", "n_predict": 4, "temperature": 0})[1]
    assert (whole["content"], whole["tokens_predicted"]) == (again["content"], 4)
    assert set(whole) == set(again)
    assert server.request("POST", "/v1/rerank", {"query": "a", "documents": ["b"]})[0] == 400
    assert server.request("POST", "/v1/audio/speech", {"input": "a"})[0] == 501
    assert server.request("GET", "/upstream/tiny/health") == (200, {"status": "ok"})
    assert server.request("GET", "/upstream/tiny/%2e%2e/health")[0] == 400


HOSTILE = [
    b"POST /upstream/tiny/x HTTP/1.1\r\nHost: [::]\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /upstream/tiny/tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET /upstream/tiny/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /upstream/tiny/health HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n",
    b"GET /upstream/tiny/../../health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /upstream/tiny/a%0d%0aHost:y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b'POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 16\r\n\r\n{"messages": {}}',
    b'POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 16\r\n\r\n{"messages": {}}',
]


def test_requests_that_mean_harm_are_answered_and_the_engine_lives(server: Server) -> None:
    address = urlsplit(server.url)
    for request in HOSTILE:
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=240) as connection:
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 "), request
    bomb = b'{"model":"tiny","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for path in ("/v1/messages", "/v1/responses", "/api/chat", "/completion", "/tokenize"):
        assert server.request("POST", path, bomb)[0] == 400
    assert server.request("POST", "/tokenize", {"content": "x"})[0] == 200
    assert not [item for item in server.news if item["event"] == "engine_died"]
