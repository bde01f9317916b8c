"""The supervisor: which model is in memory, who may use it, and what happens when its engine dies."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import assert_never

from bercail.core import launch, news, route
from bercail.core.errors import BercailError, EngineError, NotFoundError, RefusedError, StoppingError
from bercail.core.landing import compare, taught
from bercail.core.launch import Address, Life, Pause, Progress, Rest, Spawn, Stage
from bercail.core.model import Capability, Findings, FoundModel, Model, Role
from bercail.core.plan import Fits
from bercail.core.report import nowhere_lines
from bercail.core.route import Grant, Load, Phase, Residency, RouteEvent, RouteState, ServedModel, Ticket, Unload
from bercail.flows.lessons import keep
from bercail.flows.prepare import Prepared, prepare, read
from bercail.ports import EngineProcess, House

STOP_GRACE_S = 10.0
"""How long an engine may take to stop by itself."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is known of one model."""

    found: FoundModel
    model: Model | None = None
    chat_refusal: str = ""
    error: str = ""


@dataclass(slots=True, kw_only=True)
class _Resident:
    """The model in memory."""

    entry: _Entry
    plan: Fits
    process: EngineProcess
    ready_at_s: float
    failure: EngineError | None = None
    leaving: bool = False


@dataclass(slots=True, kw_only=True)
class _Waiter:
    """A request in the queue."""

    ticket: Ticket
    granted: asyncio.Future[_Resident] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ResidentLease:
    """The right to send one request to the resident."""

    def __init__(self, resident: _Resident, model: ServedModel, give_back: Callable[[_Resident], None]) -> None:
        self._resident = resident
        self._give_back: Callable[[_Resident], None] | None = give_back
        self.model = model

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        return self._resident.process.address

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back(self._resident)

    def failure(self) -> EngineError | None:
        """If the engine has died: what happened, with the last lines of its log."""
        return self._resident.failure


class Supervisor:
    """Owns the engine; everything that changes goes through ``core.route`` and ``core.launch``."""

    def __init__(self, house: House, findings: Findings, tell: Callable[[news.News], None]) -> None:
        self._house = house
        self._findings = findings
        self._tell = tell
        self._entries = {found.id: _Entry(found=found) for found in findings.models}
        self._state = RouteState()
        self._life = Life()
        self._resident: _Resident | None = None
        self._progress: Progress | None = None
        self._waiting: dict[int, _Waiter] = {}
        self._tickets = 0
        self._work: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def models(self) -> tuple[ServedModel, ...]:
        """Every model, loaded or not."""
        return tuple(self._served(entry) for entry in self._entries.values())

    def find(self, model_id: str) -> ServedModel:
        """The model of that name; an empty name is the only model there is, or the loaded one.

        Raises:
            NotFoundError: there is none.
        """
        return self._served(self._entry(model_id))

    async def lease(self, model_id: str) -> ResidentLease:
        """A lease on the model, after queueing and loading as needed.

        Raises:
            NotFoundError: no such model.
            RefusedError: it does not fit.
            ReadError: its file must not be loaded.
            EngineError: its engine failed.
            StoppingError: the server is going down.
        """
        entry = self._entry(model_id)
        if self._stopping:
            raise StoppingError("the server is going down", hint="try again when it is back")
        self._meet_crash(entry.found.id)
        self._tickets += 1
        waiter = _Waiter(ticket=Ticket(number=self._tickets, model_id=entry.found.id))
        self._waiting[self._tickets] = waiter
        self._feed(route.Asked(ticket=waiter.ticket))
        try:
            resident = await waiter.granted
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        finally:
            self._waiting.pop(waiter.ticket.number, None)
        return ResidentLease(resident, self._served(entry), self._give_back)

    async def read_headers(self) -> None:
        """Read what is not yet read, so that listings tell context lengths and capabilities."""
        for entry in self._entries.values():
            if entry.model is None and not entry.error:
                try:
                    entry.model = await read(self._house, entry.found)
                except BercailError as error:
                    entry.error = str(error)

    async def close(self) -> None:
        """Stop the engine and refuse whoever waits."""
        self._stopping = True
        self._life, _ = launch.next_step(self._life, launch.StopAsked())
        self._fail_waiting(None, StoppingError("the server is going down"))
        for task in (self._work, *self._tasks):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._resident is not None:
            await self._end(self._resident)

    def _entry(self, model_id: str) -> _Entry:
        if not self._entries:
            lines = nowhere_lines(self._findings)
            raise NotFoundError("; ".join(lines[:-1]), hint=lines[-1], code="no_models")
        if model_id in self._entries:
            return self._entries[model_id]
        if not model_id:
            if len(self._entries) == 1:
                return next(iter(self._entries.values()))
            if self._resident is not None:
                return self._resident.entry
        names = ", ".join(self._entries)
        if not model_id:
            raise NotFoundError("the request names no model and none is loaded", hint=f"name one of: {names}")
        raise NotFoundError(f"no model {model_id!r}", hint=f"there are: {names}")

    def _served(self, entry: _Entry) -> ServedModel:
        model, resident = entry.model, self._resident
        loaded = resident is not None and resident.entry is entry and self._life.stage is Stage.READY
        loading = self._state.resident == entry.found.id and self._state.residency is Residency.LOADING
        waiting = loading and self._life.stage is Stage.STARTING
        phase = Phase.LOADED if loaded else Phase.LOADING if waiting else Phase.UNLOADED
        served = ServedModel(
            id=entry.found.id,
            phase=Phase.FAILED if entry.error and phase is Phase.UNLOADED else phase,
            created=entry.found.modified_s,
            file_bytes=entry.found.bytes,
            chat_refusal=entry.chat_refusal,
            error=entry.error,
            progress=self._progress.fraction if waiting and self._progress else None,
        )
        if model is not None:
            served = replace(
                served,
                context_length=model.context_length,
                capabilities=_capabilities(model, entry.chat_refusal, resident.plan if loaded and resident else None),
                architecture=model.architecture,
                quantization=model.quantization,
                parameter_count=model.parameter_count,
                vocabulary=model.shape.vocabulary,
            )
        if loaded and resident is not None:
            settings = resident.plan.settings
            served = replace(served, slot_context_tokens=settings.slot_context_tokens, slots=settings.slots)
        return served

    def _meet_crash(self, model_id: str) -> None:
        """While a dead engine waits for its restart: the truth for its clients, the place for another model's."""
        if self._life.stage is not Stage.BACKING_OFF:
            return
        if self._state.resident == model_id:
            raise EngineError(
                f"{model_id}: {self._life.error}",
                hint="it is being started again; try in a few seconds",
                code="engine_died",
            )
        assert self._work is not None, "a pause has its task"
        self._work.cancel()
        self._feed(route.Gone())

    def _feed(self, event: RouteEvent) -> None:
        self._state, actions = route.route(self._state, event)
        for action in actions:
            match action:
                case Grant(ticket=ticket):
                    waiter = self._waiting[ticket.number]
                    if waiter.granted.done():  # it has just left or been refused
                        self._feed(route.Released())
                    else:
                        waiter.granted.set_result(self._taken())
                case Load(model_id=model_id):
                    self._life = Life()
                    self._work = asyncio.create_task(self._load(self._entries[model_id]))
                case Unload():
                    resident = self._taken()
                    resident.leaving = True  # at once: its death from now on is no crash
                    self._work = asyncio.create_task(self._unload(resident))
                case _ as unreachable:
                    assert_never(unreachable)

    def _taken(self) -> _Resident:
        assert self._resident is not None, "the route and the memory disagree"
        return self._resident

    def _leave(self, waiter: _Waiter) -> None:
        granted = waiter.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._give_back(granted.result())
        else:
            self._feed(route.Left(ticket=waiter.ticket))

    def _give_back(self, resident: _Resident) -> None:
        if resident is self._resident and resident.failure is None:
            self._feed(route.Released())

    async def _load(self, entry: _Entry) -> None:
        """Bring a model up; whatever fails is told to those who wait for it."""
        started_s = self._house.clock.monotonic()
        entry.error = ""
        try:
            prepared = await self._prepare(entry)
            process = await prepared.engine.start(prepared.spec, lambda progress: self._on_progress(entry, progress))
        except BercailError as error:
            self._start_failed(entry, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect of ours must not leave clients waiting for ever
            self._start_failed(entry, EngineError(f"internal error: {error!r}", code="internal"))
            return
        finally:
            self._progress = None
        self._house.journal.record(process.pid, stop_argv=process.stop_argv)
        now_s = self._house.clock.monotonic()
        self._resident = _Resident(entry=entry, plan=prepared.plan, process=process, ready_at_s=now_s)
        if refused := self._learn(prepared, process):
            await self._end(self._resident)
            self._start_failed(entry, refused)
            return
        self._life, _ = launch.next_step(self._life, launch.BecameReady())
        self._spawn(self._watch(self._resident))
        self._tell(
            news.Ready(
                plan=prepared.plan,
                seconds=now_s - started_s,
                resident_bytes=process.resident_bytes(),
                chat=not prepared.chat_refusal,
            )
        )
        self._feed(route.Loaded())

    def _learn(self, prepared: Prepared, process: EngineProcess) -> RefusedError | None:
        """Hold a load against its plan and keep what it teaches; why it must be ended, or None."""
        outcome = compare(prepared.plan, process.landed())
        if outcome is None:
            return None
        lessons = taught(prepared.plan, outcome, prepared.lessons, prepared.model.architecture)
        keep(self._house, prepared.machine, prepared.engine, lessons, self._tell)
        if not outcome.surprises:
            return None
        words = f"{prepared.plan.model_id}: {'; '.join(outcome.surprises)}"
        if self._house.settings.engine.allow_spill:
            self._tell(news.Warned(text=f"{words}; allowed by allow_spill"))
            return None
        return RefusedError(
            f"{words}; it was ended",
            hint="start it again, for the next plan knows of it; ask for less (--context, --slots); "
            "or go on all the same with --allow-spill",
            code="spilled",
        )

    async def _prepare(self, entry: _Entry) -> Prepared:
        prepared = await prepare(self._house, entry.found, self._tell)
        entry.model, entry.chat_refusal = prepared.model, prepared.chat_refusal
        self._tell(news.Planned(plan=prepared.plan))
        return prepared

    def _on_progress(self, entry: _Entry, progress: Progress) -> None:
        self._progress = progress
        self._tell(news.Loading(model_id=entry.found.id, progress=progress))

    def _start_failed(self, entry: _Entry, error: BercailError) -> None:
        entry.error = str(error)
        self._tell(news.LoadFailed(model_id=entry.found.id, error=str(error)))
        self._life, step = launch.next_step(self._life, launch.StartFailed(error=str(error)))
        self._fail_waiting(entry.found.id, error)
        self._follow(entry, step)

    def _follow(self, entry: _Entry, step: launch.LifeStep) -> None:
        match step:
            case Pause(delay_s=delay_s) if not self._state.waiting:
                self._work = asyncio.create_task(self._restart(entry, delay_s))
            case Pause() | Rest() | Spawn():  # given up, or its place is wanted by another model
                self._feed(route.Gone())
            case _ as unreachable:
                assert_never(unreachable)

    async def _restart(self, entry: _Entry, delay_s: float) -> None:
        await self._house.clock.sleep(delay_s)
        self._life, _ = launch.next_step(self._life, launch.BackoffOver())
        await self._load(entry)

    async def _watch(self, resident: _Resident) -> None:
        """Wait for the end of an engine; if nobody asked for it, tell the truth and start it again."""
        ended = await resident.process.wait()
        self._house.journal.forget(resident.process.pid)
        if resident.leaving:
            return
        error = EngineError(f"the engine died ({ended})", code="engine_died", log_tail=ended.log_tail)
        resident.failure = error
        self._resident = None
        uptime_s = self._house.clock.monotonic() - resident.ready_at_s
        self._life, step = launch.next_step(self._life, launch.Died(error=error.message, uptime_s=uptime_s))
        name = resident.entry.found.id
        resident.entry.error = error.message
        self._fail_waiting(name, error)
        retry_s = step.delay_s if isinstance(step, Pause) and not self._state.waiting else None
        self._tell(news.EngineDied(model_id=name, error=error.message, log_tail=ended.log_tail, retry_s=retry_s))
        if isinstance(step, Pause):
            self._feed(route.Crashed())
        self._follow(resident.entry, step)

    async def _unload(self, resident: _Resident) -> None:
        await self._end(resident)
        self._feed(route.Gone())

    async def _end(self, resident: _Resident) -> None:
        resident.leaving = True
        await resident.process.stop(STOP_GRACE_S)
        self._resident = None
        self._house.journal.forget(resident.process.pid)
        self._tell(news.Unloaded(model_id=resident.entry.found.id))

    def _fail_waiting(self, model_id: str | None, error: BercailError) -> None:
        open_ones = [waiter for waiter in self._waiting.values() if not waiter.granted.done()]
        failing = [waiter for waiter in open_ones if model_id in (None, waiter.ticket.model_id)]
        for waiter in failing:
            waiter.granted.set_exception(error)
        for waiter in failing:  # only now, for whoever leaves may let the next one through
            self._feed(route.Left(ticket=waiter.ticket))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _capabilities(model: Model, chat_refusal: str, plan: Fits | None) -> tuple[Capability, ...]:
    """What may be asked of a model as it is loaded, or as it would be."""
    embeds = plan.settings.embedding if plan else model.role is not Role.GENERATE
    if embeds:
        ranks = model.role is Role.RERANK
        return (Capability.RERANK,) if ranks else (Capability.EMBEDDINGS,)
    without: set[Capability] = {Capability.CHAT, Capability.TOOLS} if chat_refusal else set()
    if plan is not None and plan.projector is None:
        without |= {Capability.VISION, Capability.AUDIO}
    kept = tuple(capability for capability in model.capabilities if capability not in without)
    adds = Capability.CHAT not in kept and not chat_refusal
    # Without a template of its own the engine speaks ChatML; flows.prepare says so when it loads.
    return (Capability.CHAT, *kept) if adds else kept
