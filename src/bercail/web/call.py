"""One request on a client's connection, and its answer: what the application gets to hear and to say."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol, TypeAlias

from bercail.core.chat import ApiError
from bercail.core.units import Bytes
from bercail.web.asgi import CLOSE, Headers, Message, Receive, Scope, Send, answer
from bercail.web.errors import written

_log = logging.getLogger(__name__)

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(100, 600)
}
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = (204, 304)
_NO_NAME = re.compile(rb'[\x00-\x20\x7f()<>@,;:\[\]={}\\"]')
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Line(Protocol):
    """The connection that a call came on."""

    transport: asyncio.Transport
    is_full: bool
    """Its client does not read what was written last."""

    async def drain(self) -> None:
        """Wait until its client reads."""
        ...

    def hear(self) -> None:
        """Go on reading."""
        ...

    def answered(self) -> None:
        """Its call has been answered whole."""
        ...

    def over(self) -> None:
        """The application has done with a call."""
        ...


class Call:
    """One of them.

    The head of an answer is held until there is something of its body, even an empty piece: both are one write.

    Attributes:
        gone: its client left before it was answered whole.
        complete: it was answered whole.
        started: its answer has begun.
        task: that answers it; kept here, for the loop itself does not.
        waiting_bytes: of its body, that nobody has taken yet.
    """

    gone = started = complete = False
    task: asyncio.Task[None] | None = None
    waiting_bytes: Bytes = 0
    _whole = _news = _chunked = False
    _waiter: asyncio.Future[None] | None = None
    _on_end: Callable[[], None] | None = None
    _head = b""
    _left: Bytes | None = 0

    def __init__(
        self, line: Line, loop: asyncio.AbstractEventLoop, *, head: bool, stays: bool, waits: bool, chunks: bool
    ) -> None:
        """Make it; nothing of its body has come.

        Args:
            line: where it came from.
            loop: of both.
            head: its method is HEAD, so its answer has no body.
            stays: the connection may be used for another one.
            waits: its client sends the body when told to go on.
            chunks: its client knows chunks; for others an answer of no known length ends with the connection.
        """
        self._line = line
        self._loop = loop
        self._is_head = head
        self._stays = stays
        self._continues = waits
        self._knows_chunks = chunks
        self._body: list[bytes] = []

    async def run(self, app: Application, scope: Scope) -> None:
        """Have ``app`` answer; what it leaves half done is broken off, so that no client takes it for whole."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 - whatever breaks, the client gets an answer and the log the trace
            _log.exception("a request failed inside the server")
            if not self.started:
                await answer(self.send, 500, *written(_BROKEN))
        finally:
            if not (self.complete or self.gone):
                self._line.transport.close()
            self._on_end = self.task = None
            self._line.over()

    # The request's body

    def add(self, piece: bytes) -> None:
        """A piece of the body has come."""
        self._body.append(piece)
        self.waiting_bytes += len(piece)
        self._tell()

    def end(self) -> None:
        """The body has come to its end."""
        self._whole = True
        self._tell()

    def leave(self) -> None:
        """The connection has ended."""
        self.gone = not self.complete
        self._tell()
        if self._on_end is not None:
            self._on_end()
            self._on_end = None

    def _tell(self) -> None:
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces, self._body, self.waiting_bytes, self._news = self._body, [], 0, False
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def whole(self) -> bytes | None:
        """The whole body, without a task that waits for it; None, and nothing is taken, if that must be done."""
        return self._take() if self._whole and self._news and not self.gone else None

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call this when the connection ends; it is noticed only while reading, which a long body has paused."""
        self._line.hear()
        self._on_end = on_end
        if self.gone:
            self._loop.call_soon(on_end)

    async def receive(self) -> Message:
        """What of the body has come since, or the end of the connection; after the body there is nothing else."""
        if self._continues and not self._line.transport.is_closing():
            self._line.transport.write(_CONTINUE)
            self._continues = False
        if not (self._news or self.gone or self.complete):
            self._line.hear()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.gone or self.complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._take(), "more_body": not self._whole}

    # The answer

    async def send(self, message: Message) -> None:
        """The next of the answer; waits while the client does not read, and says nothing to one that has gone."""
        if self._line.is_full and not self.gone:
            await self._line.drain()
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def push(self, piece: bytes) -> bool:
        """Write a piece of a stream that has begun; False, and nothing is written, if that has to be waited for.

        An empty piece only asks whether it would have to be.
        """
        if self._head or not self._chunked or self.complete or self.gone or self._line.is_full:
            return False
        if piece:
            self._line.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def hand_over(self) -> asyncio.Transport:
        """Let go of the connection: whoever takes it speaks no HTTP, and ends it."""
        self.started = self.complete = True
        self._on_end = None
        return self._line.transport

    def _begin(self, status: int, headers: Headers) -> None:
        if self.started:
            raise RuntimeError("an answer begins once")
        self.started, self._continues = True, False
        head = _rendered(status, tuple(headers))
        if head.closes:
            self._stays = False
        elif not self._stays:
            head = _rendered(status, (*headers, CLOSE))
        if self._is_head or status in _BODILESS:
            self._head = head.text + b"\r\n"
        elif head.length is None and self._knows_chunks:
            self._chunked, self._head = True, head.text + _CHUNKED
        else:
            self._left, self._head = head.length, head.text + b"\r\n"

    def _write(self, piece: bytes, *, more: bool) -> None:
        if self.complete or not self.started:
            raise RuntimeError("a piece of an answer has its place between its head and its end")
        head, self._head = self._head, b""
        if self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            piece = framed if more else framed + _LAST_CHUNK
        elif self._is_head:
            piece = b""
        elif self._left is not None:
            self._left -= len(piece)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("an answer is not as long as its head says")
        if head or piece:
            self._line.transport.write(head + piece)
        if not more:
            self._end()

    def _end(self) -> None:
        self.complete = True
        self._tell()
        if not self._stays:
            self._line.transport.close()
        self._line.answered()


_BROKEN = ApiError(
    status=500,
    message="the server failed on this request; its log has the details",
    kind="server_error",
    code="internal",
)


class _Head(NamedTuple):
    """The head of an answer without its last line; its length if it says one, and whether its connection ends."""

    text: bytes
    length: Bytes | None
    closes: bool


@lru_cache(maxsize=1024)  # a server says the same few heads all day
def _rendered(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> _Head:
    """The head of an answer.

    Raises:
        RuntimeError: a header would break out of its line.
    """
    lines = [STATUS_LINES[status]]
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if not name or _NO_NAME.search(name) or _NO_VALUE.search(value):
            raise RuntimeError(f"{name!r}: {value!r} is no header")
        lines.append(b"%b: %b\r\n" % (name.lower(), value))
        said[name.lower()] = value
    length = said.get(b"content-length")
    closes = said.get(b"connection", b"").lower() == b"close"
    return _Head(b"".join(lines), None if length is None else int(length), closes)
