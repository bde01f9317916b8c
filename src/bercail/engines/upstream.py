"""The HTTP/1.1 client towards engines, the only one on the hot path: pooled, streaming, cancelled by closing."""

import asyncio
import math
import ssl
from collections.abc import Awaitable

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import Seconds
from bercail.engines.dial import dial
from bercail.engines.head import Headers, render_head
from bercail.engines.line import Connection, Response, StaleError
from bercail.engines.tunnel import Tunnel, open_tunnel

IDLE_S = 4.0
"""Engines built on cpp-httplib close a connection after 5 idle seconds; ours are given up before."""


class HttpUpstream:
    """Implements ``ports.Upstream``. HEAD is not spoken."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        """Make it; nothing is connected.

        Args:
            trust: whose certificates are believed; None is those that the system believes.
        """
        self._trust = trust
        self._idle: dict[str, list[Connection]] = {}
        self._open: set[Connection] = set()

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
            except StaleError:
                pass  # suppress() would cost every request a little
        connection = await self._connect(address)
        try:
            return await _answered(connection, address, head, body)
        except StaleError:
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

    def _take(self, address: Address) -> Connection | None:
        pool = self._idle.get(address.unix_path or str(address))
        oldest_s = asyncio.get_running_loop().time() - _idle_s(address)
        while pool:
            connection = pool.pop()
            if connection.usable and connection.idle_since_s > oldest_s:
                return connection
            connection.abort()
        return None

    async def _connect(self, address: Address) -> Connection:
        key = address.unix_path or str(address)
        pool = self._idle.setdefault(key, [])
        try:
            connection = await dial(address, lambda: Connection(pool, str(address)), self._trust)
        except EngineError:
            self._idle.pop(key, None)
            raise
        self._open = {other for other in self._open if other.usable}
        self._open.add(connection)
        return connection


def _answered(connection: Connection, address: Address, head: bytes, body: bytes) -> Awaitable[Response]:
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
