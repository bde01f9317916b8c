"""Connections to engines that leave HTTP behind: websockets, byte for byte, with back-pressure both ways."""

import asyncio
import contextlib
import ssl
from typing import cast

import httptools

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import KIB, Bytes, Seconds
from bercail.engines.dial import dial
from bercail.engines.head import Headers, render_head

PIECE_BYTES: Bytes = 64 * KIB
"""Read at once; twice as much is buffered before the other side is left waiting."""
LINGER_S: Seconds = 5.0


class Tunnel:
    """An engine's answer to an upgrade, and what follows it (``ports.Tunnel``)."""

    def __init__(self, streams: "_Streams", status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._streams = streams
        self.status = status
        self.headers = headers

    async def read(self) -> bytes:
        """The next bytes; none at the end, however it came."""
        with contextlib.suppress(ConnectionError):
            return await self._streams.reader.read(PIECE_BYTES)
        return b""

    async def write(self, data: bytes) -> None:
        """Hand on bytes; waits while the engine does not read. Nothing if it has gone."""
        with contextlib.suppress(ConnectionError):
            self._streams.writer.write(data)
            await self._streams.writer.drain()

    def close(self) -> None:
        """Send what waits, and end; whoever does not take it is cut off. Harmless to repeat."""
        if not self._streams.writer.is_closing():
            self._streams.writer.close()
            asyncio.get_running_loop().call_later(LINGER_S, self._streams.writer.transport.abort)


class _Streams(asyncio.StreamReaderProtocol):
    """A connection as a reader and a writer."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=PIECE_BYTES)
        super().__init__(self.reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        plain = cast("asyncio.WriteTransport", transport)
        self.writer = asyncio.StreamWriter(plain, self, self.reader, asyncio.get_running_loop())


class _Head:
    """What the parser finds in the head of an answer."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


async def open_tunnel(address: Address, target: str, headers: Headers, trust: ssl.SSLContext | None) -> Tunnel:
    """The answer to the wish for a websocket; it is open if the status is 101.

    Raises:
        EngineError: nobody listens, or what came is no answer, or came too late.
        UsageError: a header or the target would break the request's framing.
    """
    head = render_head("GET", target, headers, 0, address.site)
    streams = await dial(address, _Streams, trust)
    try:
        streams.writer.write(head[:-2] + b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        limit_s = address.timeouts.response_header_s if address.timeouts else None
        async with asyncio.timeout(limit_s):
            answer = await streams.reader.readuntil(b"\r\n\r\n")
        return Tunnel(streams, *_parsed(answer))
    except BaseException as error:
        streams.writer.transport.abort()
        raise _explained(error, address) from error


def _parsed(answer: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    found = _Head()
    parser = httptools.HttpResponseParser(found)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(answer)
    return parser.get_status_code(), found.headers


def _explained(error: BaseException, address: Address) -> BaseException:
    match error:
        case TimeoutError():
            hint = "timeouts.responseHeader in the configuration says how long that may take"
            return EngineError(f"{address} sent no headers in time", hint=hint, code="engine_timeout")
        case OSError() | EOFError() | asyncio.LimitOverrunError() | httptools.HttpParserError():
            return EngineError(
                f"the engine at {address} gave no answer to the wish for a websocket",
                hint="its log says why, if it has died",
                code="engine_broke_off",
            )
        case _:
            return error
