"""A client's socket, as a transport in a loop whose time passes by itself."""

import asyncio
from typing import Any


class FakeLine(asyncio.Transport):
    """Keeps what is written, each write apart."""

    def __init__(self, peer: object = ("192.0.2.7", 4567, 0, 0)) -> None:
        super().__init__({"peername": peer})
        self.writes: list[bytes] = []
        self._closed = False
        self._reads = True

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: Any) -> None:
        assert not self._closed, "nothing is written after the end"
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        """Nothing follows."""

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True

    def is_reading(self) -> bool:
        return self._reads

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
