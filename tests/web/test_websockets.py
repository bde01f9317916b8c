"""Websockets to an engine's own paths, on real sockets: what goes in comes out, byte for byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvloop

from bercail.core.access import KeyWish, Scope, mint
from bercail.core.launch import Address
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.engines.upstream import HttpUpstream
from bercail.web import Gateway
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring

OPEN = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: yes\r\n"
MASKED = b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e"
"""A text frame of a client."""
CLOSE = b"\x88\x02\x03\xe8"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Line:
    """A client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, path: str, *headers: str) -> bytes:
        """Wish for a websocket; the head of the answer."""
        lines = [f"GET {path} HTTP/1.1", "Host: here:1", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"]
        lines += ["Sec-WebSocket-Key: abc", "Sec-WebSocket-Version: 13", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode())
        return await self.reader.readuntil(b"\r\n\r\n")


@dataclass(slots=True)
class Scene:
    """A gateway before an engine that talks as it is told."""

    host: FakeHost
    gateway: Gateway
    port: int
    heads: list[bytes] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    async def call(self) -> Line:
        self.lines.append(Line(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.lines[-1]

    async def idle(self) -> None:
        async with asyncio.timeout(60):
            while self.host.out:  # noqa: ASYNC110 - nothing at the far end of a socket sets an event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def scene(talk: Talk, host: FakeHost | None = None, keyring: FakeKeyring | None = None) -> AsyncIterator[Scene]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    engine = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = host or FakeHost()
    host.address = Address(port=engine.sockets[0].getsockname()[1])
    upstream = HttpUpstream()
    gateway = Gateway(ServerOptions(port=0, hosts="here"), upstream, keyring=keyring)
    url = await gateway.open(host)
    made = Scene(host, gateway, int(url.rpartition(":")[2]), heads)
    try:
        yield made
        for line in made.lines:
            line.writer.close()
        await made.idle()
    finally:
        await gateway.close(0)
        await upstream.close()
        engine.close()
        await engine.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OPEN + b"Sec-WebSocket-Protocol: chat\r\n\r\n")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Coroutine[None, None, None]], None]:
    def run(story: Coroutine[None, None, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(120):
                await story

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())

    return run


Play = Callable[[Coroutine[None, None, None]], None]


def test_frames_pass_as_they_are_and_the_lease_lasts_while_it_is_open(play: Play) -> None:
    async def story() -> None:
        async with scene(echo) as it:
            line = await it.call()
            answer = await line.ask("/upstream/tiny/ws/%C3%A9%2F?a=b%20c", "Sec-WebSocket-Protocol: chat, superchat")
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"sec-websocket-protocol: chat\r\n" in answer
            assert b"sec-websocket-accept: yes\r\n" in answer
            for frame in (MASKED, b"\x89\x80\x00\x00\x00\x00", CLOSE):
                line.writer.write(frame)
                assert await line.reader.readexactly(len(frame)) == frame
            assert it.host.out == 1
            head = it.heads[0].lower()
            assert head.startswith(b"get /ws/%c3%a9%2f?a=b%20c http/1.1\r\n")
            assert b"connection: upgrade\r\nupgrade: websocket\r\n" in head
            assert b"sec-websocket-protocol: chat, superchat\r\n" in head
            line.writer.close()
            await it.idle()

    play(story())


def test_an_engine_that_ends_ends_the_clients_connection_after_its_last_bytes(play: Play) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN + b"\r\n" + CLOSE)

    async def story() -> None:
        async with scene(once) as it:
            line = await it.call()
            await line.ask("/upstream/tiny/ws")
            assert await line.reader.read() == CLOSE
            await it.idle()

    play(story())


def test_a_client_that_does_not_read_holds_its_engine_back(play: Play) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OPEN + b"\r\n")
        for _ in range(1024):
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async def story() -> None:
        async with scene(flood) as it:
            line = await it.call()
            await line.ask("/upstream/tiny/ws")
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 32 * 1024 * 1024, "64 MiB were to be sent, and nobody took them"

    play(story())


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"HTTP/1.1 404 Not Found\r\n\r\n", b"404"), (b"HTTP/1.1 200 OK\r\n\r\n", b"502"), (b"nonsense\r\n\r\n", b"502"),
     (b"", b"502")],
)  # fmt: skip
def test_an_engine_that_opens_none_is_told_of(answer: bytes, status: bytes, play: Play) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async def story() -> None:
        async with scene(refuse) as it:
            line = await it.call()
            assert (await line.ask("/upstream/tiny/ws")).startswith(b"HTTP/1.1 " + status)
            await it.idle()

    play(story())


def test_a_model_that_ignores_websockets_is_neither_loaded_nor_kept_by_one(play: Play) -> None:
    async def story(phase: Phase) -> bytes:
        host = FakeHost(known=(served("tiny", phase=phase, ignores_websockets=True),))
        async with scene(echo, host) as it:
            line = await it.call()
            answer = await line.ask("/upstream/tiny/ws")
            assert (host.out, host.granted) == (0, 0)
            return answer

    async def both() -> None:
        assert (await story(Phase.LOADED)).startswith(b"HTTP/1.1 101")
        assert (await story(Phase.UNLOADED)).startswith(b"HTTP/1.1 409")

    play(both())


def test_a_file_of_a_page_loads_no_model_by_a_websocket_either(play: Play) -> None:
    async def story() -> None:
        async with scene(echo, FakeHost(known=(served("tiny", phase=Phase.UNLOADED),))) as it:
            assert (await (await it.call()).ask("/upstream/tiny/live.js")).startswith(b"HTTP/1.1 409")
            assert it.host.granted == 0

    play(story())


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("X-None: 1", b"101"),
        ("Origin: http://localhost:3000", b"101"),
        ("Origin: http://here:1", b"101"),
        ("Origin: https://elsewhere.example", b"403"),
        ("Origin: null", b"403"),
    ],
)
def test_a_page_from_elsewhere_opens_none(header: str, status: bytes, play: Play) -> None:
    async def story() -> None:
        async with scene(echo) as it:
            assert (await (await it.call()).ask("/upstream/tiny/ws", header)).startswith(b"HTTP/1.1 " + status)

    play(story())


def test_keys_are_looked_at_before_anything_else(play: Play) -> None:
    async def story() -> None:
        keyring = FakeKeyring()
        key, token = mint(KeyWish(name="a", scopes=(Scope.INFERENCE,)), bytes(36), 0.0)
        keyring.add(key)
        async with scene(echo, keyring=keyring) as it:
            assert (await (await it.call()).ask("/upstream/tiny/ws")).startswith(b"HTTP/1.1 401")
            assert not it.heads
            shown = f"Authorization: Bearer {token}"
            answer = await (await it.call()).ask("/upstream/tiny/ws", shown, "Origin: https://elsewhere.example")
            assert answer.startswith(b"HTTP/1.1 101")
            assert token.encode() not in it.heads[0]

    play(story())


def test_a_server_that_stops_breaks_what_is_open(play: Play) -> None:
    async def story() -> None:
        async with scene(echo) as it:
            line = await it.call()
            await line.ask("/upstream/tiny/ws")
            assert await it.gateway.close(0) == 1
            assert await line.reader.read() == b""

    play(story())


def test_a_client_that_leaves_while_it_waits_leaves_the_line(play: Play) -> None:
    async def story() -> None:
        host = FakeHost(gate=asyncio.Event())
        async with scene(echo, host) as it:
            line = await it.call()
            asked = asyncio.create_task(line.ask("/upstream/tiny/ws"))
            async with asyncio.timeout(60):
                while not host.waiting:  # noqa: ASYNC110 - nothing at the far end of a socket sets an event
                    await asyncio.sleep(0.005)
            line.writer.transport.abort()
            async with asyncio.timeout(60):
                while host.waiting:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.005)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asked

    play(story())
