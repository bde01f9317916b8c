"""What we and engines say, in memory: the latest lines, for whoever asks or follows."""

import asyncio
from collections.abc import Callable, Mapping

from bercail.core.log import OURS, Excerpt, Rings


class MemoryLog:
    """Implements ``ports.Log``.

    Args:
        echo: hears each line of an engine, with the name of its model; None is nobody.
        stamp: the time, as lines of ours are to begin; empty if they do not tell it.
    """

    def __init__(self, echo: Callable[[str, str], None] | None = None, stamp: Callable[[], str] = str) -> None:
        self._stamp = stamp
        self._rings = Rings()
        self._echo = echo
        self._readers: set[asyncio.Future[None]] = set()
        self._closed = False

    def add(self, source: str, text: str) -> None:
        """Keep a line."""
        self._rings.add(source, text if source != OURS else self._stamp() + text)
        self._wake()
        if source != OURS and self._echo is not None:
            self._echo(source, text)

    def since(self, place: Mapping[str, int], wanted: Callable[[str], bool]) -> Excerpt:
        """What the sources that are wanted have said since."""
        return self._rings.since(place, wanted)

    async def wait(self, last: int) -> bool:
        """Returns when there is a line after number ``last``; False if nobody says anything any more."""
        if not self._closed and self._rings.last == last:
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.add(reader)
            try:
                await reader
            finally:
                self._readers.discard(reader)
        return not self._closed

    def close(self) -> None:
        """Nothing more is told to those who follow."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
