"""The gateway on a real socket, between the official client and the fake engine."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import openai
import pytest
import uvloop

from bercail.core.errors import EngineError, ListenError
from bercail.core.options import ServerOptions
from bercail.engines.fake import Behaviour, Failure
from bercail.engines.fake.answers import WORDS
from bercail.engines.upstream import HttpUpstream
from bercail.web import Gateway
from fakes.host import FakeHost
from fakes.street import MESSAGES, asked, send, street, until

SLOW = Behaviour(tokens=20_000, delay_s=0.01, prefill_s=0.05)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Coroutine[None, None, None]], None]:
    """Runs a scene in each of the loops that the gateway may find itself in."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop

    def run(scene: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scene)

    return run


async def listen(stream: Any, words: list[str | None]) -> None:
    async for part in stream:
        words.append(part.choices[0].delta.content)


Play = Callable[[Coroutine[None, None, None]], None]


def test_the_official_client_chats_streams_completes_and_embeds(play: Play) -> None:
    async def scene() -> None:
        async with street() as way, way.client() as client:
            chat = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=5)
            assert chat.choices[0].message.content == "Once upon a time,"
            assert chat.usage is not None
            assert chat.usage.completion_tokens == 5
            stream = await client.chat.completions.create(
                model="tiny", messages=MESSAGES, max_tokens=5, stream=True
            )  # fmt: skip
            words = [part.choices[0].delta.content async for part in stream]
            assert "".join(word or "" for word in words) == "Once upon a time,"
            plain = await client.completions.create(model="tiny", prompt="x", max_tokens=3)
            assert plain.choices[0].text == "Once upon a"
            found = await client.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float")
            assert len(found.data) == 2
            assert [model.id async for model in client.models.list()] == ["tiny"]
            assert (await client.models.retrieve("tiny")).id == "tiny"

    play(scene())


def test_the_official_client_gets_the_errors_it_knows(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(fail=Failure.CONTEXT)) as way, way.client() as client:
            for stream in (False, True):
                with pytest.raises(openai.BadRequestError, match="maximum context length is 4096 tokens") as caught:
                    await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=stream)
                assert caught.value.code == "context_length_exceeded"
            with pytest.raises(openai.NotFoundError, match="there are tiny") as missing:
                await client.chat.completions.create(model="other", messages=MESSAGES)
            assert missing.value.code == "model_not_found"

    play(scene())


def test_an_engine_that_dies_in_the_middle_is_told_to_the_official_client(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(tokens=8, delay_s=0.01, fail=Failure.DIE)) as way, way.client() as client:
            way.host.death = EngineError("tiny died: killed by signal 9", code="engine_died", log_tail=("oops",))
            stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
            words: list[str | None] = []
            with pytest.raises(openai.APIError, match="killed by signal 9"):
                await listen(stream, words)
            assert any(words)
            with pytest.raises(openai.InternalServerError, match="killed by signal 9") as caught:
                await client.chat.completions.create(model="tiny", messages=MESSAGES)
            assert caught.value.status_code == 502
            assert isinstance(caught.value.body, dict)
            assert caught.value.body["log_tail"] == ["oops"]

    play(scene())


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_during_prefill_or_decode_frees_the_engine(
    play: Play, *, stream: bool, padding: int
) -> None:
    async def scene() -> None:
        async with street(SLOW) as way:
            for fake in ({"prefill_s": 60.0}, {"prefill_s": 0.0}):
                _, writer = await send(way, asked(stream=stream, fake=fake), padding=padding)
                await until(lambda: bool(way.engine.visits) and way.host.out == 1)
                await asyncio.sleep(0.05)
                writer.close()
                await way.left()
                assert way.host.out == 0
                way.engine.visits.clear()

    play(scene())


def test_a_client_that_reads_slowly_gets_all_of_a_stream_in_order(play: Play) -> None:
    tokens = 30_000  # 6 MB, far more than the buffers on the way hold

    async def scene() -> None:
        async with street(Behaviour(tokens=tokens)) as there:
            reader, writer = await asyncio.open_connection(*there.address, limit=4096)
            body = json.dumps({"messages": MESSAGES, "stream": True}).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
            await reader.readuntil(b"\r\n\r\n")
            pieces = []
            while size := int(await reader.readline(), 16):
                pieces.append(await reader.readexactly(size))
                assert await reader.readexactly(2) == b"\r\n"
            writer.close()
        events = b"".join(pieces).split(b"\n\n")
        found = [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
        words = [chunk["choices"][0]["delta"].get("content") for chunk in found if chunk["choices"]]
        assert len([word for word in words if word]) == tokens
        assert words[1 : 2 * len(WORDS) + 1] == 2 * list(WORDS)
        assert events[-2:] == [b"data: [DONE]", b""]

    play(scene())


def test_a_stream_that_breaks_has_no_clean_end(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(tokens=8, delay_s=0.01, fail=Failure.DIE)) as way:
            reader, writer = await send(way, asked(stream=True))
            raw = await reader.read()
            writer.close()
            assert b'data: {"error":' in raw
            assert b"[DONE]" not in raw
            assert not raw.endswith(b"0\r\n\r\n")

    play(scene())


def test_a_body_over_the_cap_gets_its_answer_though_it_is_still_being_sent(play: Play) -> None:
    async def scene() -> None:
        async with street(body_limit=100_000) as way:
            reader, writer = await send(way, asked(stream=False), padding=3_000_000)
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in raw
            assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"
            assert not way.engine.visits

    play(scene())


@pytest.mark.parametrize(
    ("request_line", "host", "status"),
    [
        ("POST /v1/chat/completions", "evil.example", 403),
        ("POST /v1/nothing", "localhost", 404),
        ("POST /v1/models", "localhost", 405),
    ],
)
def test_a_refusal_without_a_look_at_the_body_is_read_though_that_is_still_being_sent(
    play: Play, request_line: str, host: str, status: int
) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await asyncio.open_connection(*way.address)
            head = f"{request_line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n"
            writer.write(head.encode() + bytes(3_000_000))
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 %d " % status)
            assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["message"]

    play(scene())


def test_what_is_no_http_gets_an_error_in_the_usual_shape(play: Play) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await asyncio.open_connection(*way.address)
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 400 ")
            assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"

    play(scene())


def test_closing_lets_running_requests_finish_and_refuses_new_ones(play: Play) -> None:
    async def scene() -> None:
        async with street(Behaviour(tokens=40, delay_s=0.05)) as way:  # time enough to come too late meanwhile
            reader, writer = await send(way, asked(stream=True))
            await reader.readuntil(b"Once")
            closing = asyncio.create_task(way.gateway.close(10))
            await asyncio.sleep(0)
            late, late_writer = await send(way, asked(stream=False))
            refused = await late.readuntil(b"\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5" in refused
            late_writer.close()
            assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            writer.close()
            assert await closing == 0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*way.address)

    play(scene())


@pytest.mark.parametrize("stream", [False, True])
def test_closing_cuts_what_does_not_finish_and_tells_why(play: Play, *, stream: bool) -> None:
    async def scene() -> None:
        async with street(SLOW) as way:
            reader, writer = await send(way, asked(stream=stream))
            await until(lambda: way.host.out == 1)
            if stream:
                await reader.readuntil(b"Once")
            assert await way.gateway.close(0.05) == 1
            raw = await reader.read()
            writer.close()
            assert b'"code":"stopping"' in raw
            assert raw.startswith(b"HTTP/1.1 503 ") != stream
            assert not raw.endswith(b"0\r\n\r\n")
            await way.left()
            assert await way.gateway.close(0) == 0

    play(scene())


def test_connections_are_used_again(play: Play) -> None:
    async def scene() -> None:
        async with street() as way, way.client() as client:
            for index in range(6):
                await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=index % 2 == 0)
                await asyncio.sleep(0.02)
            assert len(way.engine.connections) <= 2

    play(scene())


def test_a_port_in_use_says_which_and_what_to_do() -> None:
    async def scene(port: int) -> None:
        with pytest.raises(ListenError) as caught:
            await Gateway(ServerOptions(port=port), HttpUpstream()).open(FakeHost())
        assert caught.value.message == f"127.0.0.1:{port} is already in use"
        assert "--port" in caught.value.hint
        assert "bercail ps" in caught.value.hint
        assert caught.value.code == "port_in_use"
        with pytest.raises(ListenError, match="already in use"):
            Gateway(ServerOptions(port=port), HttpUpstream()).check()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(scene(taken.getsockname()[1]))


def test_an_address_that_was_looked_at_is_still_free() -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        gateway = Gateway(ServerOptions(port=port), HttpUpstream())
        gateway.check()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        url = await gateway.open(FakeHost())
        await gateway.close(0)
        assert url == f"http://127.0.0.1:{port}"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("host", "words"), [("192.0.2.1", "not an address of this machine"), ("no such host", "neither an address")]
)
def test_an_address_that_is_not_ours_is_told(host: str, words: str) -> None:
    async def scene() -> None:
        with pytest.raises(ListenError, match=words) as caught:
            await Gateway(ServerOptions(host=host, port=0), HttpUpstream()).open(FakeHost())
        assert "--host" in caught.value.hint

    asyncio.run(scene())


@pytest.mark.parametrize(("host", "start"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_the_url_is_one_that_works_on_this_machine(host: str, start: str) -> None:
    async def scene() -> None:
        gateway = Gateway(ServerOptions(host=host, port=0), HttpUpstream())
        url = await gateway.open(FakeHost())
        assert url.startswith(start)
        await gateway.close(0)

    asyncio.run(scene())


def test_closing_a_gateway_that_never_opened_is_harmless() -> None:
    assert asyncio.run(Gateway(ServerOptions(), HttpUpstream()).close(1)) == 0


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "code"),
    [
        ("GET /unload", "Host: localhost\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site", 403,
         "foreign_page"),
        ("GET /unload", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors", 403,
         "foreign_page"),
        ("POST /v1/chat/completions", "Host: [::1]\r\nOrigin: https://evil.example\r\nContent-Type: text/plain", 403,
         "foreign_page"),
        ("GET /v1/models", "Host: evil.example:8123", 403, "foreign_page"),
        ("GET /ui", "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate", 200, ""),
        ("GET /v1/models", "Host: 127.0.0.1\r\nOrigin: http://localhost:3000\r\nSec-Fetch-Site: cross-site", 200, ""),
        ("GET /v1/models", "Host: localhost:8123", 200, ""),
    ],
)  # fmt: skip
def test_a_page_from_elsewhere_can_do_nothing_here(
    play: Play, request_line: str, headers: str, status: int, code: str
) -> None:
    async def scene() -> None:
        async with street() as way:
            reader, writer = await asyncio.open_connection(*way.address)
            writer.write(f"{request_line} HTTP/1.1\r\n{headers}\r\n".encode())
            writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 %d " % status)
            if code:
                assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == code

    play(scene())


def test_a_page_that_is_named_may_use_the_server_and_read_its_answers(play: Play) -> None:
    async def scene() -> None:
        async with street(origins="https://chat.example", hosts="ai.example") as way:
            reader, writer = await asyncio.open_connection(*way.address)
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: ai.example\r\nOrigin: https://chat.example\r\n")
            writer.write(b"Connection: close\r\n\r\n")
            raw = await reader.read()
            writer.close()
            assert raw.startswith(b"HTTP/1.1 200 ")
            assert b"access-control-allow-origin: https://chat.example" in raw

    play(scene())
