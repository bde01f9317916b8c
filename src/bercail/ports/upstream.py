"""How engines are spoken with."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from bercail.core.launch import Address
from bercail.core.units import Seconds


class UpstreamResponse(Protocol):
    """An answer whose headers have arrived."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, queued pieces joined.

        Raises:
            EngineError: the connection broke before the body ended.
        """
        ...

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Hand the body to ``take`` as it comes, for which no task is woken, until it refuses a piece or the body ends.

        May return earlier. The piece that was refused, and everything after it, comes out of ``chunks``.

        Args:
            take: whether a piece, or several joined, was taken; raises nothing.
        """
        ...

    def let_go(self, within_s: Seconds) -> None:
        """What is left of the body is not wanted; if it comes within that time, the connection can be used again."""
        ...

    def abort(self) -> None:
        """Close the connection now, without waiting; harmless when the body has ended."""
        ...


class Tunnel(Protocol):
    """An engine's answer to the wish for a websocket, and the bytes that follow it."""

    @property
    def status(self) -> int:
        """101 if it is open."""
        ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        ...

    async def read(self) -> bytes:
        """The next bytes; none at the end, however it came."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand on bytes; waits while the engine does not read. Nothing if it has gone."""
        ...

    def close(self) -> None:
        """Send what waits, and end; harmless to repeat."""
        ...


class Upstream(Protocol):
    """The HTTP client towards engines: pooled, streaming, cancelled by closing the socket at once."""

    async def send(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> UpstreamResponse:
        """The response once its headers have come. Cancelling aborts the connection.

        Raises:
            EngineError: nobody listens, or the connection broke before the headers.
        """
        ...

    async def tunnel(self, address: Address, target: str, headers: Sequence[tuple[bytes, bytes]]) -> Tunnel:
        """The answer to the wish for a websocket; whoever asks closes it.

        Raises:
            EngineError: nobody listens, or what came is no answer.
        """
        ...

    async def close(self) -> None:
        """Abort what is open."""
        ...
