"""A client's connection once it has left HTTP behind: bytes both ways, one side never faster than the other."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

from bercail.core.units import KIB, Bytes, Seconds
from bercail.ports import Tunnel

PIECE_BYTES: Bytes = 64 * KIB
LINGER_S: Seconds = 5.0
PROBE_S: Seconds = 30.0
"""A client that vanished without a word is noticed after some of these."""


class Wire(asyncio.StreamReaderProtocol):
    """A connection that was taken over from the HTTP server."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._reader = asyncio.StreamReader(limit=PIECE_BYTES)
        super().__init__(self._reader)
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()
        self._writer = asyncio.StreamWriter(transport, self, self._reader, asyncio.get_running_loop())
        _probe(cast("socket.socket | None", transport.get_extra_info("socket")))

    async def read(self) -> bytes:
        """The next bytes; none at the end, however it came."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read(PIECE_BYTES)
        return b""

    async def write(self, data: bytes) -> None:
        """Hand on bytes; waits while the client does not read. Nothing if it has gone."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    def close(self) -> None:
        """Send what waits, and end; whoever does not take it is cut off. Harmless to repeat."""
        if not self._writer.is_closing():
            self._writer.close()
            asyncio.get_running_loop().call_later(LINGER_S, self._writer.transport.abort)


def _probe(plug: socket.socket | None) -> None:
    if plug is None or plug.family is socket.AF_UNIX:
        return
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # not every system has all of them
        if hasattr(socket, name):
            plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), int(PROBE_S))


async def join(client: Wire, engine: Tunnel, count: Callable[[int], None]) -> None:
    """Carry bytes both ways until one side ends; ``count`` hears how many went to the client."""
    there = asyncio.create_task(_carry(client, engine))
    back = asyncio.create_task(_carry(engine, client, count))
    try:
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (there, back):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        client.close()
        engine.close()


async def _carry(source: Wire | Tunnel, sink: Wire | Tunnel, count: Callable[[int], None] = lambda _: None) -> None:
    while data := await source.read():
        await sink.write(data)
        count(len(data))
