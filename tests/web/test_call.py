"""A request on a connection is told to the application, and its answer written, as HTTP has them."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bercail.core.options import ServerOptions
from bercail.web.asgi import Headers, Receive, Scope, Send, answer
from bercail.web.connection import KEEP_ALIVE_S, Lobby
from fakes.line import FakeLine
from fakes.loop import run
from fakes.memory import uncollected

App = Callable[[Scope, Receive, Send], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n"
TEXT: Headers = [(b"Content-Type", b"text/plain")]


class Visit:
    """A connection to an application, and what comes back on it."""

    def __init__(self, app: App, line: FakeLine | None = None) -> None:
        self.line = line or FakeLine()
        self.lobby = Lobby(app, ServerOptions(), asyncio.get_running_loop())
        self.connection = self.lobby.let_in()
        self.connection.connection_made(self.line)

    async def send(self, *pieces: bytes) -> bytes:
        """Have pieces arrive one by one; what has been written since the beginning."""
        for piece in pieces:
            self.connection.data_received(piece)
            await asyncio.sleep(0.001)
        return self.line.written

    def end(self) -> None:
        """The client leaves."""
        self.connection.connection_lost(None)
        self.lobby.close()


def visit(app: App, *pieces: bytes) -> FakeLine:
    """What comes of it."""

    async def scene() -> FakeLine:
        there = Visit(app)
        await there.send(*pieces)
        there.end()
        return there.line

    return run(scene)


async def greet(_: Scope, __: Receive, send: Send) -> None:
    await answer(send, 200, TEXT, b"hello")


async def stream(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    for piece in (b"one", b"", b"two"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"three", "more_body": False})


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


def test_an_answer_and_its_head_are_one_write() -> None:
    line = visit(greet, GET)
    assert line.writes == [HEAD + b"content-length: 5\r\n\r\nhello"]
    assert not line.is_closing()


def test_a_client_that_knows_no_chunks_reads_a_stream_up_to_the_end_of_the_connection() -> None:
    line = visit(stream, GET.replace(b"1.1", b"1.0"))
    assert line.writes == [HEAD + b"connection: close\r\n\r\none", b"two", b"three"]
    assert line.is_closing()


def test_a_stream_has_its_head_with_its_first_piece_and_its_end_with_the_last() -> None:
    assert visit(stream, GET).writes == [
        HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n", b"3\r\ntwo\r\n", b"5\r\nthree\r\n0\r\n\r\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_head", "closes"),
    [
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", True),
        (GET, False),
    ],
)
def test_a_connection_that_is_not_to_stay_ends_with_its_answer_and_says_so(request_head: bytes, closes: bool) -> None:
    line = visit(greet, request_head)
    assert (b"connection: close\r\n" in line.written) is line.is_closing() is closes


def test_the_answer_to_head_has_no_body() -> None:
    assert visit(greet, b"HEAD / HTTP/1.1\r\n\r\n").written == HEAD + b"content-length: 5\r\n\r\n"
    assert visit(stream, b"HEAD / HTTP/1.1\r\n\r\n").written == HEAD + b"\r\n"


def test_a_status_without_a_body_has_none() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": []})
        await send({"type": "http.response.body"})

    assert visit(app, GET).written == b"HTTP/1.1 304 Not Modified\r\n\r\n"


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        await asyncio.sleep({"/slow": 0.05}.get(scope["path"], 0.0))
        await answer(send, 200, [], scope["path"].encode())

    async def scene() -> bytes:
        there = Visit(app)
        await there.send(b"".join(b"GET /%s HTTP/1.1\r\n\r\n" % name for name in (b"slow", b"b", b"c%20d")))
        assert not there.line.is_reading()
        await asyncio.sleep(0.1)
        assert there.line.is_reading()
        there.end()
        return there.line.written

    said = run(scene)
    assert said.index(b"/slow") < said.index(b"/b") < said.index(b"/c d")


@pytest.mark.parametrize(("peer", "client"), [(("192.0.2.7", 4567, 0, 0), ("192.0.2.7", 4567)), ("", None)])
def test_a_request_tells_where_it_came_from_and_what_it_asks_for(peer: object, client: object) -> None:
    heard: list[Scope] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        heard.append(scope)
        await answer(send, 200, [], b"")

    async def scene() -> None:
        there = Visit(app, FakeLine(peer))
        await there.send(b"PUT /a%20b?c=%20d HTTP/1.1\r\nX-One: a\r\nx-two: B\r\n\r\n")
        there.end()

    run(scene)
    [scope] = heard
    assert scope["client"] == client
    assert scope["method"] == "PUT"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%20d")
    assert scope["headers"] == [(b"x-one", b"a"), (b"x-two", b"B")]


def test_a_body_is_had_at_once_when_it_is_there_and_waited_for_when_it_is_not() -> None:
    heard: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope["whole"]()
        heard.append(whole)
        while whole is None:
            message = await receive()
            heard.append((message["body"], message["more_body"]))
            whole = None if message["more_body"] else b""
        await answer(send, 204, [], b"")

    visit(app, POST + b"four", POST + b"fo", b"ur")
    assert heard == [b"four", None, (b"fo", True), (b"ur", False)]


def test_a_long_body_that_nobody_takes_leaves_the_rest_in_the_socket() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        size = 0
        while (message := await receive())["more_body"]:
            size += len(message["body"])
        await answer(send, 200, [], b"%d" % (size + len(message["body"])))

    async def scene() -> bytes:
        there = Visit(app)
        await there.send(b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n", b"a" * 70_000)
        assert not there.line.is_reading()
        await asyncio.sleep(1)
        assert there.line.is_reading()
        await there.send(b"a" * 30_000)
        there.end()
        return there.line.written

    assert run(scene).endswith(b"100000")


@pytest.mark.parametrize("told", [True, False])
def test_a_client_that_waits_to_be_told_to_go_on_is_told_when_its_body_is_wanted(told: bool) -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        if told:
            await receive()
        await answer(send, 200, [], b"")

    line = visit(app, b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\ncontent-length: 4\r\n\r\n", b"four")
    assert line.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200" if told else b"HTTP/1.1 200")


def test_a_client_that_leaves_is_told_to_who_watches_and_to_who_waits() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["watch"](lambda: heard.append("left"))
        await receive()
        heard.append((await receive())["type"])
        scope["watch"](lambda: heard.append("had left"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert not scope["push"](b"a")

    async def scene() -> bytes:
        there = Visit(app)
        await there.send(GET)
        there.end()
        await asyncio.sleep(0.1)
        return there.line.written

    assert run(scene) == b""
    assert heard == ["left", "http.disconnect", "had left"]


def test_pieces_are_pushed_only_into_a_stream_that_has_begun_and_is_read() -> None:
    pushed: list[bool] = []

    async def scene() -> bytes:
        async def app(scope: Scope, _: Receive, send: Send) -> None:
            push = scope["push"]
            pushed.append(push(b"early"))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            pushed.append(push(b"before the head"))
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            pushed.append(push(b"one"))
            there.connection.pause_writing()
            pushed.append(push(b"unread"))
            asyncio.get_running_loop().call_later(0.1, there.connection.resume_writing)
            await send({"type": "http.response.body", "body": b"two", "more_body": True})
            pushed.extend((push(b""), push(b"three")))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            pushed.append(push(b"late"))

        there = Visit(app)
        await there.send(GET)
        await asyncio.sleep(0.2)
        there.end()
        return there.line.written

    assert run(scene).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
    assert pushed == [False, False, True, False, True, True, False]


def starts(*headers: tuple[bytes, bytes]) -> App:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello", "more_body": False})

    return app


async def twice(_: Scope, __: Receive, send: Send) -> None:
    await stream(_, __, send)
    await answer(send, 200, [], b"again")


async def halfway(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})


async def silent(_: Scope, __: Receive, ___: Send) -> None:
    """Says nothing."""


@pytest.mark.parametrize(
    "app",
    [starts((b"content-length", b"4")), starts((b"content-length", b"6")), starts((b"x", b"a\r\nb: c")),
     starts((b"x y", b"a")), starts((b"", b"a")), halfway, silent],
)  # fmt: skip
def test_an_answer_that_is_not_as_it_says_or_stays_half_done_is_broken_off(app: Any) -> None:
    line = visit(app, GET)
    assert line.is_closing()
    assert not line.written.endswith((b"hello", b"0\r\n\r\n"))


def test_what_breaks_before_its_answer_is_told_as_an_error_of_ours_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise ValueError("oops")

    line = visit(app, GET)
    assert line.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b'"code":"internal"' in line.written
    assert "oops" in caplog.text


def test_what_breaks_after_its_answer_changes_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    assert visit(twice, GET).written.endswith(b"three\r\n0\r\n\r\n")
    assert "its place between its head and its end" in caplog.text or "begins once" in caplog.text


def test_a_connection_that_idles_for_long_is_closed() -> None:
    async def scene() -> None:
        there = Visit(greet)
        await there.send(GET)
        await asyncio.sleep(KEEP_ALIVE_S - 5)
        await there.send(GET)
        await asyncio.sleep(KEEP_ALIVE_S - 5)
        assert not there.line.is_closing()
        await asyncio.sleep(10)
        assert there.line.is_closing()
        there.lobby.close()

    run(scene)


def test_a_connection_that_left_http_is_let_go_of_without_the_collector() -> None:
    async def app(scope: Scope, _: Receive, __: Send) -> None:
        scope["take"]()

    async def scene() -> weakref.ref[object]:
        there = Visit(app)
        await there.send(GET)
        assert not there.line.is_closing()
        there.lobby.close()
        return weakref.ref(there.connection)

    with uncollected():
        assert run(scene)() is None
