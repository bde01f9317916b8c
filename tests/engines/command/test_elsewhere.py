"""Servers elsewhere: with names, TLS, prefixes and keys, against real ones on loopback."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bercail.core.command import CommandSpec
from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.pulse import Pulse
from bercail.engines import Commands, HttpUpstream
from bercail.engines.command import Elsewhere
from bercail.engines.command.site import parse_url
from fakes.certificates import Certificates, make_certificates

HEAD = b"HTTP/1.1 %d Answer\r\nContent-Length: %d\r\n\r\n%s"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Server:
    """Answers with the head of the question; counts its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.status = 200
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(HEAD % (self.status, len(head), head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


async def ask(upstream: HttpUpstream, address: Address, headers: list[tuple[bytes, bytes]]) -> list[str]:
    response = await upstream.send(address, "GET", "/v1/models", headers, b"")
    body = b"".join([piece async for piece in response.chunks()])
    return body.decode().split("\r\n")


def tell(story: Callable[[], Awaitable[None]], *, uvloop: bool = False) -> None:
    async def whole() -> None:
        async with asyncio.timeout(120):
            await story()

    if not uvloop:
        asyncio.run(whole())
        return
    loops = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        runner.run(whole())


def refusal(address: Address, trust: ssl.SSLContext | None) -> EngineError:
    async def story() -> None:
        upstream = HttpUpstream(trust)
        try:
            await upstream.send(address, "GET", "/", [], b"")
        finally:
            await upstream.close()

    with pytest.raises(EngineError) as caught:
        asyncio.run(story())
    return caught.value


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_a_server_that_proves_its_name_is_asked_by_it_with_its_own_key(
    certificates: Certificates, *, uvloop: bool
) -> None:
    async def story() -> None:
        upstream = HttpUpstream(certificates.trust)
        async with Server().running(certificates.server) as server:
            address = parse_url(f"https://localhost:{server.port}/api/", (("Authorization", "Bearer theirs"),))
            for _ in range(2):
                lines = await ask(upstream, address, [(b"authorization", b"Bearer ours"), (b"accept", b"*/*")])
                assert lines[:4] == [
                    "GET /api/v1/models HTTP/1.1", f"host: localhost:{server.port}", "accept: */*",
                    "Authorization: Bearer theirs",
                ]  # fmt: skip
            assert server.connections == 1
            await upstream.close()

    tell(story, uvloop=uvloop)


def test_a_large_answer_over_tls_arrives_whole_and_a_lost_client_is_noticed(certificates: Certificates) -> None:
    size = 4_000_000
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
                await writer.drain()  # returns when the client has taken it, or has gone
        left.set()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server)
        address = parse_url(f"https://localhost:{server.sockets[0].getsockname()[1]}")
        upstream = HttpUpstream(certificates.trust)
        response = await upstream.send(address, "GET", "/", [], b"")
        assert sum([len(piece) async for piece in response.chunks()]) == size
        response = await upstream.send(address, "GET", "/", [], b"")
        async for _ in response.chunks():
            break
        response.abort()
        await left.wait()
        await upstream.close()
        server.close()

    tell(story)


def test_an_unknown_authority_is_not_believed(certificates: Certificates) -> None:
    async def story() -> None:
        async with Server().running(certificates.server) as server:
            error = await failing(parse_url(f"https://localhost:{server.port}/v1"), None)
            assert error.code == "certificate"
            assert f"https://localhost:{server.port}/v1 does not prove that it is the one" in error.message
            assert "SSL_CERT_FILE" in error.hint

    tell(story)


async def failing(address: Address, trust: ssl.SSLContext | None) -> EngineError:
    upstream = HttpUpstream(trust)
    with pytest.raises(EngineError) as caught:
        await upstream.send(address, "GET", "/", [], b"")
    await upstream.close()
    return caught.value


def test_a_certificate_for_another_name_is_not_believed(certificates: Certificates) -> None:
    async def story() -> None:
        async with Server().running(certificates.server) as server:
            error = await failing(parse_url(f"https://127.0.0.1:{server.port}"), certificates.trust)
            assert error.code == "certificate"
            assert "127.0.0.1" in error.message
            assert "not valid for" in error.message

    tell(story)


def test_tls_with_a_plain_server_says_so(certificates: Certificates) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        error = await failing(parse_url(f"https://localhost:{port}"), certificates.trust)
        assert error.code == "tls"
        assert f"no TLS with https://localhost:{port}" in error.message
        assert "http://" in error.hint
        server.close()

    tell(story)


def test_a_system_that_is_told_of_the_authority_believes_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))

    async def story() -> None:
        upstream = HttpUpstream()
        async with Server().running(certificates.server) as server:
            assert any(await ask(upstream, parse_url(f"https://localhost:{server.port}"), []))
            await upstream.close()

    tell(story)


def test_a_name_that_nobody_has_is_told() -> None:
    error = refusal(parse_url("http://no-such-host.invalid:81"), None)
    assert error.code == "engine_unreachable"
    if "no connection in time" in error.message:
        pytest.skip("the resolver of this machine does not answer")
    assert error.message.startswith("http://no-such-host.invalid:81 does not answer: its name cannot be resolved")


def test_nobody_there_is_told() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    error = refusal(parse_url(f"http://localhost:{port}"), None)
    assert error.message == f"http://localhost:{port} does not answer: Connection refused"


# As a process


def elsewhere(**more: object) -> CommandSpec:
    return CommandSpec(**{"model_id": "peer", **more})  # type: ignore[arg-type] # a test names what it changes


def test_nothing_is_spawned_for_it_and_it_runs_until_it_is_let_go() -> None:
    async def story() -> None:
        async with Server().running() as server:
            spec = elsewhere(url=f"http://localhost:{server.port}", headers=(("authorization", "Bearer x"),))
            process = await Commands(os.environ).start(spec, lambda _: None)
            assert isinstance(process, Elsewhere)
            assert (process.pid, process.stop_argv, process.log_tail(), process.landed()) == (0, (), (), ())
            assert process.resident_bytes() is None
            waiting = asyncio.create_task(process.wait())
            upstream = HttpUpstream()
            assert "Bearer x" in "".join(await ask(upstream, process.address, []))
            await upstream.close()
            assert not waiting.done()
            assert await process.stop(0.0) == await process.stop(0.0) == await waiting

    tell(story)


def test_a_bad_url_is_told_at_once() -> None:
    with pytest.raises(EngineError, match="names no host"):
        asyncio.run(Commands({}).start(elsewhere(url="https://"), lambda _: None))


@pytest.mark.parametrize(
    ("check_path", "status", "words"),
    [("/health", 200, ""), ("/health", 503, "GET /health gives 503"), ("", 404, "")],
)
def test_it_is_asked_whether_it_is_well(check_path: str, status: int, words: str) -> None:
    async def story() -> None:
        async with Server().running() as server:
            server.status = status
            spec = elsewhere(url=f"http://127.0.0.1:{server.port}/api", check_path=check_path)
            process = await Commands({}).start(spec, lambda _: None)
            assert await process.pulse(60.0) == Pulse(words=words)
        assert isinstance(process, Elsewhere)
        gone = Elsewhere(spec, parse_url("http://no-such-host.invalid"), None)
        assert "no-such-host" in (await gone.pulse(60.0)).words

    tell(story)


def test_one_that_says_nothing_is_not_well() -> None:
    async def story() -> None:
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            plug.listen()
            spec = elsewhere(url=f"http://127.0.0.1:{plug.getsockname()[1]}")
            assert (await (await Commands({}).start(spec, lambda _: None)).pulse(0.1)).silent

    tell(story)
