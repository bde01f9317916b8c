"""``bercail up``, the main job: probe the machine, find and read models, plan, launch, serve, stop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address

from bercail.core import news
from bercail.core.access import required
from bercail.core.configuration import Configuration, capture_bytes
from bercail.core.errors import BercailError, StoreError
from bercail.core.log import OURS, Telling
from bercail.core.model import Findings, FoundModel
from bercail.core.need import policy_of
from bercail.core.news_report import level_of, log_lines
from bercail.core.route import Phase, nothing_served
from bercail.core.units import format_bytes
from bercail.flows.inspect import refuse_empty, resolve
from bercail.flows.machine import survey
from bercail.flows.prepare import read
from bercail.flows.reread import Source, watch
from bercail.flows.roster import muster
from bercail.flows.supervise import Supervisor
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked of ``up``.

    Attributes:
        paths: models or folders; empty serves what a configuration declares, and searches if it declares nothing.
        choose: picks the model to load first among several, or None for none.
        tell: hears every step.
        stop: set by the first Ctrl-C or SIGTERM.
        stop_now: set by the second.
        reload: set when the configuration is to be read anew.
        source: where it is read from; None where there is none to read.
        config: whole path of the file or folder that was named; empty if none was.
    """

    paths: tuple[str, ...]
    choose: Callable[[Findings], Awaitable[FoundModel | None]]
    tell: Callable[[news.News], None]
    stop: asyncio.Event
    stop_now: asyncio.Event
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    source: Source | None = None
    config: str = ""


async def up(house: House, request: Request) -> None:
    """Serve until told to stop.

    Raises:
        ListenError: the address cannot be used.
        StoreError: the API keys cannot be read.
        UsageError: a name is empty.
        NotFoundError: a folder was named that holds no model, or a model that is not here.
        ReadError, RefusedError, EngineError: the only model there is cannot be served.
    """
    refuse_empty(request.paths)
    request = replace(request, tell=partial(_tell, house, request.tell))
    tell = request.tell
    house.door.check()  # told before the machine is measured and models are looked for
    if ended := await asyncio.to_thread(house.journal.reconcile):
        tell(news.Reconciled(ended=ended))
    declares = bool(house.configuration.models or house.configuration.peers)
    if request.paths and declares:
        tell(news.Warned(text="models are named, so those that the configuration declares are not served"))
        house, declares = replace(house, configuration=Configuration(gateway=house.configuration.gateway)), False
    if request.source is not None and not declares:
        tell(news.Warned(text="THE CONFIGURATION DECLARES NO MODEL: what is found here is served instead"))
    machine, findings = await asyncio.gather(
        survey(house, tell), asyncio.to_thread(_found, house, request.paths, declares=declares)
    )
    tell(news.MachineProbed(machine=machine))
    if request.paths and not findings.models:
        findings = await asyncio.to_thread(_by_name, house, request.paths, findings)
    if request.paths and len(findings.models) == 1:
        await read(house, findings.models[0])  # what cannot be served is told before anything is opened
    if not declares:
        tell(news.ModelsFound(findings=findings))
    house.keyring.keys()  # a file of keys that cannot be read is no open door
    house.door.take_keys(house.configuration.gateway.api_keys)
    house.door.take_assets(house.configuration.gateway.asset_paths)
    house.door.take_sessions(house.configuration.gateway.session_headers)
    await _open_ledger(house, tell)
    first = None if declares else await request.choose(findings)
    roster = await asyncio.to_thread(muster, house, findings, house.configuration)
    supervisor = Supervisor(house, findings, tell, policy_of(house.settings.server), roster, request.source)
    try:
        if request.stop.is_set():  # while the user was asked: nobody needs a door any more
            return
        url = await house.door.open(supervisor)
        record = "" if house.ledger.latest() is None else house.ledger.place
        await asyncio.to_thread(house.register.announce, url, request.config, record)
        tell(news.Listening(url=url))
        for text in _openness(house):
            tell(news.Warned(text=text))
        await _until_stopped(house, supervisor, _start(supervisor, first, findings, request, url), request)
    finally:
        await _shut(house, supervisor, request)


def _tell(house: House, tell: Callable[[news.News], None], item: news.News) -> None:
    """Keep a step in the log, and tell it, as far as the configuration asks for it."""
    gateway = house.configuration.gateway
    telling, level = Telling(level=gateway.log_level, output=gateway.log_output), level_of(item)
    if telling.keeps(level):
        for line in log_lines(item):
            house.log.add(OURS, line)
    if telling.passes(level):
        tell(item)


def _found(house: House, paths: tuple[str, ...], *, declares: bool) -> Findings:
    """Models that are named or found; none where a configuration says which there are."""
    if declares:
        return Findings(models=(), looked=("the configuration declares which models there are",))
    return house.reader.find(paths, house.settings.library.folders)


def _by_name(house: House, names: tuple[str, ...], findings: Findings) -> Findings:
    """What was named is at no place that these words are: the models that they are the ids of.

    Raises:
        NotFoundError, ReadError: there is none; says which there are.
    """
    folders = house.settings.library.folders
    return replace(findings, models=tuple(resolve(house.reader, name, folders) for name in names), problems=())


async def _open_ledger(house: House, tell: Callable[[news.News], None]) -> None:
    try:
        await asyncio.to_thread(house.ledger.open)
    except StoreError as error:
        tell(news.Warned(text=f"{error}; requests are served, but not recorded"))


def _openness(house: House) -> Iterator[str]:
    """What there is to know of who may come in."""
    server, keys, declared = house.settings.server, house.keyring.keys(), house.configuration.gateway.api_keys
    if kept := capture_bytes(server, house.configuration.gateway):
        asked = "server.capture" if server.capture else "captureBuffer"
        disk = f" and as files of {format_bytes(server.capture_disk)} in {server.capture_folder}"
        yield (
            f"TEXTS OF REQUESTS AND ANSWERS ARE KEPT in memory ({format_bytes(kept)}, {asked})"
            f"{disk if server.capture_folder else ''}: whoever may do everything here reads them at /api/captures"
        )
    if required(server.require_key, keys, declared=bool(declared)):
        if not keys and not declared:
            yield "an API key is needed and there is none, so nobody can come in: bercail keys create NAME"
    elif not _is_private(server.host):
        why = "server.require_key is never" if server.require_key == "never" else "no API key was made"
        yield f"whoever can reach {server.host} can use the models: {why} (bercail keys create NAME)"
    elif keys or declared:
        yield "API keys are not looked at: server.require_key is never"


def _is_private(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _until_stopped(
    house: House, supervisor: Supervisor, starting: Coroutine[None, None, None], request: Request
) -> None:
    stop = asyncio.create_task(request.stop.wait())
    start = asyncio.create_task(starting)
    reload = asyncio.create_task(_reload_when_told(supervisor, request))
    watching = asyncio.create_task(_watch(house, request))
    try:
        await asyncio.wait({stop, start}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()  # an only model that cannot be served ends the server, with its reason
            await stop
    finally:
        for task in (stop, start, reload, watching):
            task.cancel()
            with suppress(asyncio.CancelledError, BercailError):
                await task


async def _reload_when_told(supervisor: Supervisor, request: Request) -> None:
    """Serve a configuration that was changed; one that is wrong changes nothing, which is told."""
    while True:
        await request.reload.wait()
        request.reload.clear()
        with suppress(BercailError):
            await supervisor.reload()


async def _watch(house: House, request: Request) -> None:
    if request.source is not None and request.source.watched:
        await watch(request.source, house.clock, request.reload.set)


async def _start(
    supervisor: Supervisor, first: FoundModel | None, findings: Findings, request: Request, url: str
) -> None:
    """Load the first model and those that are to be there from the start, then read the headers of the others."""
    await supervisor.welcome()
    if first is not None:
        try:
            lease = await supervisor.lease(first.id)
            lease.release()
        except BercailError:
            if len(findings.models) == 1:
                raise
            request.tell(news.Warned(text=f"{first.id} could not be loaded; the other models are served"))
    await supervisor.read_headers()
    models = supervisor.models()
    if text := nothing_served(models):
        anew = "; correct that and have the configuration read anew" if request.source else ""
        request.tell(news.Warned(text=f"{text}{anew}"))
    elif models and not any(model.phase in (Phase.LOADED, Phase.LOADING) for model in models):
        failed = sum(model.phase is Phase.FAILED for model in models)
        request.tell(news.Waiting(url=url, models=len(models), failed=failed))


async def _shut(house: House, supervisor: Supervisor, request: Request) -> None:
    """Drain, then stop everything; a second signal stops at once. What fails ends without a word but its reason."""
    drain_s, asked = house.settings.server.drain, request.stop.is_set()
    if asked:
        request.tell(news.Stopping(drain_s=drain_s))
    await asyncio.to_thread(house.register.withdraw)
    house.log.close()  # those who follow it would else be waited for
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
    if asked:
        request.tell(news.Stopped(cut=cut))
