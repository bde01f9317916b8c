"""What a dialect works with, and what it hands back: an errand."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.dialect import Form
from bercail.core.options import ServerOptions
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.ports import Host, Lease, Upstream
from bercail.web.asgi import Scope
from bercail.web.request import read_body
from bercail.web.turn import Turn

Use: TypeAlias = Callable[[Lease], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Models and engines, and the ways to them.

    Attributes:
        find: the model of a name; raises what is to be answered if there is none.
        lend: waits for a model and this request's turn there, then uses it.
    """

    host: Host
    upstream: Upstream
    options: ServerOptions
    clock: Callable[[], Seconds]
    find: Callable[[str], ServedModel]
    lend: Callable[[Turn, ServedModel, Use], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A request that takes a turn of its own.

    Attributes:
        label: what it is counted under.
        form: the words that errors are told in.
        attempt: answers it.
    """

    label: str
    attempt: Callable[[Turn, Scope], Awaitable[None]]
    form: Form = Form.OPENAI


async def take_body(turn: Turn, scope: Scope, options: ServerOptions) -> bytes:
    """The whole body; from then on a client that leaves ends its turn.

    Raises:
        ReplyError: it is too long, or encoded.
        ClientGoneError: the client left before the end.
    """
    body = await read_body(scope, turn, options.body_limit)
    turn.watch(scope.get("watch"))
    turn.record.request_bytes = len(body)
    return body


async def lease_at_once(host: Host, model: ServedModel) -> Lease | None:
    """A lease that waits for nothing and loads nothing; None if the model is not there this moment."""
    if model.phase is not Phase.LOADED:
        return None
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            return await host.lease(model.id)
    return None
