"""A model in memory: how it comes up, what its load teaches, and how clients see it."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.allotment import Allotment
from bercail.core.budget import MAIN_MEMORY, by_card
from bercail.core.command import CommandSpec
from bercail.core.declared import Declared, ModelFile
from bercail.core.dialect import LLAMA_CPP
from bercail.core.engine import Make, Offer
from bercail.core.errors import BercailError, EngineError, RefusedError
from bercail.core.landing import Outcome, compare, taught
from bercail.core.launch import Life, Progress
from bercail.core.model import FoundModel, Model
from bercail.core.need import Keep, Need
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits
from bercail.core.route import Phase, ServedModel, offered
from bercail.core.units import Bytes, Seconds
from bercail.flows.keepsakes import bring_back
from bercail.flows.lessons import keep
from bercail.flows.prepare import Prepared
from bercail.ports import EngineProcess, House

STOP_GRACE_S: Seconds = 10.0
"""How long an engine may take to stop by itself."""


LOAD_BYTES_PER_S = 1_000_000_000
"""How fast weights are taken to load before one load was seen."""
LEAST_LOAD_S: Seconds = 1.0
MOST_AT_ONCE = 32
"""Requests that the server of a command gets at once, where its configuration does not say."""


@dataclass(slots=True, kw_only=True)
class Resident:
    """An engine, or a server elsewhere, that serves a model.

    Attributes:
        plan: None for what a command starts: what it takes is not known.
        started_at_s: when its start was asked for.
        prepared: what it was launched by; None for what a command starts.
        taken: bytes by device that it takes, where its engine has told that it landed as planned; else None.
        failure: how it died, if it has, or why it is about to be ended.
        leaving: its end is no crash: it was asked for.
    """

    plan: Fits | None
    offer: Offer
    process: EngineProcess
    started_at_s: Seconds
    ready_at_s: Seconds
    prepared: Prepared | None = None
    taken: Mapping[str, Bytes] | None = None
    failure: EngineError | None = None
    leaving: bool = False

    def load_within_s(self, asked_s: Seconds) -> Seconds:
        """How much of the time since ``asked_s`` it was loading."""
        return max(0.0, self.ready_at_s - max(asked_s, self.started_at_s))


@dataclass(slots=True, kw_only=True)
class Entry:
    """What is known of one model: a file that was found, or a command that was declared.

    Attributes:
        id: the name that clients use.
        declared: what a configuration says of it, or None.
        prepared: the launch that its need was told by; None before it was first planned.
        planning: that is being found out.
        loading: the task that brings it up, or last did.
        resident: it in memory.
        last: it in memory, or as it last was.
        error: why it failed or cannot be loaded, in words; empty otherwise.
        failure: the same for those who wait.
        declined: why it could not be loaded without a request, in words; empty otherwise.
        away: why it cannot be reached where it is elsewhere, in words; empty otherwise.
        loads: how often it came in.
        swaps: how often it then left for another.
        allotment: its share of the cores, if it asks for one.
    """

    id: str
    found: FoundModel | None = None
    declared: Declared | None = None
    command: CommandSpec | None = None
    model: Model | None = None
    chat_refusal: str = ""
    prepared: Prepared | None = None
    planning: asyncio.Task[None] | None = None
    loading: asyncio.Task[None] | None = None
    life: Life = Life()  # noqa: RUF009 - a frozen value
    progress: Progress | None = None
    resident: Resident | None = None
    last: Resident | None = None
    error: str = ""
    failure: BercailError | None = None
    declined: str = ""
    away: str = ""
    loads: int = 0
    swaps: int = 0
    allotment: Allotment | None = None

    @property
    def is_known(self) -> bool:
        """Whether what it needs has been found out."""
        return self.command is not None or self.prepared is not None

    def need(self) -> Need:
        """What the schedule is told of it; it must be known.

        What a command takes of memory is not known, and its server queues by itself.
        """
        declared = self.declared
        keep = Keep(declared.keep) if declared else Keep.NORMAL
        priority, ttl_s = (declared.priority, declared.ttl_s) if declared else (0, None)
        if self.prepared is None:
            limit = (declared.concurrency_limit if declared else None) or MOST_AT_ONCE
            return Need(bytes={}, slots=limit, keep=keep, priority=priority, ttl_s=ttl_s)
        plan = self.prepared.plan
        return Need(
            bytes=_taken_by(plan),
            slots=plan.settings.slots,
            keep=keep,
            priority=priority,
            ttl_s=ttl_s,
            reload_s=LEAST_LOAD_S + self.prepared.spec.weights_bytes / LOAD_BYTES_PER_S,
        )

    def wish(self, general: EngineOptions) -> EngineOptions:
        """What is wished for it: what the configuration says of it, else what holds for all models."""
        source = self.declared.source if self.declared else None
        return source.wish(general) if isinstance(source, ModelFile) else general

    def budget(self, general: EngineOptions) -> Mapping[str, Bytes]:
        """What there is of everything that its plan takes, for all models together; it must be planned.

        Args:
            general: the wishes that hold for all models.
        """
        assert self.prepared is not None, "what was not planned takes nothing that is known"
        plan, machine = self.prepared.plan, self.prepared.machine
        rooms = dict(by_card(plan.devices)[1])
        shared = sum(gpu.available_bytes for gpu in machine.gpus if gpu.shared)
        available = machine.memory.available_bytes + shared
        if general.memory is not None:
            available = min(available, max(general.memory, rooms[MAIN_MEMORY]))
        if (number := plan.settings.numa) is not None:
            free = next(node.available_bytes for node in machine.cpu.nodes if node.id == number)
            rooms[f"NUMA node {number}"] = available if free is None else min(free, available)
        return {**rooms, MAIN_MEMORY: available}

    def take(self, fresh: "Entry") -> bool:
        """Become what a configuration says anew; whether it must be loaded anew for that."""
        before = self.source()
        self.declared, self.command, self.found = fresh.declared, fresh.command, fresh.found
        self.allotment = fresh.allotment
        if self.source() == before:
            return False
        self.model, self.prepared, self.chat_refusal = None, None, ""
        self.error, self.failure = fresh.error, fresh.failure
        return True

    def source(self) -> object:
        """What its process is made of."""
        found, share = self.found, self.allotment
        return (
            self.declared.source if self.declared else None,
            self.command,
            found and (found.path, found.projector),
            share and (share.cpus, share.node, share.refusal),
        )


def _taken_by(plan: Fits) -> Mapping[str, Bytes]:
    """Bytes by device, as the schedule counts them."""
    taken = dict(by_card(plan.devices)[0])
    if (node := plan.settings.numa) is not None:
        taken[f"NUMA node {node}"] = plan.devices[0].total_bytes
    return taken


async def bring_up(house: House, entry: Entry, tell: Callable[[news.News], None]) -> Resident:
    """The engine of a planned model, ready and held against its plan; or what its command starts, ready.

    Raises:
        EngineError: it did not become ready.
        RefusedError: its load took more than planned, and that is not allowed.
    """
    if entry.command is not None:
        return await _run(house, entry, entry.command, tell)
    prepared = entry.prepared
    assert prepared is not None, "only what was planned is loaded"
    tell(news.Planned(plan=prepared.plan))
    started_s = house.clock.monotonic()

    def hear(progress: Progress) -> None:
        entry.progress = progress
        tell(news.Loading(model_id=entry.id, progress=progress))

    process = await prepared.engine.start(prepared.spec, hear)
    now_s = house.clock.monotonic()
    async with _ended_if_it_fails(house, entry, process, tell):
        outcome = compare(prepared.plan, process.landed())
        if outcome is not None and (refused := _learn(house, prepared, outcome, tell)):
            raise refused
        held = await asyncio.to_thread(process.resident_bytes)  # the kernel walks all its pages for that
        await bring_back(house, prepared, process.address, tell)
        # Last, with nothing awaited from here to where it is let serve: whoever is told finds it so.
        chat = not prepared.chat_refusal
        tell(news.Ready(plan=prepared.plan, seconds=now_s - started_s, resident_bytes=held, chat=chat))
        return Resident(
            plan=prepared.plan,
            offer=prepared.engine.offer,
            process=process,
            started_at_s=started_s,
            ready_at_s=house.clock.monotonic(),
            prepared=prepared,
            taken=_taken_by(prepared.plan) if outcome is not None and not outcome.surprises else None,
        )


@contextlib.asynccontextmanager
async def _ended_if_it_fails(
    house: House, entry: Entry, process: EngineProcess, tell: Callable[[news.News], None]
) -> AsyncIterator[None]:
    """See that nothing is left of an engine whose start is refused or called off when it is up already."""
    house.journal.record(process.pid, stop_argv=process.stop_argv)
    try:
        yield
    except BaseException:
        await asyncio.shield(process.stop(entry.command.stop_s if entry.command else STOP_GRACE_S))
        house.journal.forget(process.pid)
        tell(news.Unloaded(model_id=entry.id))
        raise


async def _run(house: House, entry: Entry, command: CommandSpec, tell: Callable[[news.News], None]) -> Resident:
    started_s = house.clock.monotonic()

    def hear(progress: Progress) -> None:
        entry.progress = progress
        tell(news.Loading(model_id=entry.id, progress=progress))

    process = await house.commands.start(command, hear)
    now_s = house.clock.monotonic()
    async with _ended_if_it_fails(house, entry, process, tell):
        address, held = str(process.address), await asyncio.to_thread(process.resident_bytes)
        tell(news.CommandReady(model_id=entry.id, seconds=now_s - started_s, address=address, resident_bytes=held))
        return Resident(plan=None, offer=BY_COMMAND, process=process, started_at_s=started_s, ready_at_s=now_s)


BY_COMMAND = Offer(name="command", id="command", make=Make.FOUND)
"""What a configuration starts by a command of its own."""


def _learn(
    house: House, prepared: Prepared, outcome: Outcome, tell: Callable[[news.News], None]
) -> RefusedError | None:
    """Keep what a load teaches that was held against its plan; why it must be ended, or None."""
    lessons = taught(prepared.plan, outcome, prepared.lessons, prepared.model.architecture)
    keep(house, prepared.machine, prepared.engine, lessons, tell)
    if not outcome.surprises:
        return None
    words = f"{prepared.plan.model_id}: {'; '.join(outcome.surprises)}"
    if house.settings.engine.allow_spill:
        tell(news.Warned(text=f"{words}; allowed by allow_spill"))
        return None
    return RefusedError(
        f"{words}; it was ended",
        hint="start it again, for the next plan knows of it; ask for less (--context, --slots); "
        "or go on all the same with --allow-spill",
        code="spilled",
    )


def served(entry: Entry, phase: Phase, general: EngineOptions) -> ServedModel:
    """The model as clients see it.

    Args:
        entry: the model.
        phase: where it stands.
        general: the wishes that hold for all models.
    """
    seen = ServedModel(
        id=entry.id,
        phase=phase,
        created=entry.found.modified_s if entry.found else 0,
        file_bytes=entry.found.bytes if entry.found else 0,
        chat_refusal=entry.chat_refusal,
        error=entry.away or entry.error,
        progress=entry.progress.fraction if phase is Phase.LOADING and entry.progress else None,
        loads=entry.loads,
        swaps=entry.swaps,
    )
    if entry.declared is not None:
        seen = _as_declared(seen, entry.declared)
    resident = entry.resident if phase is Phase.LOADED else None
    if entry.model is not None:
        seen = _as_read(seen, entry, entry.model, entry.wish(general), resident.plan if resident else None)
    return _as_loaded(seen, entry, resident) if resident else seen


def _as_read(seen: ServedModel, entry: Entry, model: Model, wish: EngineOptions, plan: Fits | None) -> ServedModel:
    """With what its file says, and what it can do under ``wish``."""
    return replace(
        seen,
        context_length=model.context_length,
        wished_context_tokens=min(wish.context, model.context_length) if wish.context else None,
        capabilities=offered(model, wish, entry.chat_refusal, plan),
        architecture=model.architecture,
        quantization=model.quantization,
        parameter_count=model.parameter_count,
        vocabulary=model.shape.vocabulary,
        format=model.format.value,
    )


def _as_loaded(seen: ServedModel, entry: Entry, resident: Resident) -> ServedModel:
    """With what its engine, and the plan if there is one, say."""
    address = resident.process.address
    plain = address.site is None and address.unix_path is None
    seen = replace(
        seen,
        address=f"http://{address}" if plain else str(address),
        started_by=_started_by(entry.command, address.port),
    )
    if resident.plan is None:
        return replace(seen, engine=resident.offer.name)
    settings = resident.plan.settings
    return replace(
        seen,
        cores=settings.cores,
        numa=settings.numa,
        cores_because=next((row.because for row in resident.plan.reasons if row.setting == "cores"), ""),
        slot_context_tokens=settings.slot_context_tokens,
        slots=settings.slots,
        engine=resident.plan.engine,
        lacks=resident.offer.lacks,
        batches=resident.offer.batches,
        vector_values=_vector_values(entry.model, resident.plan),
        planned_bytes=sum(device.total_bytes for device in resident.plan.devices),
        held_bytes=sum(device.held_bytes for device in resident.plan.devices),
        held_gpu_bytes=sum(device.held_bytes for device in resident.plan.devices if device.name != MAIN_MEMORY),
        capabilities=tuple(word for word in seen.capabilities if word not in resident.offer.lacks),
    )


def _vector_values(model: Model | None, plan: Fits) -> int | None:
    """Values of each embedding; None if that is not known, or the engine can make fewer: llama.cpp cannot (b11549)."""
    if model is None or plan.engine != LLAMA_CPP or not plan.settings.embedding:
        return None
    return model.shape.vector or None


def _started_by(command: CommandSpec | None, port: int | None) -> str:
    """The command line with the port that it is given, or would be; empty where there is none."""
    if command is None:
        return ""
    return shlex.join(command.argv if port is None else command.at(port).argv)


def _as_declared(seen: ServedModel, declared: Declared) -> ServedModel:
    """With what the configuration says of it."""
    said = declared.capabilities
    command = declared.source if isinstance(declared.source, CommandSpec) else None
    return replace(
        seen,
        name=declared.name,
        description=declared.description,
        unlisted=declared.unlisted,
        aliases=declared.aliases,
        metadata=declared.metadata,
        overflow=declared.overflow,
        ttl_s=declared.ttl_s,
        started_by=_started_by(command, command.port if command else None),
        context_length=said.context_tokens,
        plain=command is not None and not _is_llama_server(command),
        ignores_websockets=declared.ignore_websockets,
    )


def _is_llama_server(command: CommandSpec) -> bool:
    """Whether it understands what we add for llama.cpp; other servers may refuse what they do not know."""
    return any("llama-server" in word.rpartition("/")[2] for word in command.argv)
