"""A client's connection: HTTP/1.1, with bounds on what comes before a request is complete."""

import asyncio
from collections import deque
from functools import lru_cache, partial
from typing import Protocol, cast
from urllib.parse import unquote

import httptools

from bercail.core.chat import ApiError
from bercail.core.options import ServerOptions
from bercail.core.units import KIB, Bytes, Seconds
from bercail.web.asgi import CLOSE, Headers, Receive, Scope, Send, answer
from bercail.web.call import STATUS_LINES, Application, Call
from bercail.web.errors import written

MOST_HEAD_BYTES: Bytes = 64 * KIB
"""Request line and headers together."""
HIGH_WATER_BYTES: Bytes = 64 * KIB
"""A body that nobody takes is buffered up to here, then the socket is left alone."""
LOOK_S: Seconds = 1.0
"""Between two looks at who is too slow or idles; a timer for each request would cost more."""
KEEP_ALIVE_S: Seconds = 75
"""Idle connections live longer here than in clients' pools, so that no request meets a connection being closed."""
LINGER_S: Seconds = 2.0
"""How long what comes after a refusal is thrown away: to close at once can take the refusal from its reader."""
FULL_RETRY_S = 1


class Lobby:
    """Every connection there is, and who of them is shown out.

    Args:
        app: what answers.
        options: how many there may be, and how long a head may take.
        loop: that they live in.
    """

    def __init__(self, app: Application, options: ServerOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.options = options
        self.connections: set[_Connection] = set()
        self._loop = loop
        self._made = 0
        self._every_s = min(LOOK_S, options.header_timeout / 4)
        self._timer = loop.call_later(self._every_s, self._look)

    def let_in(self) -> "_Connection":
        """A connection, which will tell when it is made."""
        self._made += 1
        return _Connection(self, self._made, self._loop)

    def has_room(self, newest: "_Connection") -> bool:
        """Whether one more may come in; where there are as many as may be, one that asks for nothing leaves for it."""
        if len(self.connections) <= self.options.connections:
            return True
        here = [one for one in self.connections if not one.transport.is_closing()]  # many may come before one is gone
        if len(here) <= self.options.connections:
            return True
        idle = [one for one in here if one is not newest and not one.is_served]
        if not idle:
            return False
        min(idle, key=lambda one: (one.since_s, one.number)).show_out(_full(self.options.connections))
        return True

    def close(self) -> None:
        """Cut all connections."""
        self._timer.cancel()
        for one in tuple(self.connections):
            one.transport.close()

    def _look(self) -> None:
        limit_s, now_s = self.options.header_timeout, self._loop.time()
        for one in tuple(self.connections):
            if one.begun and now_s - one.since_s >= limit_s:
                one.show_out(_slow(limit_s))
            elif not (one.begun or one.is_served) and now_s - one.since_s >= KEEP_ALIVE_S:
                one.transport.close()
        self._timer = self._loop.call_later(self._every_s, self._look)


class _Parser(Protocol):
    """The part of ``httptools.HttpRequestParser`` that is used; the library ships no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_http_version(self) -> str: ...
    def get_method(self) -> bytes: ...
    def set_dangerous_leniencies(self, *, lenient_data_after_close: bool) -> None: ...
    def should_keep_alive(self) -> bool: ...


class _Connection(asyncio.Protocol):
    """One of them: requests that are read one after the other, and answered in that order.

    What is no HTTP, too long or too slow is answered in JSON, and no request is forgotten when pipelined ones follow.
    What is noted for that is noted once for a piece that arrives, not for each of its headers.

    Attributes:
        number: they are counted, since many can come within one tick of the loop's clock.
        begun: a request is awaited that must be complete up to its headers in time.
        since_s: when it began to wait for a request, or last had an answer.
        is_full: its client does not read what was written last.
    """

    transport: asyncio.Transport
    _client: tuple[str, int] | None = None

    def __init__(self, lobby: Lobby, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.begun = True
        self.since_s: Seconds = loop.time()
        self.is_full = False
        self._lobby = lobby
        self._loop = loop
        self._parser: _Parser | None = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # who says "close" may send on
        self._url = b""
        self._headers: Headers = []
        self._waits = self._is_partial = False
        self._read: Call | None = None
        self._active: Call | None = None
        self._pipeline: deque[tuple[Call, Application, Scope]] = deque()
        self._writable = asyncio.Event()
        self._piece_bytes = self._loose_bytes = 0
        self._surplus = self._deaf = self._is_paused = self._is_lost = False

    @property
    def is_served(self) -> bool:
        """Whether a request of it is being answered."""
        return self._read is not None and not self._read.complete

    def show_out(self, error: ApiError) -> None:
        """End it; if a part of a request has come, with the reason."""
        if self._deaf or not self._is_partial:
            self.transport.close()
        else:
            self._refuse(error)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the class
        peer = transport.get_extra_info("peername")
        self._client = (peer[0], peer[1]) if isinstance(peer, tuple) else None  # a unix socket's is a text
        self._lobby.connections.add(self)
        self._surplus = not self._lobby.has_room(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._parser is None:
            return
        if not self.begun and not self.is_served:
            self.begun, self.since_s, self._loose_bytes = True, self._loop.time(), 0
        self._piece_bytes = len(data)
        self._loose_bytes += self._piece_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # such a request is answered as if no upgrade had been offered
        except httptools.HttpParserError:
            self._refuse(_NO_HTTP)
        if self._loose_bytes > MOST_HEAD_BYTES:
            self.show_out(_LONG)  # also one whose trailers have no end

    def pause_writing(self) -> None:
        self.is_full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.is_full = False
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._lobby.connections.discard(self)
        self._parser = None  # it leads back here
        self.resume_writing()
        calls = (self._active, self._read, *(call for call, _, _ in self._pipeline))
        self._pipeline.clear()
        for call in dict.fromkeys(calls):
            if call is not None:
                call.leave()
        if self._active is None or self._active.task is None:
            self._let_go()

    def _let_go(self) -> None:
        """Leave nothing of a connection for the collector of cycles."""
        self._active = self._read = None

    # httptools

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", []
        self._waits, self._is_partial = False, True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._waits = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None, "it is the one who calls"
        long = max(self._loose_bytes, self._piece_bytes) > MOST_HEAD_BYTES and self._head_bytes() > MOST_HEAD_BYTES
        headers, self._headers = self._headers, []  # trailers would join those that were judged
        self.begun, self._loose_bytes, self._is_partial = False, 0, False
        method = parser.get_method().decode("ascii")
        chunks = parser.get_http_version() != "1.0"
        stays = chunks and parser.should_keep_alive()
        call = Call(self, self._loop, head=method == "HEAD", stays=stays, waits=self._waits, chunks=chunks)
        path, raw_path, query = _parts(self._url)
        scope: Scope = {
            "type": "http", "method": method, "path": path, "raw_path": raw_path, "query_string": query,
            "headers": headers, "client": self._client, "whole": call.whole, "watch": call.watch, "push": call.push,
            "take": self._hand_over,
        }  # fmt: skip
        app = self._lobby.app
        if self._surplus or long:
            app = partial(_refusing, _LONG if long else _full(self._lobby.options.connections))
        if self.is_served:
            self._pause()
            self._pipeline.append((call, app, scope))
        else:
            self._start(call, app, scope)
        self._read = call

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        call = self._read
        if call is None or call.complete:
            return
        call.add(body)
        if call.waiting_bytes > HIGH_WATER_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        if self._read is not None:
            self._read.end()

    def _head_bytes(self) -> Bytes:
        return len(self._url) + sum(len(name) + len(value) for name, value in self._headers)

    # A call and its connection

    def _start(self, call: Call, app: Application, scope: Scope) -> None:
        self._active = call
        call.task = self._loop.create_task(call.run(app, scope))

    def answered(self) -> None:
        """Go on with the next call, if one waits."""
        if self.transport.is_closing():
            return
        self.hear()
        self.since_s = self._loop.time()
        if self._pipeline:
            self._start(*self._pipeline.popleft())

    def over(self) -> None:
        """The application has done with its call."""
        if self._is_lost:
            self._let_go()

    async def drain(self) -> None:
        """Wait until the client reads, or has gone."""
        await self._writable.wait()

    def hear(self) -> None:
        """Go on reading."""
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _hand_over(self) -> asyncio.Transport:
        """Let go of the connection: whoever takes it speaks no HTTP, and ends it."""
        self._lobby.connections.discard(self)
        self._parser, self._is_lost = None, True  # nothing is told here of its end
        if self._active is not None:
            self._active.hand_over()
        return self.transport

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no whole request, and hear nothing more; where an answer is on its way, only end it."""
        self._deaf = True
        if self.is_served:
            self.transport.close()
            return
        headers, body = written(error)
        lines = [name + b": " + value for name, value in [*headers, CLOSE]]
        lines.append(b"content-length: " + str(len(body)).encode())
        self.transport.write(STATUS_LINES[error.status] + b"\r\n".join([*lines, b"", body]))
        self.transport.write_eof()
        self._loop.call_later(LINGER_S, self.transport.abort)


@lru_cache(maxsize=256)  # clients ask for the same few paths all day
def _parts(url: bytes) -> tuple[str, bytes, bytes]:
    """The path of a target, decoded; the same as it came; and what follows its question mark.

    Raises:
        HttpParserInvalidURLError: it has no such form.
    """
    found = httptools.parse_url(url)
    path = found.path.decode("ascii")
    return unquote(path) if "%" in path else path, found.path, found.query or b""


async def _refusing(error: ApiError, _: Scope, __: Receive, send: Send) -> None:
    headers, body = written(error)
    await answer(send, error.status, [*headers, CLOSE], body)


_NO_HTTP = ApiError(status=400, message="Invalid HTTP request received", code="invalid_http")
_LONG = ApiError(
    status=431,
    message=f"the request line and the headers are longer than {MOST_HEAD_BYTES} bytes",
    code="headers_too_large",
)


def _slow(limit_s: Seconds) -> ApiError:
    words = f"the headers were not complete within {limit_s:g} s; the server's owner can change that (--header-timeout)"
    return ApiError(status=408, message=words, code="slow_headers", final=True)


def _full(most: int) -> ApiError:
    words = f"the server has {most} connections, which is the most it takes; its owner can change that (--connections)"
    return ApiError(
        status=503, message=words, kind="server_error", code="too_many_connections", retry_after_s=FULL_RETRY_S
    )
