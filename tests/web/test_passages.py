"""Endpoints that engines speak themselves."""

import asyncio
import json
import operator
from functools import partial
from typing import Any

import pytest

from bercail.core.dialect import PASSAGES, STATES
from bercail.core.errors import EngineError, RefusedError
from bercail.core.model import Capability
from bercail.core.route import Phase
from bercail.web.dialects.tongue import SPOKEN
from fakes.bench import Bench
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

MESSAGES = "/v1/messages"
HELLO: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}


def sse(*events: dict[str, Any], named: bool = True) -> list[bytes]:
    return [
        (b"event: " + str(one["type"]).encode() + b"\n" if named else b"") + b"data: " + packed(one) + b"\n\n"
        for one in events
    ]


def packed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


MESSAGE = sse(
    {"type": "message_start", "message": {"role": "assistant", "content": [], "usage": {"input_tokens": 4}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
PROGRESS = {"type": "response.in_progress", "response": {"id": "r"}, "prompt_progress": {"total": 2}}
RESPONSE = sse(
    {"type": "response.created", "response": {"id": "r"}},
    PROGRESS,
    PROGRESS,
    {"type": "response.output_text.delta", "delta": "hi"},
    {
        "type": "response.completed",
        "response": {"id": "r", "output": ["hi"]},
        "timings": {"prompt_n": 4, "predicted_n": 2},
    },
)
NATIVE = sse(
    {"content": "", "stop": False, "prompt_progress": {"total": 2}},
    {"content": "h", "stop": False, "prompt_progress": {"total": 2}},
    {"content": "i", "stop": False},
    {"content": "", "stop": True, "timings": {"prompt_n": 4, "predicted_n": 2}},
    named=False,
)


def bench(*pieces: Any, status: int = 200, **model: Any) -> Bench:
    host = FakeHost(known=[served(**{"engine": "llama.cpp", "format": "gguf"} | model)])
    return Bench(host, FakeUpstream(Scripted(pieces=pieces, status=status)))


THEIRS: dict[str, Any] = {"engine": "theirs", "format": None, "plain": True}
"""A server that is not known to be llama.cpp's: it is asked in a dialect's own words, and for nothing else."""


def asked_of(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whose endpoint is asked, and what is asked beside the client's wishes."""
    return (THEIRS, {"stream": True}) if path in SPOKEN else ({}, {"stream": True, "return_progress": True})


def counted(one: Bench, label: str, status: int = 200) -> None:
    lines = one.get("/metrics").body.decode().splitlines()
    assert f'bercail_requests_total{{model="tiny",endpoint="{label}",status="{status}"}} 1' in lines
    if status == 200:
        assert 'bercail_prefill_tokens_total{model="tiny"} 4' in lines
        assert 'bercail_decode_tokens_total{model="tiny"} 2' in lines


@pytest.mark.parametrize(
    ("path", "body", "pieces", "answer", "label"),
    [
        (
            MESSAGES,
            HELLO,
            MESSAGE,
            {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"},
            "messages",
        ),
        ("/responses", {"input": "x"}, RESPONSE, {"id": "r", "output": ["hi"]}, "responses"),
        ("/completion", {"prompt": "x"}, NATIVE, {"content": "hi", "stop": True}, "completion"),
    ],
)
def test_one_answer_is_folded_from_a_stream_so_that_a_client_that_leaves_is_noticed(
    path: str, body: dict[str, Any], pieces: list[bytes], answer: dict[str, Any], label: str
) -> None:
    model, added = asked_of(path)
    one = bench(*pieces, **model)
    client = one.post(path, body)
    assert client.status == 200
    assert answer.items() <= client.json.items()
    sent = json.loads(one.upstream.asked[0].body)
    assert sent == body | added
    assert one.upstream.asked[0].target == PASSAGES[path].target
    counted(one, label)


@pytest.mark.parametrize(
    ("path", "body", "pieces", "shown", "label"),
    [
        (MESSAGES, HELLO, MESSAGE, MESSAGE, "messages"),
        (
            "/v1/responses",
            {"input": "x"},
            RESPONSE,
            [RESPONSE[0], *sse({"type": "response.in_progress", "response": {"id": "r"}}), *RESPONSE[3:]],
            "responses",
        ),
        (
            "/completion",
            {"prompt": "x"},
            NATIVE,
            [*sse({"content": "h", "stop": False}, named=False), *NATIVE[2:]],
            "completion",
        ),
    ],
)
def test_a_stream_passes_whole_but_for_what_was_not_asked_for(
    path: str, body: dict[str, Any], pieces: list[bytes], shown: list[bytes], label: str
) -> None:
    model, added = asked_of(path)
    one = bench(b": first\n\n", *pieces, **model)
    client = one.post(path, body | {"stream": True})
    assert client.status == 200
    assert client.headers["content-type"] == "text/event-stream"
    assert client.body == b"".join(shown)
    assert client.complete
    assert json.loads(one.upstream.asked[0].body) == body | added
    counted(one, label)


def test_progress_that_was_asked_for_is_shown() -> None:
    one = bench(*RESPONSE, **THEIRS)
    client = one.post("/v1/responses", {"input": "x", "stream": True, "return_progress": True})
    assert client.body == b"".join(RESPONSE)


def test_the_middle_of_a_native_stream_wakes_no_task() -> None:
    words = sse(*({"content": str(number), "stop": False} for number in range(6)), named=False)
    made = []
    for takes in (True, False):
        client = Client(
            bench(NATIVE[0], *words, NATIVE[-1]).app, takes=partial(operator.is_not, None) if takes else operator.not_
        )

        async def scene(client: Client = client) -> None:
            await client.post("/completion", {"prompt": "x", "stream": True})

        run(scene)
        assert client.complete
        assert bool(client.pushed) is takes
        made.append(client)
    fast, slow = made
    assert fast.body == slow.body == b"".join((*words, NATIVE[-1]))
    assert fast.pushed == words[1:], "the first and the last piece need the task"


@pytest.mark.parametrize(
    ("path", "body", "begin", "told"),
    [
        (
            MESSAGES,
            HELLO,
            MESSAGE[0],
            'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"tiny: it died"',
        ),
        ("/v1/responses", {"input": "x"}, RESPONSE[0], 'event: error\ndata: {"type":"error","code":"engine"'),
        ("/completion", {"prompt": "x"}, NATIVE[2], 'data: {"error":{"message":"tiny: it died"'),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_in_its_own_form_and_no_clean_end(
    path: str, body: dict[str, Any], begin: bytes, told: str
) -> None:
    model, _ = asked_of(path)
    one = bench(begin, EngineError("it died"), **model)
    client = one.post(path, body | {"stream": True})
    assert client.body.decode().removeprefix(begin.decode()).startswith(told)
    assert not client.complete
    cut = bench(begin, **model)
    assert not cut.post(path, body | {"stream": True}).complete
    assert cut.post(path, body).status == 502


@pytest.mark.parametrize("event", [b"event: error\ndata: ", b"data: "])
def test_an_error_inside_a_stream_keeps_its_status_and_its_words(event: bytes) -> None:
    error = packed({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5, "code": 400}})
    for stream in (True, False):
        client = bench(event + error + b"\n\n").post(MESSAGES, HELLO | {"stream": stream})
        assert client.status == 400
        assert client.json == {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 5 maximum"},
        }


def test_silence_is_filled_in_the_words_of_the_dialect() -> None:
    one = bench(MESSAGE[0], 40.0, *MESSAGE[1:], **THEIRS)
    client = one.post(MESSAGES, HELLO | {"stream": True})
    assert client.body.count(b'event: ping\ndata: {"type": "ping"}\n\n') == 2
    assert client.complete


def test_errors_of_ours_are_in_the_words_of_the_dialect() -> None:
    host = FakeHost(known=[served()], refusal=RefusedError("needs 8 GiB, 4 are free"))
    client = Bench(host).post(MESSAGES, HELLO)
    assert (client.status, client.error["type"]) == (503, "api_error")
    assert client.headers["x-should-retry"] == "false"
    assert Bench().post(MESSAGES, HELLO | {"model": "x"}).error["type"] == "not_found_error"
    assert Bench().post(MESSAGES, b"{").error["type"] == "invalid_request_error"
    stopping = Bench()
    stopping.app.stopping = True
    assert stopping.post(MESSAGES, HELLO).json["type"] == "error"


@pytest.mark.parametrize("body", [{}, {"messages": 5}, {"messages": None}, {"messages": "x"}])
@pytest.mark.parametrize("path", [MESSAGES, MESSAGES + "/count_tokens"])
def test_messages_must_be_a_list(path: str, body: dict[str, Any]) -> None:
    client = bench().post(path, body)
    assert (client.status, client.error["message"]) == (400, "messages must be a list")


@pytest.mark.parametrize("path", list(PASSAGES))
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"5", b'{"model":[]}', b'{"x":' + b"[" * 900, b'{"a":' + b"[" * 999 + b"]" * 999 + b"}"]
)
def test_no_body_breaks_the_gateway(path: str, body: bytes) -> None:
    client = bench(b"{}", capabilities=tuple(Capability)).post(path, body)
    assert client.status in (200, 400, 501, 502)
    assert client.complete


def test_a_count_passes_as_it_is() -> None:
    one = bench(b'{"input_tokens":', b"3}")
    client = one.post(MESSAGES + "/count_tokens?beta=true", HELLO)
    assert client.json == {"input_tokens": 3}
    assert json.loads(one.upstream.asked[0].body) == HELLO


@pytest.mark.parametrize(
    "body",
    [{"prompt": ["a", "b"]}, {"prompt": [1]}, {"prompt": "a", "n_probs": 2}, {"prompt": "a", "return_tokens": True}],
)
def test_what_a_stream_would_lose_travels_whole(body: dict[str, Any]) -> None:
    one = bench(b'{"timings":{"prompt_n":4,"predicted_n":2}}')
    assert one.post("/completion", body).status == 200
    assert json.loads(one.upstream.asked[0].body) == body
    counted(one, "completion")


def test_a_block_that_only_counts_is_not_sent() -> None:
    one = bench(*MESSAGE, **THEIRS)
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
        {"type": "text", "text": "be brief"},
    ]
    assert one.post(MESSAGES, HELLO | {"system": system}).status == 200
    assert json.loads(one.upstream.asked[0].body)["system"] == system[1:]


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (MESSAGES, HELLO | {"messages": [{"role": "user", "content": [IMAGE]}]}, "remote_media"),
        (
            MESSAGES,
            HELLO | {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}]},
            "remote_media",
        ),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]},
            "remote_media",
        ),
    ],
)
def test_nothing_is_fetched_for_any_dialect(path: str, body: dict[str, Any], code: str) -> None:
    sees = bench(*MESSAGE, capabilities=(Capability.CHAT, Capability.VISION)).post(path, body)
    assert sees.status == 400
    assert "fetches nothing" in sees.error["message"]
    blind = bench(*MESSAGE).post(path, body)
    assert blind.status == 400
    assert "takes text alone" in blind.error["message"]


def test_a_text_that_names_an_address_is_no_picture() -> None:
    body = HELLO | {"messages": [{"role": "user", "content": [{"type": "text", "text": 'https://x "image"'}]}]}
    assert bench(*MESSAGE, **THEIRS).post(MESSAGES, body).status == 200
    data = {"type": "image", "source": {"type": "base64", "data": "aa"}}
    sees = bench(*MESSAGE, capabilities=(Capability.CHAT, Capability.VISION), **THEIRS)
    assert sees.post(MESSAGES, HELLO | {"messages": [{"role": "user", "content": [data]}]}).status == 200


FORM = (
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nsound\r\n'
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\ntiny\r\n--b--\r\n'
)
KIND = (b"content-type", b"multipart/form-data; boundary=b")


def test_a_form_names_the_model_as_its_server_does() -> None:
    one = bench(b'{"text":"hi"}', capabilities=(Capability.AUDIO,))
    one.host.sent_name = "whisper-large"

    async def scene(one: Bench) -> None:
        await one.client().start("/v1/audio/transcriptions", FORM, headers=(KIND,)).end()

    one.play(scene)
    assert one.upstream.asked[0].body == FORM.replace(b"tiny", b"whisper-large")


def test_a_form_passes_as_it_is_to_the_model_that_it_names() -> None:
    one = bench(b'{"text":"hi"}', capabilities=(Capability.AUDIO,))

    async def scene(one: Bench) -> None:
        client = await one.client().start("/v1/audio/transcriptions", FORM, headers=(KIND,)).end()
        assert (client.status, client.json) == (200, {"text": "hi"})
        [asked] = one.upstream.asked
        assert (asked.body, asked.headers) == (FORM, [KIND])
        other = (
            await one.client().start("/v1/audio/transcriptions", FORM.replace(b"tiny", b"none"), headers=(KIND,)).end()
        )
        assert other.status == 404
        none = await one.client().start("/v1/audio/transcriptions", b"{}").end()
        assert (none.status, none.error["message"].startswith("the body must be a form")) == (400, True)

    one.play(scene)


@pytest.mark.parametrize(
    ("path", "changes", "status", "words"),
    [
        ("/v1/rerank", {}, 400, "no reranking model"),
        ("/v1/audio/transcriptions", {"capabilities": (Capability.RERANK,)}, 400, "must be a form"),
        (MESSAGES, {"chat_refusal": "its template hangs"}, 400, "its template hangs"),
        ("/infill", {"engine": "openvino"}, 501, "openvino does not speak /infill, llama.cpp does"),
        ("/v1/audio/speech", {}, 501, "llama.cpp does not speak"),
        ("/v1/images/generations", {"engine": None, "phase": Phase.UNLOADED}, 501, "no engine at hand speaks"),
    ],
)
def test_what_cannot_be_had_is_refused_before_a_model_is_loaded(
    path: str, changes: dict[str, Any], status: int, words: str
) -> None:
    one = bench(**changes)
    client = one.post(path, HELLO)
    assert client.status == status
    assert words in client.error["message"]
    assert one.host.granted == 0


def test_an_engine_of_someone_else_is_asked_and_its_no_is_told() -> None:
    one = Bench(FakeHost(known=[served(engine="theirs")]), FakeUpstream(Scripted(status=404, pieces=[b"no"])))
    client = one.post("/v1/audio/speech", {"input": "x"})
    assert (client.status, client.error["message"]) == (501, "theirs of tiny has no /v1/audio/speech")


@pytest.mark.parametrize("path", list(STATES))
def test_the_state_of_a_loaded_model_may_be_seen_and_no_look_loads_one(path: str) -> None:
    one = bench(b'{"a":1}')
    client = one.get(path)
    assert (client.status, client.json) == (200, {"a": 1})
    assert (one.upstream.asked[0].method, one.upstream.asked[0].target) == ("GET", path)
    assert one.get(path + "?model=x").status == 404
    for phase in (Phase.UNLOADED, Phase.LOADING, Phase.FAILED):
        unloaded = bench(phase=phase)
        for query in ("", "?model=tiny"):
            refused = unloaded.get(path + query)
            assert (refused.status, refused.error["code"]) == (409, "model_not_loaded")
        assert unloaded.host.granted == 0


def test_a_look_does_not_wait_for_a_model_that_is_busy_leaving() -> None:
    one = bench(b"{}")

    async def scene(one: Bench) -> None:
        one.host.gate = asyncio.Event()
        client = await one.client().get("/props")
        assert client.status == 409

    one.play(scene)


@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        (MESSAGES, "GET", 405, "POST, OPTIONS"),
        (MESSAGES, "OPTIONS", 204, "POST, OPTIONS"),
        ("/props", "POST", 405, "GET, HEAD, OPTIONS"),
        ("/slots", "OPTIONS", 204, "GET, HEAD, OPTIONS"),
    ],
)
def test_wrong_methods_are_told(path: str, method: str, status: int, allow: str) -> None:
    client = bench().get(path, method)
    assert (client.status, client.headers["allow"]) == (status, allow)


def test_a_client_that_leaves_ends_its_request_at_the_engine() -> None:
    one = bench(MESSAGE[0], 1000.0)

    async def scene(one: Bench) -> None:
        for stream in (True, False):
            client = one.client().start(MESSAGES, packed(HELLO | {"stream": stream}))
            await asyncio.sleep(0.01)
            client.leave()
            await client.end()
            assert one.upstream.answers[0].aborted

    one.play(scene)


def test_pages_of_this_machine_may_read_and_others_may_not() -> None:
    async def scene(one: Bench) -> None:
        for path in ("/v1/models", "/v1/chat/completions", "/nowhere"):
            ours = (
                await one.client()
                .start(path, b"", method="GET", headers=((b"origin", b"http://localhost:3000"),))
                .end()
            )
            assert ours.headers["access-control-allow-origin"] == "http://localhost:3000"
            theirs = await one.client().start(path, b"", method="GET", headers=((b"origin", b"http://evil.com"),)).end()
            assert not any(name.startswith("access-control") for name in theirs.headers)

    bench().play(scene)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/audio/voices", "/v1/audio/voices"),
        ("/sdapi/v1/txt2img", "/sdapi/v1/txt2img"),
        ("/sdapi/v1/img2img", "/sdapi/v1/img2img"),
        ("/audioapi/v1/tasks/run", "/v1/tasks/run"),
    ],
)
def test_servers_of_pictures_and_sound_are_asked_by_the_paths_that_they_know(path: str, target: str) -> None:
    one = bench(b'{"done":true}', engine="command", plain=True, format=None, capabilities=())
    assert one.post(path, {"model": "tiny"}).json == {"done": True}
    assert one.upstream.asked[-1].target == target
    assert bench(b"{}").post(path, {"model": "tiny"}).status == 501


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/sdapi/v1/loras", "/lora-adapters"])
def test_what_they_have_to_choose_from_is_looked_at_and_loads_nothing(path: str) -> None:
    one = bench(b"[1]", engine="command", plain=True, format=None, capabilities=())
    assert one.get(f"{path}?lang=a%26b&model=tiny").json == [1]
    assert one.upstream.asked[0].target == f"{path}?lang=a%26b&model=tiny"
    one.host.sent_name = "inner"
    assert one.get(f"{path}?model=tiny").status == 200
    assert one.upstream.asked[1].target == f"{path}?model=inner"
    out = Bench(FakeHost(known=[served(phase=Phase.UNLOADED)]))
    assert out.get(f"{path}?model=tiny").status == 409
    assert out.host.granted == 0
