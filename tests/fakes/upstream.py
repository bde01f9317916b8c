"""An upstream whose answers a test writes, and which remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.ports import Tunnel

Piece = bytes | EngineError | asyncio.Event | float
"""Bytes that come, an end by failure, something to wait for, or seconds that pass."""


@dataclass(slots=True, kw_only=True)
class Scripted:
    """One answer: its pieces come in order.

    Attributes:
        aborted: it was given up before its end.
        ended: it came to its end.
        told: pieces that have come.
    """

    pieces: Sequence[Piece] = ()
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    before_headers: Piece | None = None
    aborted: bool = False
    ended: bool = False
    waiting: asyncio.Future[None] | None = None
    told: int = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        self.told = 0
        while self.told < len(self.pieces):
            if self.aborted:
                raise EngineError("given up")
            piece = self.pieces[self.told]
            self.told += 1
            if isinstance(piece, bytes):
                yield piece
            else:
                await self._until_aborted(piece)
        self.ended = True

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        while self.told < len(self.pieces) and not self.aborted:
            piece = self.pieces[self.told]
            if not isinstance(piece, bytes | float) or (isinstance(piece, bytes) and not take(piece)):
                return
            self.told += 1
            if isinstance(piece, float):
                await self._until_aborted(piece)

    async def _until_aborted(self, piece: Piece) -> None:
        """A wait that ends when the answer is given up."""
        self.waiting = asyncio.ensure_future(play(piece))
        try:
            await self.waiting
        except asyncio.CancelledError:
            if self.aborted:
                raise EngineError("given up") from None
            self.waiting.cancel()
            raise

    def let_go(self, within_s: float) -> None:
        """At once what would come of it: the rest comes in time, or it is given up."""
        rest = self.pieces[self.told :]
        waits = sum(piece for piece in rest if isinstance(piece, float))
        if waits > within_s or any(isinstance(piece, asyncio.Event | EngineError) for piece in rest):
            self.abort()
        else:
            self.ended = True

    def abort(self) -> None:
        if not self.ended:
            self.aborted = True
            if self.waiting is not None:
                self.waiting.cancel()


async def play(piece: Piece) -> None:
    """Wait or fail as the piece says."""
    if isinstance(piece, EngineError):
        raise piece
    if isinstance(piece, asyncio.Event):
        await piece.wait()
    elif isinstance(piece, float):
        await asyncio.sleep(piece)


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request as it reached the engine."""

    address: Address
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class FakeUpstream:
    """Gives the scripted answers in order, the last one again and again."""

    def __init__(self, *answers: Scripted) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.cancelled = 0

    async def send(
        self, address: Address, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Scripted:
        self.asked.append(Asked(address=address, method=method, target=target, headers=list(headers), body=body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.before_headers is not None:
            try:
                await play(answer.before_headers)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return answer

    async def tunnel(self, address: Address, target: str, headers: Sequence[tuple[bytes, bytes]]) -> Tunnel:
        raise EngineError("no websockets are played here", code="engine_unreachable")

    async def close(self) -> None:
        pass
