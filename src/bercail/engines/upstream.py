"""The HTTP/1.1 client towards engines, the only one on the hot path: pooled, streaming, cancelled by closing."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, cast

import httptools

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import KIB, Bytes, Seconds
from bercail.engines.dial import dial
from bercail.engines.head import Headers, render_head
from bercail.engines.tunnel import Tunnel, open_tunnel

HIGH_WATER_BYTES = 256 * KIB
"""A body that nobody reads is buffered up to here, then the socket is left alone."""

IDLE_S = 4.0
"""Engines built on cpp-httplib close a connection after 5 idle seconds; ours are given up before."""
IDLE_CONNECTIONS = 64
_JOIN_BYTES = 64 * KIB
_FRAMES = frozenset((b"content-length", b"transfer-encoding"))
"""Either says where a body ends; without them it is where the connection does."""


class _StaleError(Exception):
    """The connection ended before any byte of a response."""


class _Parser(Protocol):
    """The part of ``httptools.HttpResponseParser`` that is used; the library ships no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_status_code(self) -> int: ...
    def should_keep_alive(self) -> bool: ...


class Response:
    """An answer whose headers have arrived; implements ``ports.UpstreamResponse``."""

    __slots__ = ("_connection", "_error", "_limit", "_pieces", "_take", "_waiter", "headers", "queued_bytes", "status")

    def __init__(self, connection: "_Connection", status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self.queued_bytes: Bytes = 0
        self._connection: _Connection | None = connection
        self._error: EngineError | None = None
        self._pieces: list[bytes] = []
        self._take: Callable[[bytes], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._limit: asyncio.TimerHandle | None = None

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, queued pieces joined."""
        return self

    def let_go(self, within_s: Seconds) -> None:
        """Forget what is left of the body; a connection on which it has not ended in time is closed."""
        if self._connection is not None:
            self._empty()
            self._take = _forget
            self._limit = asyncio.get_running_loop().call_later(within_s, self.abort)

    def abort(self) -> None:
        """Close the connection now; harmless when the body has ended."""
        if self._connection is not None:
            self._connection.abort()
            self._pieces.clear()
            self.end(EngineError("the request was given up", code="engine_aborted"))

    def __aiter__(self) -> "Response":
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._tell()
            if self._connection is None:
                raise StopAsyncIteration
            await self._change()
        data = self._queued()
        self._empty()
        return data

    def _tell(self) -> EngineError:
        """The error that has ended the body; a copy of it stays, for what is raised holds on to whoever raised it."""
        error = self._error
        assert error is not None, "asked for only where there is one"
        self._error = EngineError(error.message, hint=error.hint, code=error.code)
        return error

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand the body to ``take`` as it comes, until it refuses a piece or the body ends."""
        if self._pieces:
            if not take(self._queued()):
                return
            self._empty()
        self._take = take
        try:
            while self._is_poured():
                await self._change()
        finally:
            self._take = None

    def _is_poured(self) -> bool:
        return self._take is not None and self._connection is not None

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _queued(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _empty(self) -> None:
        self._pieces.clear()
        self.queued_bytes = 0
        if self._connection is not None:
            self._connection.resume()

    def add(self, data: bytes) -> None:
        """What one read has brought of the body: whoever takes it gets it now, whoever waits for it is woken."""
        if self._take is not None and self._take(data):
            return
        self._take = None
        self._pieces.append(data)
        self.queued_bytes += len(data)
        self._wake()

    def end(self, error: EngineError | None = None) -> None:
        """The body has ended, well or with ``error``; the first end counts."""
        if self._connection is None:
            return
        self._connection = None
        self._error = error
        if self._limit is not None:
            self._limit.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _forget(_: bytes) -> bool:
    """Takes a piece that nobody wants."""
    return True


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, pool: list["_Connection"], name: str) -> None:
        self._pool = pool
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # told by the parser, many times in a read
        self._parser: _Parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._until_close = False
        self._heard = False
        self._paused = False
        self.idle_since_s = 0.0
        self.usable = True

    async def exchange(self, head: bytes, body: bytes) -> Response:
        """The response to one request once its headers have come."""
        self._answer = self._loop.create_future()
        self._heard = False
        if len(body) <= _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Close at once; the other side sees it now."""
        self.usable = False
        self._transport.abort()

    def resume(self) -> None:
        """The queue has been emptied."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the class

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._hand_on()
            self._fail(f"the engine at {self._name} answered something that is not HTTP: {error}")
            self.abort()
            return
        self._hand_on()
        response = self._response
        if response is not None and response.queued_bytes > HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _hand_on(self) -> None:
        """Give the answer what this read has brought of its body, all at once."""
        if not self._pieces:
            return
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._response is not None:
            self._response.add(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self in self._pool:
            self._pool.remove(self)
        if self._until_close and exc is None and self._response is not None:
            self._response.end()
        elif self._answer is not None and not self._heard and not self._answer.done():
            self._refuse(_StaleError())
        else:
            self._fail(f"the engine at {self._name} broke off in the middle of an answer")

    # httptools

    def on_message_begin(self) -> None:
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if self._answer is None or self._answer.done():
            self.abort()  # an answer nobody asked for, or one that came after the asker had gone
            return
        self._until_close = _FRAMES.isdisjoint(dict(self._headers)) and status not in (204, 304)
        self._response = Response(self, status, self._headers)
        self._answer.set_result(self._response)
        self._answer = None

    def on_message_complete(self) -> None:
        self._hand_on()
        response = self._response
        if response is None:
            return
        self._response = None
        # An answer that came before the whole question had been taken: the rest of the question is in the way.
        clean = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
        response.end()
        if self._paused:
            self.resume()
        if clean and self.usable and len(self._pool) < IDLE_CONNECTIONS:
            self.idle_since_s = self._loop.time()
            self._pool.append(self)
        else:
            self.usable = False
            self._transport.close()

    def _refuse(self, error: Exception) -> None:
        """Tell whoever waits for an answer; it is not kept here, for its trace will hold the request."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_exception(error)

    def _fail(self, message: str) -> None:
        error = EngineError(message, hint="its log says why, if it has died", code="engine_broke_off")
        if self._answer is not None and not self._answer.done():
            self._refuse(error)
        if self._response is not None:
            self._response.end(error)
            self._response = None


class HttpUpstream:
    """Implements ``ports.Upstream``. HEAD is not spoken."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        """Make it; nothing is connected.

        Args:
            trust: whose certificates are believed; None is those that the system believes.
        """
        self._trust = trust
        self._idle: dict[str, list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def send(self, address: Address, method: str, target: str, headers: Headers, body: bytes) -> Response:
        """The response once its headers have come. Cancelling aborts the connection.

        A kept connection that turns out to have been closed meanwhile is replaced by a new one, once: the request was
        not answered and, by all signs, not read.

        Raises:
            EngineError: nobody listens, its certificate is not believed, or the headers did not come, or not in time.
            UsageError: a header or the target would break the request's framing.
        """
        head = render_head(method, target, headers, len(body), address.site)
        connection = self._take(address)
        if connection is not None:
            try:
                return await _answered(connection, address, head, body)
            except _StaleError:
                pass  # suppress() would cost every request a little
        connection = await self._connect(address)
        try:
            return await _answered(connection, address, head, body)
        except _StaleError:
            raise EngineError(
                f"the engine at {address} closed the connection without an answer",
                hint="its log says why, if it has died",
                code="engine_broke_off",
            ) from None

    async def tunnel(self, address: Address, target: str, headers: Headers) -> Tunnel:
        """The answer to the wish for a websocket; whoever asks closes it.

        Raises:
            EngineError: nobody listens, or what came is no answer, or came too late.
            UsageError: a header or the target would break the request's framing.
        """
        return await open_tunnel(address, target, headers, self._trust)

    async def close(self) -> None:
        """Abort what is open."""
        for connection in tuple(self._open):
            connection.abort()
        self._open.clear()
        self._idle.clear()
        await asyncio.sleep(0)  # transports close their sockets in the next turn of the loop

    def _take(self, address: Address) -> _Connection | None:
        pool = self._idle.get(address.unix_path or str(address))
        oldest_s = asyncio.get_running_loop().time() - _idle_s(address)
        while pool:
            connection = pool.pop()
            if connection.usable and connection.idle_since_s > oldest_s:
                return connection
            connection.abort()
        return None

    async def _connect(self, address: Address) -> _Connection:
        key = address.unix_path or str(address)
        pool = self._idle.setdefault(key, [])
        try:
            connection = await dial(address, lambda: _Connection(pool, str(address)), self._trust)
        except EngineError:
            self._idle.pop(key, None)
            raise
        self._open = {other for other in self._open if other.usable}
        self._open.add(connection)
        return connection


def _answered(connection: _Connection, address: Address, head: bytes, body: bytes) -> Awaitable[Response]:
    """The response of a server that is given as long for its headers as a configuration says."""
    limit_s = address.timeouts.response_header_s if address.timeouts else None
    exchange = connection.exchange(head, body)
    return exchange if limit_s is None else _in_time(exchange, address, limit_s)


async def _in_time(exchange: Awaitable[Response], address: Address, limit_s: Seconds) -> Response:
    try:
        async with asyncio.timeout(limit_s):
            return await exchange
    except TimeoutError as error:
        raise EngineError(
            f"{address} sent no headers within {limit_s:g} s",
            hint="timeouts.responseHeader in the configuration says how long that may take",
            code="engine_timeout",
        ) from error


def _idle_s(address: Address) -> Seconds:
    """How long a connection without a request is good for; engines of ours give theirs up early."""
    if address.timeouts is None and address.site is None:
        return IDLE_S
    wished_s = address.timeouts.idle_s if address.timeouts else IDLE_S
    ours = address.site is None or address.site.ours
    return min(wished_s or math.inf, IDLE_S if ours else math.inf)
