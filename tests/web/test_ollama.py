"""Ollama's interface."""

import asyncio
import json
import math
from typing import Any

import pytest

from bercail.core.errors import EngineError, RefusedError
from bercail.core.model import Capability
from bercail.core.route import Phase
from fakes.bench import Bench, answer
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream, Scripted

CHAT, GENERATE = "/api/chat", "/api/generate"
HELLO: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}


def bench(*scripts: Scripted, **model: Any) -> Bench:
    return Bench(FakeHost(known=[served(**model)]), FakeUpstream(*scripts))


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def test_a_chat_streams_lines_where_nothing_is_said() -> None:
    one = bench(answer("hi"))
    client = one.post(CHAT, HELLO)
    assert client.status == 200
    assert client.headers["content-type"] == "application/x-ndjson"
    first, last = lines(client.body)
    assert (first["message"], first["done"]) == ({"role": "assistant", "content": "hi"}, False)
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 1)
    assert client.complete
    [asked] = one.upstream.asked
    assert asked.target == "/v1/chat/completions"
    assert json.loads(asked.body) == HELLO | {
        "stream": True, "return_progress": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    told = one.get("/metrics").body.decode()
    assert 'bercail_requests_total{model="tiny",endpoint="api/chat",status="200"} 1' in told
    assert 'bercail_decode_tokens_total{model="tiny"} 1' in told


def test_a_chat_without_a_stream_is_one_answer() -> None:
    client = bench(answer("hi")).post(CHAT, HELLO | {"stream": False, "model": "tiny:latest"})
    assert (client.json["message"], client.json["done"]) == ({"role": "assistant", "content": "hi"}, True)
    assert client.json["model"] == "tiny:latest"
    assert client.json["created_at"].endswith("Z")


def test_a_text_and_a_gap_go_to_their_endpoints() -> None:
    text = Scripted(pieces=[b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'])
    one = bench(text)
    assert one.post(GENERATE, {"prompt": "x", "raw": True, "stream": False}).json["response"] == "a"
    assert one.upstream.asked[0].target == "/v1/completions"
    gap = {"prompt": "x", "suffix": "y"}
    read = (Scripted(pieces=[json.dumps({"tokens": found}).encode()]) for found in ([7, 8, 9], [1, 7, 8, 9], [2], [3]))
    one = bench(*read, text, capabilities=(Capability.INFILL,))
    assert [line["response"] for line in lines(one.post(GENERATE, gap).body)] == ["a", ""]
    asked = one.upstream.asked[-1]
    assert (asked.target, json.loads(asked.body)["prompt"]) == ("/v1/completions", [1, 7, 2, 8, 3, 9])
    assert bench(text).post(GENERATE, gap).error == '"tiny" does not support insert'
    elsewhere = bench(text, capabilities=(Capability.INFILL,), engine="openvino").post(GENERATE, gap)
    assert elsewhere.status == 501
    assert "llama.cpp does" in elsewhere.error


def test_what_is_not_done_as_asked_is_told_in_a_header_and_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    one = bench(answer("hi"))
    body = HELLO | {"options": {"num_ctx": 9999, "x\r\nset-cookie: a": 1}}
    for stream in (True, False):
        client = one.post(CHAT, body | {"stream": stream})
        assert client.headers["x-bercail-note"] == "not changed by a request: x??set-cookie: a"
    assert [record.message for record in caplog.records] == [
        "tiny: num_ctx 9999 is not loaded: a request has 512 tokens, longer ones are refused",
        "tiny: not changed by a request: x??set-cookie: a",
    ]


def test_loading_alone_asks_nothing_of_the_engine() -> None:
    one = bench(answer("x"), phase=Phase.UNLOADED)
    assert one.post(CHAT, {"model": "tiny"}).json["done_reason"] == "load"
    assert one.host.granted == 1
    assert not one.upstream.asked


def test_a_model_stays_as_long_as_a_request_says_and_leaves_when_it_says_so() -> None:
    one = bench(answer("hi"))
    for keep_alive in ("10m", -1, 0):
        client = one.post(CHAT, HELLO | {"keep_alive": keep_alive})
        assert "x-bercail-note" not in client.headers
    assert one.host.stays == [("tiny", 600.0, 1), ("tiny", math.inf, 1), ("tiny", 0, 0)], "it leaves after the answer"
    left = one.post(GENERATE, {"model": "tiny", "keep_alive": 0})
    assert (left.json["done_reason"], left.json["response"], one.host.granted) == ("unload", "", 3)
    assert one.host.stays[3:] == [("tiny", 0, 0)]


def test_to_unload_what_is_not_there_loads_nothing() -> None:
    one = bench(answer("x"), phase=Phase.UNLOADED)
    assert one.post(GENERATE, {"model": "tiny", "keep_alive": 0}).json["done_reason"] == "unload"
    assert (one.host.granted, one.host.stays) == (0, [])


def test_a_model_that_others_use_is_not_unloaded_which_is_told() -> None:
    one = bench(answer("x"))
    one.host.stays_refusal = "tiny stays in memory: 2 others use it"
    client = one.post(GENERATE, {"model": "tiny", "keep_alive": "0s"})
    assert (client.json["done_reason"], client.headers["x-bercail-note"]) == ("load", one.host.stays_refusal)
    assert one.post(CHAT, HELLO | {"keep_alive": "1m"}).headers["x-bercail-note"] == one.host.stays_refusal


def test_texts_are_embedded_by_a_model_that_then_leaves() -> None:
    found = b'{"data":[{"embedding":[1.0]}]}'
    one = bench(Scripted(pieces=[found]), capabilities=(Capability.EMBEDDINGS,))
    assert one.post("/api/embed", {"model": "tiny", "input": "a", "keep_alive": 0}).status == 200
    assert one.host.stays == [("tiny", 0, 0)]


@pytest.mark.parametrize("stream", [True, False])
def test_errors_are_in_ollamas_words(stream: bool) -> None:
    assert bench(answer("x")).post(CHAT, HELLO | {"model": "none", "stream": stream}).status == 404
    refused = Bench(FakeHost(refusal=RefusedError("needs 8 GiB"))).post(CHAT, HELLO | {"stream": stream})
    assert (refused.status, refused.json) == (503, {"error": "tiny: needs 8 GiB"})
    error = b'{"error":{"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":5,"code":400}}'
    for script in (Scripted(status=400, pieces=[error]), Scripted(pieces=[b"data: " + error + b"\n\n"])):
        client = bench(script).post(CHAT, HELLO | {"stream": stream})
        assert client.status == 400
        assert "maximum context length is 5 tokens" in client.error


def test_a_stream_that_breaks_ends_with_an_error_and_no_clean_end() -> None:
    begin = answer("hi").pieces[0]
    for script in (Scripted(pieces=[begin, EngineError("it died")]), Scripted(pieces=[begin])):
        client = bench(script).post(CHAT, HELLO)
        assert set(lines(client.body)[-1]) == {"error"}
        assert not client.complete
        assert bench(script).post(CHAT, HELLO | {"stream": False}).status == 502


def test_silence_is_filled_with_empty_lines_of_the_dialect() -> None:
    first, *rest = answer("hi").pieces
    client = bench(Scripted(pieces=[first, 20.0, *rest])).post(CHAT, HELLO)
    assert [line["message"]["content"] for line in lines(client.body)] == ["hi", "", ""]
    assert [line["done"] for line in lines(client.body)] == [False, False, True]


def test_texts_are_embedded() -> None:
    found = b'{"data":[{"embedding":[1.0]},{"embedding":[2.0]}],"usage":{"prompt_tokens":4}}'
    embeds = {"capabilities": (Capability.EMBEDDINGS,)}
    one = bench(Scripted(pieces=[found[:9], found[9:]]), **embeds)
    made = one.post("/api/embed", {"model": "tiny", "input": ["a", "b"], "truncate": True})
    assert (made.json["embeddings"], made.json["prompt_eval_count"]) == ([[1.0], [2.0]], 4)
    assert made.headers["x-bercail-note"].startswith("truncate is not heeded")
    assert one.upstream.asked[0].target == "/v1/embeddings"
    assert json.loads(one.upstream.asked[0].body) == {"model": "tiny", "input": ["a", "b"]}
    assert one.post("/api/embeddings", {"prompt": "a"}).json == {"embedding": [1.0]}
    refused = bench(answer("x")).post("/api/embed", {"input": "a"})
    assert (refused.status, "--embedding" in refused.error) == (400, True)


def test_a_loaded_model_is_told_with_the_memory_that_it_holds_and_what_of_it_lies_on_gpus() -> None:
    (loaded,) = bench(answer("x"), held_bytes=700, held_gpu_bytes=500).get("/api/ps").json["models"]
    assert (loaded["size"], loaded["size_vram"]) == (700, 500)
    (loaded,) = bench(answer("x"), held_bytes=700, held_gpu_bytes=0).get("/api/ps").json["models"]
    assert (loaded["size"], loaded["size_vram"]) == (700, 0)


def test_what_is_there_is_listed_without_loading_it() -> None:
    host = FakeHost(known=[served("a"), served("b", phase=Phase.UNLOADED, slot_context_tokens=None)])
    one = Bench(host)
    assert [model["name"] for model in one.get("/api/tags").json["models"]] == ["a", "b"]
    assert {"modified_at", "size", "digest", "details"} <= set(one.get("/api/tags").json["models"][0])
    (loaded,) = one.get("/api/ps").json["models"]
    assert loaded["name"] == "a"
    assert "size" not in loaded
    assert one.get("/api/version").json["version"].count(".") == 2
    for body in ({"model": "b"}, {"name": "b:latest", "verbose": True}):
        shown = one.post("/api/show", body)
        assert (shown.status, shown.json["model_info"]["llama.context_length"]) == (200, 4096)
    assert one.post("/api/show", {"model": "c"}).status == 404
    assert one.post("/api/show", {"model": 5}).error == "model must be a text: it is a whole number"
    assert one.host.granted == 0


@pytest.mark.parametrize("path", ["pull", "push", "create", "delete", "copy", "blobs/sha256:0"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD"])
def test_models_are_neither_fetched_nor_made_nor_deleted(path: str, method: str) -> None:
    client = Bench().get("/api/" + path, method)
    assert (client.status, "nothing is fetched" in client.error) == (403, True)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        (CHAT, "GET", 405),
        ("/api/tags", "POST", 405),
        (CHAT, "OPTIONS", 204),
        ("/api/tags", "HEAD", 200),
        ("/api/x", "GET", 404),
    ],
)
def test_wrong_methods_and_paths_are_told(path: str, method: str, status: int) -> None:
    client = Bench().get(path, method)
    assert client.status == status
    if status >= 400:
        assert isinstance(client.error, str)


@pytest.mark.parametrize("path", [CHAT, GENERATE, "/api/embed", "/api/show"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"model":{}}',
        b'{"messages":[[]]}',
        b'{"a":' + b"[" * 990,
        b'{"tools":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_no_body_breaks_the_gateway(path: str, body: bytes) -> None:
    client = bench(answer("hi")).post(path, body)
    assert client.status in (200, 400)
    assert client.complete


def test_nothing_is_fetched_for_a_picture() -> None:
    see = {"messages": [{"role": "user", "content": "x", "images": ["https://x/y.png"]}]}
    client = bench(answer("x"), capabilities=(Capability.CHAT, Capability.VISION)).post(CHAT, see)
    assert (client.status, "fetches nothing" in client.error) == (400, True)


def test_a_client_that_leaves_ends_its_request() -> None:
    one = bench(Scripted(pieces=[answer("hi").pieces[0], 1000.0]))

    async def scene(one: Bench) -> None:
        for stream in (True, False):
            client = one.client().start(CHAT, json.dumps(HELLO | {"stream": stream}).encode())
            await asyncio.sleep(0.01)
            client.leave()
            await client.end()
            assert one.upstream.answers[0].aborted

    one.play(scene)


def test_the_log_does_not_grow_without_end(caplog: pytest.LogCaptureFixture) -> None:
    one = bench(answer("hi"))

    async def scene(one: Bench) -> None:
        for number in range(1100):
            await one.client().post(CHAT, HELLO | {"options": {f"o{number}": 1}})

    one.play(scene)
    assert len(caplog.records) == 1000
