"""``bercail up``, the main job: probe the machine, find and read models, plan, launch, serve, stop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from bercail.core import news
from bercail.core.errors import BercailError, StoreError
from bercail.core.keys import required
from bercail.core.model import Findings, FoundModel
from bercail.flows.inspect import refuse
from bercail.flows.machine import look
from bercail.flows.prepare import read
from bercail.flows.supervise import Supervisor
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked of ``up``.

    Attributes:
        paths: models or folders; empty searches.
        choose: picks the model to load first among several, or None for none.
        tell: hears every step.
        stop: set by the first Ctrl-C or SIGTERM.
        stop_now: set by the second.
    """

    paths: tuple[str, ...]
    choose: Callable[[Findings], Awaitable[FoundModel | None]]
    tell: Callable[[news.News], None]
    stop: asyncio.Event
    stop_now: asyncio.Event


async def up(house: House, request: Request) -> None:
    """Serve until told to stop.

    Raises:
        ListenError: the address cannot be used.
        StoreError: the API keys cannot be read.
        NotFoundError: a folder was named that holds no model.
        ReadError, RefusedError, EngineError: the only model there is cannot be served.
    """
    tell = request.tell
    if ended := await asyncio.to_thread(house.journal.reconcile):
        tell(news.Reconciled(ended=ended))
    machine, findings = await asyncio.gather(
        asyncio.to_thread(look, house, tell),
        asyncio.to_thread(house.reader.find, request.paths, house.settings.models.folders),
    )
    tell(news.MachineProbed(machine=machine))
    if request.paths and not findings.models:
        await asyncio.to_thread(refuse, house.reader, request.paths[0], findings)
    if request.paths and len(findings.models) == 1:
        await read(house, findings.models[0])  # what cannot be served is told before anything is opened
    tell(news.ModelsFound(findings=findings))
    house.keyring.keys()  # a file of keys that cannot be read is no open door
    await _open_ledger(house, tell)
    first = await request.choose(findings)
    supervisor = Supervisor(house, findings, tell)
    tell(news.Listening(url=await house.door.open(supervisor)))
    for text in _openness(house):
        tell(news.Warned(text=text))
    try:
        await _until_stopped(supervisor, first, findings, request)
    finally:
        await _shut(house, supervisor, request)


async def _open_ledger(house: House, tell: Callable[[news.News], None]) -> None:
    try:
        await asyncio.to_thread(house.ledger.open)
    except StoreError as error:
        tell(news.Warned(text=f"{error}; requests are served, but not recorded"))


def _openness(house: House) -> Iterator[str]:
    """What there is to know of who may come in."""
    server, keys = house.settings.server, house.keyring.keys()
    if required(server.require_key, keys):
        if not keys:
            yield "an API key is needed and there is none, so nobody can come in: bercail keys create NAME"
    elif not _is_private(server.host):
        why = "server.require_key is never" if server.require_key == "never" else "no API key was made"
        yield f"whoever can reach {server.host} can use the models: {why} (bercail keys create NAME)"
    elif keys:
        yield "API keys are not looked at: server.require_key is never"


def _is_private(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _until_stopped(
    supervisor: Supervisor, first: FoundModel | None, findings: Findings, request: Request
) -> None:
    stop = asyncio.create_task(request.stop.wait())
    start = asyncio.create_task(_start(supervisor, first, findings, request))
    try:
        await asyncio.wait({stop, start}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()  # an only model that cannot be served ends the server, with its reason
            await stop
    finally:
        for task in (stop, start):
            task.cancel()
            with suppress(asyncio.CancelledError, BercailError):
                await task


async def _start(supervisor: Supervisor, first: FoundModel | None, findings: Findings, request: Request) -> None:
    """Load the first model, then read the headers of the others."""
    if first is not None:
        try:
            lease = await supervisor.lease(first.id)
            lease.release()
        except BercailError:
            if len(findings.models) == 1:
                raise
            request.tell(news.Warned(text=f"{first.id} could not be loaded; the other models are served"))
    await supervisor.read_headers()


async def _shut(house: House, supervisor: Supervisor, request: Request) -> None:
    """Drain, then stop everything; a second signal stops at once."""
    drain_s = house.settings.server.drain
    request.tell(news.Stopping(drain_s=drain_s))
    drain = asyncio.create_task(house.door.close(drain_s))
    now = asyncio.create_task(request.stop_now.wait())
    await asyncio.wait({drain, now}, return_when=asyncio.FIRST_COMPLETED)
    now.cancel()
    if drain.done():
        cut = drain.result()
    else:
        drain.cancel()
        with suppress(asyncio.CancelledError):
            await drain
        cut = await house.door.close(0)
    await supervisor.close()
    await house.upstream.close()
    await asyncio.to_thread(house.ledger.close)
    request.tell(news.Stopped(cut=cut))
