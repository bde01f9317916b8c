"""A connection to an engine, one exchange at a time, and the answer that comes on it as it is read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol, cast

import httptools

from bercail.core.errors import EngineError
from bercail.core.units import KIB, Bytes, Seconds

HIGH_WATER_BYTES = 256 * KIB
"""A body that nobody reads is buffered up to here, then the socket is left alone."""
IDLE_CONNECTIONS = 64
_JOIN_BYTES = 64 * KIB
_FRAMES = frozenset((b"content-length", b"transfer-encoding"))
"""Either says where a body ends; without them it is where the connection does."""


class StaleError(Exception):
    """The connection ended before any byte of a response."""


class _Parser(Protocol):
    """The part of ``httptools.HttpResponseParser`` that is used; the library ships no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_status_code(self) -> int: ...
    def should_keep_alive(self) -> bool: ...


class Response:
    """An answer whose headers have arrived; implements ``ports.UpstreamResponse``."""

    __slots__ = ("_connection", "_error", "_limit", "_pieces", "_take", "_waiter", "headers", "queued_bytes", "status")

    def __init__(self, connection: "Connection", status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self.queued_bytes: Bytes = 0
        self._connection: Connection | None = connection
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


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, pool: list["Connection"], name: str) -> None:
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
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the class

    def data_received(self, data: bytes) -> None:
        """Read on; whoever takes the answer too slowly has the socket left alone."""
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
        """It has ended: so has an answer that goes on to there, another one is broken off."""
        self.usable = False
        if self in self._pool:
            self._pool.remove(self)
        if self._until_close and exc is None and self._response is not None:
            self._response.end()
        elif self._answer is not None and not self._heard and not self._answer.done():
            self._refuse(StaleError())
        else:
            self._fail(f"the engine at {self._name} broke off in the middle of an answer")

    # httptools

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is whole; one that only says to go on is passed over."""
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
        """It is whole: the connection is kept for another exchange, if both sides want that."""
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
