"""What a dialect works with, and what it hands back: an errand, or a notice."""

import asyncio
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core import access
from bercail.core.dialect import Form
from bercail.core.options import ServerOptions
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.ports import Host, Lease, Upstream
from bercail.web.asgi import Headers, Scope
from bercail.web.gate import Gate, Visit
from bercail.web.request import body_at_once, read_body
from bercail.web.silence import Silence
from bercail.web.turn import Turn

Use: TypeAlias = Callable[[Lease], Awaitable[None]]
Answer: TypeAlias = tuple[int, Headers, bytes]
"""Status, headers and body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Models and engines, and the ways to them.

    Attributes:
        host: every model; ``sees`` tells what of them a request may know.
        find: the model that a request names; raises what is to be answered if there is none, or none for its key.
        lend: waits for a model and this request's turn there, then uses it.
        stopping: whether the server is.
        turns: requests that are running.
        gate: who let them in, and keeps the books.
        silence: how long streams may be silent.
    """

    host: Host
    upstream: Upstream
    options: ServerOptions
    clock: Callable[[], Seconds]
    find: Callable[[Turn, str], ServedModel]
    lend: Callable[[Turn, ServedModel, Use], Awaitable[None]]
    stopping: Callable[[], bool]
    turns: Set[Turn]
    gate: Gate
    silence: Silence

    def sees(self, turn: Turn) -> Host:
        """The host as whoever sent a request may see it."""
        return turn.visit.sees(self.host) if turn.visit else self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A request that takes a turn of its own.

    Attributes:
        label: what it is counted under.
        form: the words that errors are told in.
        attempt: answers it.
        need: what the key of its sender must open.
    """

    label: str
    attempt: Callable[[Turn, Scope], Awaitable[None]]
    form: Form = Form.OPENAI
    need: access.Scope = access.Scope.INFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An answer that takes no turn.

    Attributes:
        tell: the answer to whoever sees that host.
        form: the words that errors are told in.
        need: what the key of its sender must open; None if any key will do.
    """

    tell: Callable[[Host], Answer]
    form: Form = Form.OPENAI
    need: access.Scope | None = None


def notice(answer: Answer, form: Form = Form.OPENAI) -> Notice:
    """The same answer to everybody who may know of the path at all."""
    return Notice(tell=lambda _: answer, form=form)


async def take_body(turn: Turn, scope: Scope, desk: Desk) -> bytes:
    """The whole body; from then on a client that leaves ends its turn.

    Raises:
        ReplyError: it is too long, or encoded.
        ClientGoneError: the client left before the end.
    """
    body = body_at_once(scope, turn, desk.options.body_limit)
    if body is None:
        body = await read_body(scope, turn, desk.options.body_limit)
    turn.watch(scope.get("watch"))
    turn.record.arrived_s = desk.clock()
    turn.record.request_bytes = len(body)
    return body


async def lease_at_once(host: Host, model: ServedModel, visit: Visit | None) -> Lease | None:
    """A lease that waits for nothing and loads nothing; None if the model is not there this moment."""
    if model.phase is not Phase.LOADED:
        return None
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            return await host.lease(model.id, *(visit.share if visit else ("", 0)))
    return None
