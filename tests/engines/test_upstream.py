"""The client towards engines, against a server that does as it is told."""

import asyncio
import contextlib
import socket
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.declared import Timeouts
from bercail.core.errors import EngineError, UsageError
from bercail.core.launch import Address, Site
from bercail.engines import FakeServer, HttpUpstream
from bercail.engines.dial import CONNECT_TIMEOUT_S
from bercail.engines.head import render_head
from bercail.engines.line import HIGH_WATER_BYTES
from bercail.web.errors import api_error
from fakes.memory import uncollected

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scripted:
    """A server that runs one handler per connection and counts them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.address: Address

    async def __aenter__(self) -> "Scripted":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address(port=self._server.sockets[0].getsockname()[1])
        self.upstream = HttpUpstream()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.upstream.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def get(self, body: bytes = b"") -> bytes:
        response = await self.upstream.send(self.address, "POST", "/x", [], body)
        return b"".join([piece async for piece in response.chunks()])


async def request(reader: asyncio.StreamReader) -> bytes:
    """One whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return head + await reader.readexactly(length)


def answering(*answers: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request(reader)
            writer.write(answer)
            await writer.drain()

    return handle


def run(handler: Handler, story: Callable[[Scripted], Awaitable[None]]) -> Scripted:
    async def whole() -> Scripted:
        async with Scripted(handler) as server, asyncio.timeout(120):
            await story(server)
            return server

    return asyncio.run(whole())


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
    ],
    ids=["length", "chunked", "until close", "after 1xx", "no body", "HTTP/1.0"],
)
def test_body_is_read_however_it_is_framed(answer: bytes, body: bytes) -> None:
    async def story(server: Scripted) -> None:
        assert await server.get() == body

    run(answering(answer), story)


def test_status_and_headers_arrive_before_the_body() -> None:
    release = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 503 Busy\r\nX-Thing: A\r\nContent-Length: 4\r\n\r\n")
        await release.wait()
        writer.write(b"body")
        await writer.drain()

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        assert (response.status, response.headers[0]) == (503, (b"x-thing", b"A"))
        release.set()
        assert [piece async for piece in response.chunks()] == [b"body"]

    run(handle, story)


def test_connection_is_kept_and_used_again() -> None:
    async def story(server: Scripted) -> None:
        for _ in range(3):
            assert await server.get(b"question") == b"ok"

    assert run(answering(OK, OK, OK), story).connections == 1


def test_connection_that_says_close_is_not_used_again() -> None:
    async def story(server: Scripted) -> None:
        for _ in range(2):
            assert await server.get() == b"ok"

    answer = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert run(answering(answer, answer), story).connections == 2


def test_connection_closed_while_idle_is_replaced_without_a_word() -> None:
    handled: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await writer.drain()
        if not handled:
            handled.append(b"first")
            await request(reader)  # the second request comes, and is not answered: as if both sides had let go at once

    async def story(server: Scripted) -> None:
        assert await server.get() == b"ok"
        assert await server.get() == b"ok"

    assert run(handle, story).connections == 2


def test_second_silence_in_a_row_is_an_error() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)

    async def story(server: Scripted) -> None:
        with pytest.raises(EngineError, match="closed the connection without an answer"):
            await server.get()

    assert run(handle, story).connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "chunked"],
)
def test_body_that_breaks_off_gives_its_pieces_and_then_an_error(answer: bytes) -> None:
    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        chunks = aiter(response.chunks())
        assert await anext(chunks) == b"half"
        for _ in range(2):
            with pytest.raises(EngineError, match="broke off") as caught:
                await anext(chunks)
            assert caught.value.code == "engine_broke_off"

    run(answering(answer), story)


def test_a_head_that_broke_off_does_not_hold_on_to_the_request() -> None:
    async def story(server: Scripted) -> None:
        told = None
        try:
            await server.get()
        except EngineError as error:
            told = weakref.ref(error)
        await asyncio.sleep(0)  # the loop lets go of the answer that has just woken this task
        assert told is not None
        assert told() is None

    with uncollected():
        run(answering(b"HTTP/1.1 200 OK\r\nContent-"), story)


def test_an_answer_that_broke_off_does_not_hold_on_to_whoever_was_told() -> None:
    """Else a request and all it has read would stay until the collector of cycles comes by."""

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        told = None
        try:
            _ = [piece async for piece in response.chunks()]
        except EngineError as error:
            told = weakref.ref(error)
        assert told is not None
        assert told() is None

    with uncollected():
        run(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), story)


def test_head_that_breaks_off_is_an_error() -> None:
    async def story(server: Scripted) -> None:
        with pytest.raises(EngineError, match="broke off"):
            await server.get()

    run(answering(b"HTTP/1.1 200 OK\r\nContent-"), story)


def test_answer_that_is_not_http_is_an_error() -> None:
    async def story(server: Scripted) -> None:
        with pytest.raises(EngineError, match="not HTTP"):
            await server.get()

    run(answering(b"SSH-2.0-something\r\n"), story)


def test_nobody_listening_is_an_error_that_says_so(tmp_path: Path) -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]

    async def story(address: Address) -> None:
        with pytest.raises(EngineError, match="does not answer") as caught:
            await HttpUpstream().send(address, "GET", "/", [], b"")
        assert caught.value.code == "engine_unreachable"

    asyncio.run(story(Address(port=port)))
    asyncio.run(story(Address(unix_path=str(tmp_path / "none.sock"))))


def leaving(seen: "asyncio.Future[float]", answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        seen.set_result(time.monotonic())

    return handle


def test_abort_in_the_middle_of_a_body_closes_the_socket() -> None:
    async def whole() -> None:
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        async with Scripted(leaving(seen, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx")) as server:
            response = await server.upstream.send(server.address, "GET", "/", [], b"")
            response.abort()
            response.abort()
            await asyncio.wait_for(seen, 60)
            with pytest.raises(EngineError, match="given up"):
                await anext(aiter(response.chunks()))

    asyncio.run(whole())


def test_cancelling_while_headers_are_awaited_closes_the_socket() -> None:
    async def whole() -> None:
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        arrived = asyncio.Event()
        handler = leaving(seen, b"")

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await handler(reader, writer)

        async with Scripted(handle) as server:
            task = asyncio.create_task(server.upstream.send(server.address, "GET", "/", [], b""))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(seen, 60)

    asyncio.run(whole())


def test_abort_after_the_end_leaves_the_kept_connection_alone() -> None:
    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        assert [piece async for piece in response.chunks()] == [b"ok"]
        response.abort()
        assert await server.get() == b"ok"

    assert run(answering(OK, OK), story).connections == 1


@pytest.mark.parametrize("comes", [True, False])
def test_the_rest_of_an_answer_that_was_let_go_frees_its_connection_if_it_comes_in_time(*, comes: bool) -> None:
    let_go = asyncio.Event()
    rest = b"x" * (4 * HIGH_WATER_BYTES)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nlast" % (len(rest) + 4))
        await let_go.wait()
        if comes:
            writer.write(rest)
        await request(reader)
        writer.write(OK)
        await writer.drain()

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        assert await anext(aiter(response.chunks())) == b"last"
        response.let_go(60.0 if comes else 0.05)
        let_go.set()
        connection = next(iter(server.upstream._open))
        while connection.usable and not server.upstream._idle[str(server.address)]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        assert connection.usable == comes
        assert response.queued_bytes < HIGH_WATER_BYTES
        if comes:
            assert await server.get() == b"ok"
            assert server.connections == 1

    run(handle, story)


def test_unread_body_is_not_buffered_without_bound() -> None:
    size = 64 * HIGH_WATER_BYTES

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(b"x" * HIGH_WATER_BYTES)
            await writer.drain()

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        for _ in range(200):
            await asyncio.sleep(0)
        assert response.queued_bytes < 4 * HIGH_WATER_BYTES
        assert sum([len(piece) async for piece in response.chunks()]) == size

    run(handle, story)


def test_poured_pieces_are_taken_as_they_come_and_a_refused_one_is_not_lost() -> None:
    heard = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none")
        await heard.wait()
        heard.clear()
        writer.write(b"two")
        await heard.wait()
        writer.write(b"end")

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        taken: list[bytes] = []

        def take(piece: bytes) -> bool:
            heard.set()
            if piece == b"end":
                return False
            taken.append(piece)
            return True

        await response.pour(take)
        assert taken == [b"one", b"two"]
        assert [piece async for piece in response.chunks()] == [b"end"]

    run(handle, story)


@pytest.mark.parametrize("breaks", [False, True])
def test_pouring_ends_with_the_body_and_its_error_is_told_by_the_pieces(*, breaks: bool) -> None:
    length = 4 if breaks else 2
    handle = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nok" % length)

    async def story(server: Scripted) -> None:
        response = await server.upstream.send(server.address, "GET", "/", [], b"")
        taken: list[bytes] = []

        def take(piece: bytes) -> bool:
            taken.append(piece)
            return True

        await response.pour(take)
        rest = response.chunks()
        if breaks:
            with pytest.raises(EngineError, match="in the middle"):
                await anext(rest)
        assert b"".join([*taken, *([] if breaks else [piece async for piece in rest])]) == b"ok"

    run(handle, story)


def test_answer_before_the_question_was_taken_is_read_and_the_connection_dropped() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await reader.read()

    async def story(server: Scripted) -> None:
        assert await server.get(b"x" * 30_000_000) == b"ok"
        assert server.upstream._take(server.address) is None

    run(handle, story)


def test_large_body_arrives_whole() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%07d" % (len(data.partition(b"\r\n\r\n")[2])))
        await writer.drain()

    async def story(server: Scripted) -> None:
        assert await server.get(b"y" * 3_000_000) == b"3000000"

    run(handle, story)


def test_many_at_once_get_through_a_short_backlog(tmp_path: Path) -> None:
    async def story() -> None:
        address = Address(unix_path=str(tmp_path / "s.sock"))
        loop = asyncio.get_running_loop()
        plug = socket.socket(socket.AF_UNIX)
        plug.bind(address.unix_path or "")
        plug.listen(1)
        fake = FakeServer()
        upstream = HttpUpstream()
        sends = [asyncio.create_task(upstream.send(address, "GET", "/health", [], b"")) for _ in range(20)]
        await asyncio.sleep(0.01)  # until all have knocked and the backlog is full
        server = await loop.create_unix_server(fake.protocol, sock=plug)
        assert [response.status for response in await asyncio.wait_for(asyncio.gather(*sends), 60)] == [200] * 20
        await upstream.close()
        server.close()
        await fake.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/x\r\nHost: evil", []),
        ("GET", "/x y", []),
        ("GE T", "/x", []),
        ("GET", "/x", [(b"a", b"b\r\nc: d")]),
        ("GET", "/x", [(b"a", b"b\nc: d")]),
        ("GET", "/x", [(b"a", b"b\rc")]),
        ("GET", "/x", [(b"a: b\r\nc", b"d")]),
        ("GET", "/x", [(b"content-length ", b"9")]),
        ("GET", "/x", [(b"", b"d")]),
        ("GET", "/x", [(b"a", b"\0")]),
    ],
)
def test_nothing_can_be_smuggled_into_a_head(method: str, target: str, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UsageError):
        render_head(method, target, headers, 0)


def test_framing_headers_of_the_caller_are_left_out() -> None:
    head = render_head("POST", "/x", [(b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"A", b"b")], 3)
    assert head == b"POST /x HTTP/1.1\r\nhost: localhost\r\nA: b\r\ncontent-length: 3\r\n\r\n"


@given(st.text(), st.lists(st.tuples(st.binary(), st.binary())))
def test_head_has_exactly_its_lines_or_is_refused(target: str, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        head = render_head("POST", target, headers, 1)
    except UsageError:
        return
    assert head.endswith(b"\r\n\r\n")
    assert len(head[:-4].split(b"\n")) <= len(headers) + 3
    assert head.count(b"\r") == head.count(b"\n")


def test_headers_that_do_not_come_in_time_are_told_with_the_setting() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await request(reader)
        await reader.read()

    async def story() -> None:
        async with Scripted(silent) as server:
            server.address = replace(server.address, timeouts=Timeouts(response_header_s=0.05))
            with pytest.raises(EngineError, match=r"sent no headers within 0\.05 s") as caught:
                await server.get()
        assert (caught.value.code, api_error(caught.value, started=True).status) == ("engine_timeout", 504)
        assert "timeouts.responseHeader" in caught.value.hint

    asyncio.run(story())


def test_headers_in_time_may_be_followed_by_a_slow_body() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK[:-2])
        await asyncio.sleep(1.3)
        writer.write(OK[-2:])
        await writer.drain()

    async def story() -> None:
        async with Scripted(slow) as server:
            server.address = replace(server.address, timeouts=Timeouts(response_header_s=1.0))
            assert await server.get() == b"ok"

    asyncio.run(story())


def test_connections_to_servers_elsewhere_are_kept_as_long_as_wished_and_ours_never_longer_than_theirs() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(OK)

    async def connections(site: Site | None, timeouts: Timeouts | None, idle_s: float) -> int:
        async with Scripted(serve) as server:
            server.address = replace(server.address, site=site, timeouts=timeouts)
            await server.get()
            [pool] = server.upstream._idle.values()
            pool[0].idle_since_s -= idle_s
            await server.get()
            return server.connections

    far, near = Site(authority="h"), Site(authority="h", ours=True)
    for site, timeouts, idle_s, expected in (
        (far, Timeouts(idle_s=90.0), 60, 1),
        (far, Timeouts(idle_s=50.0), 60, 2),
        (far, Timeouts(idle_s=None), 9999, 1),
        (far, None, 5, 2),
        (near, Timeouts(idle_s=90.0), 5, 2),
        (None, Timeouts(idle_s=1.0), 2, 2),
    ):
        assert asyncio.run(connections(site, timeouts, idle_s)) == expected


def test_a_connection_that_takes_too_long_is_given_up_as_the_configuration_says() -> None:
    async def story() -> float:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        upstream, begun_s = HttpUpstream(), time.monotonic()
        address = Address(port=listener.getsockname()[1], timeouts=Timeouts(connect_s=0.2))
        try:
            with pytest.raises(EngineError, match="no connection in time"):
                await upstream.send(address, "GET", "/", [], b"")
        finally:
            for one in (listener, *fillers):
                one.close()
        return time.monotonic() - begun_s

    assert 0.15 < asyncio.run(story()) < 0.9 * CONNECT_TIMEOUT_S


def test_a_silent_connection_is_probed_as_the_configuration_says() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await reader.read()

    async def story(keepalive_s: float | None) -> int:
        async with Scripted(serve) as server:
            server.address = replace(server.address, timeouts=Timeouts(keepalive_s=keepalive_s))
            await server.get()
            [pool] = server.upstream._idle.values()
            plug = pool[0]._transport.get_extra_info("socket")
            on = plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            return int(plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)) if on else 0

    assert [asyncio.run(story(keepalive_s)) for keepalive_s in (7.0, None)] == [7, 0]


def test_a_tls_handshake_that_hangs_is_given_up() -> None:
    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def story() -> None:
        async with Scripted(deaf) as server:
            site, timeouts = Site(authority="localhost", tls=True), Timeouts(tls_handshake_s=0.1)
            server.address = replace(server.address, site=site, timeouts=timeouts)
            with pytest.raises(EngineError, match="no connection in time"):
                await server.get()

    asyncio.run(story())
