"""A client's connection: uvicorn's, with bounds on what comes before a request is complete."""

import asyncio
from collections.abc import Callable

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from bercail.core.chat import ApiError
from bercail.core.options import ServerOptions
from bercail.core.units import KIB, Bytes, Seconds
from bercail.web.asgi import CLOSE, Receive, Scope, Send, answer
from bercail.web.errors import written

MOST_HEAD_BYTES: Bytes = 64 * KIB
"""Request line and headers together."""
LOOK_S: Seconds = 1.0
"""Between two looks at who is too slow; a timer for each request would cost more."""
LINGER_S: Seconds = 2.0
"""How long what comes after a refusal is thrown away: to close at once can take the refusal from its reader."""
FULL_RETRY_S = 1


class Lobby:
    """Every connection there is, and who of them is shown out.

    Args:
        config: of uvicorn.
        options: how many there may be, and how long a head may take.
        loop: that they live in.
    """

    def __init__(self, config: Config, options: ServerOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.options = options
        self._config = config
        self._loop = loop
        self._state = ServerState()
        self._made = 0
        self._every_s = min(LOOK_S, options.header_timeout / 4)
        self._timer = loop.call_later(self._every_s, self._look)

    def let_in(self) -> "_Connection":
        """A connection, which will tell when it is made."""
        self._made += 1
        return _Connection(self._config, self._state, self, self._made, self._loop)

    def has_room(self, newest: "_Connection") -> bool:
        """Whether one more may come in; where there are as many as may be, one that asks for nothing leaves for it."""
        if len(self._state.connections) <= self.options.connections:
            return True
        here = [one for one in self._all() if not one.transport.is_closing()]  # many may come before one is gone
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
        for one in self._all():
            one.transport.close()

    def _look(self) -> None:
        now_s = self._loop.time()
        late = [one for one in self._all() if one.begun and now_s - one.since_s >= self.options.header_timeout]
        for one in late:
            one.show_out(_slow(self.options.header_timeout))
        self._timer = self._loop.call_later(self._every_s, self._look)

    def _all(self) -> list["_Connection"]:
        return [one for one in self._state.connections if isinstance(one, _Connection)]


class _Connection(HttpToolsProtocol):
    """One of them.

    What is no HTTP, too long or too slow is answered in JSON, and no request is forgotten when pipelined ones follow.
    What is noted for that is noted once for a piece that arrives, not for each of its headers.

    Attributes:
        number: they are counted, since many can come within one tick of the loop's clock.
        begun: a request is awaited that must be complete up to its headers in time.
    """

    _active: RequestResponseCycle | None = None
    _on_end: Callable[[], None] | None = None

    def __init__(
        self, config: Config, state: ServerState, lobby: Lobby, number: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, state, {}, loop)
        self.number = number
        self.begun = True
        self._lobby = lobby
        self._begun_s: Seconds = loop.time()
        self._headed: object = None
        self._piece_bytes = self._loose_bytes = 0
        self._surplus = False
        self._deaf = False

    @property
    def is_served(self) -> bool:
        """Whether a request of it is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def since_s(self) -> Seconds:
        """When it began to wait for a request, or last had an answer."""
        idle = self.timeout_keep_alive_task
        return self._begun_s if idle is None else idle.when() - self.timeout_keep_alive

    def show_out(self, error: ApiError) -> None:
        """End it; if a part of a request has come, with the reason."""
        if self._deaf or self.scope is self._headed:
            self.transport.close()
        else:
            self._refuse(error)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._surplus = not self._lobby.has_room(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self.begun and self.cycle.response_complete:
            self.begun, self._begun_s, self._loose_bytes = True, self.loop.time(), 0
        self._piece_bytes = len(data)
        self._loose_bytes += self._piece_bytes
        super().data_received(data)
        if self._loose_bytes > MOST_HEAD_BYTES:
            self.show_out(_LONG)  # also one whose trailers have no end

    def on_headers_complete(self) -> None:
        long = max(self._loose_bytes, self._piece_bytes) > MOST_HEAD_BYTES and self._head_bytes() > MOST_HEAD_BYTES
        self.begun, self._loose_bytes, self._headed = False, 0, self.scope
        self.scope["headers"] = self.headers.copy()  # trailers would join those that were judged
        if self._surplus or long:
            error = _LONG if long else _full(self._lobby.options.connections)
            self.scope["refused"] = error  # type: ignore[typeddict-unknown-key] # an extension of ours
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        super().on_body(body)

    def _head_bytes(self) -> Bytes:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: object) -> None:
        self._active, self._on_end = cycle, None
        cycle.scope["watch"] = self._watch  # type: ignore[typeddict-unknown-key] # an extension of ours
        cycle.scope["take"] = self._take  # type: ignore[typeddict-unknown-key] # likewise
        cycle.scope["push"] = self._push  # type: ignore[typeddict-unknown-key] # likewise
        super()._start_asgi_task(cycle, _refusing if "refused" in cycle.scope else self.app)  # type: ignore[arg-type]

    def _take(self) -> asyncio.Transport:
        """Let go of the connection: whoever takes it speaks no HTTP, and ends it."""
        if self._active is not None:
            self._active.response_started = self._active.response_complete = True
        self._on_end = None
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        return self.transport

    def _push(self, body: bytes) -> bool:
        """Write a piece of a stream that has begun; False, and nothing is written, if that has to be waited for.

        An empty piece only asks whether it would have to be.
        """
        cycle = self._active
        if cycle is None or self.flow.write_paused or cycle.disconnected:
            return False
        if not (cycle.response_started and cycle.chunked_encoding) or cycle.response_complete:
            return False
        if body:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def _watch(self, on_end: Callable[[], None]) -> None:
        """Tell of the end of the connection; it is noticed only while reading, which a long body has paused."""
        self.flow.resume_reading()
        self._on_end = on_end
        if self._active is not None and self._active.disconnected:
            self.loop.call_soon(on_end)

    def connection_lost(self, exc: Exception | None) -> None:
        active = self._active
        if active is not None and active is not self.cycle and not active.response_complete:
            active.disconnected = True
            active.message_event.set()
        super().connection_lost(exc)
        if self._on_end is not None:
            self._on_end()
            self._on_end = None
        if active is not None and active.response_complete:
            self._let_go(active)

    def _let_go(self, cycle: RequestResponseCycle) -> None:
        """Leave nothing of a connection for the collector of cycles: what was lent to its last request leads back."""
        for name in _LENT:
            cycle.scope.pop(name, None)  # type: ignore[misc] # extensions of ours
        self._active = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(status=400, message=msg.rstrip("."), code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no whole request, and hear nothing more; where an answer is on its way, only end it."""
        self._deaf = True
        self._unset_keepalive_if_required()
        if self.is_served:
            self.transport.close()
            return
        headers, body = written(error)
        lines = [name + b": " + value for name, value in [*headers, CLOSE]]
        lines.append(b"content-length: " + str(len(body)).encode())
        self.transport.write(STATUS_LINE[error.status] + b"\r\n".join([*lines, b"", body]))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _unsupported_upgrade_warning(self) -> None:
        """Such a request is answered as if no upgrade had been offered, which needs no words."""


_LENT = ("watch", "take", "push")


async def _refusing(scope: Scope, _: Receive, send: Send) -> None:
    error: ApiError = scope["refused"]  # type: ignore[typeddict-item] # set above
    headers, body = written(error)
    await answer(send, error.status, [*headers, CLOSE], body)


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
