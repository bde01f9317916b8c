"""The supervisor: which models are in memory, who may use them, and what happens when an engine dies."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from bercail.core import launch, news, schedule
from bercail.core.configuration import Configuration, Rule, Selector
from bercail.core.declared import Declared, ModelFile
from bercail.core.declared import Keep as Keeping
from bercail.core.errors import BercailError, BusyError, EngineError, NotFoundError, StoppingError
from bercail.core.launch import Address, Pause, Stage
from bercail.core.line import Ticket
from bercail.core.machine import Machine
from bercail.core.model import Findings
from bercail.core.need import Policy, Terms, nobody_leaves
from bercail.core.report import nowhere_lines
from bercail.core.rewriting import changes, rewritten
from bercail.core.route import Phase, ServedModel
from bercail.core.seat import Seat, Stand
from bercail.core.selecting import select
from bercail.core.turn import Action, Decline, Drain, Grant, Refuse, Resume, Schedule, Start, Stop, WakeAt
from bercail.core.units import Seconds
from bercail.core.unserved import unserved
from bercail.flows.keepsakes import save
from bercail.flows.machine import glance
from bercail.flows.prepare import prepare, read
from bercail.flows.resident import STOP_GRACE_S, Entry, Resident, bring_up, served
from bercail.flows.roster import Roster, muster
from bercail.ports import House

_ALIVE = frozenset((Stand.READY, Stand.DRAINING))
_COMING = frozenset((Stand.CALLED, Stand.STARTING))


@dataclass(slots=True, kw_only=True)
class _Waiter:
    """A request in the queue."""

    ticket: Ticket
    granted: asyncio.Future[Ticket] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ResidentLease:
    """The right to send one request to a model in memory."""

    def __init__(
        self,
        resident: Resident,
        model: ServedModel,
        declared: Declared | None,
        asked: str,
        load_s: Seconds,
        give_back: Callable[[], None],
    ) -> None:
        self._resident = resident
        self._declared = declared
        self._asked = asked
        self._give_back: Callable[[], None] | None = give_back
        self.model = model
        self.load_s = load_s

    @property
    def address(self) -> Address:
        """Where the engine listens."""
        return self._resident.process.address

    def rewrite(self, body: bytes) -> bytes:
        """A JSON object for it, with what a configuration changes in it."""
        if self._declared is None or not changes(self._declared, self._asked):
            return body
        return rewritten(body, self._declared, self._asked)

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back()

    def failure(self) -> EngineError | None:
        """If the engine has died: what happened, with the last lines of its log."""
        return self._resident.failure


class Supervisor:
    """Owns the engines; who comes in and who is served is decided by ``core.schedule``, and ``core.launch`` per engine.

    A model's need is its plan as if it were alone on the machine. Memory is looked at while none is loaded; from then
    on what is planned for those in memory is counted, for what they map from disk looks free to the system. What
    commands take is not known and not counted: the rule of a configuration says which of them may run together.
    """

    def __init__(
        self,
        house: House,
        findings: Findings,
        tell: Callable[[news.News], None],
        policy: Policy | None = None,
        roster: Roster | None = None,
    ) -> None:
        """Begin with everybody out.

        Args:
            house: what is built here.
            findings: models that were found or named.
            tell: hears every step.
            policy: how long one waits, and for what; the usual one if it is None.
            roster: all models, if they have been mustered; to muster them takes a look at the disk.
        """
        self._house = house
        self._findings = findings
        self._tell = tell
        self._roster = roster or muster(house, findings, house.configuration)
        self._entries = dict(self._roster.entries)
        self._state = Schedule(terms=Terms(policy=policy or Policy()))
        self._machine: Machine | None = None
        self._events: deque[schedule.Event] = deque()
        self._feeding = False
        self._changed = asyncio.Event()
        self._waiting: dict[int, _Waiter] = {}
        self._tickets = 0
        self._alarm: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._introduce(house.configuration, frozenset())

    def models(self) -> tuple[ServedModel, ...]:
        """Every model, loaded or not."""
        return tuple(self._served(self._entries[name]) for name in self._roster.entries)

    def find(self, model_id: str) -> ServedModel:
        """The model of that name; an empty name is the only model there is, or the only loaded one.

        Raises:
            NotFoundError: there is none.
        """
        return self._served(self._entry(model_id))

    async def lease(self, model_id: str, key: str = "", priority: int = 0) -> ResidentLease:
        """A lease on the model, after queueing and loading as needed.

        Args:
            model_id: as ``find`` takes it.
            key: whose share it counts for; empty is everybody without one.
            priority: 0 is ordinary; the higher, the sooner.

        Raises:
            NotFoundError: no such model.
            RefusedError: it does not fit.
            ReadError: its file must not be loaded.
            EngineError: its engine failed.
            BusyError: too many wait, or for too long; says when to come again.
            StoppingError: the server is going down.
        """
        entry = self._entry(model_id)
        self._refuse_if_stopping()
        asked_s = self._house.clock.monotonic()
        if self._stand(entry) not in _ALIVE | _COMING:
            await self._plan(entry)
            self._refuse_if_stopping()
        self._tickets += 1
        now_s = self._house.clock.monotonic()
        waiter = _Waiter(
            ticket=Ticket(number=self._tickets, model=entry.id, key=key, priority=priority, arrived_s=now_s)
        )
        self._waiting[self._tickets] = waiter
        self._feed(schedule.Asked(ticket=waiter.ticket))
        try:
            ticket = await waiter.granted
        except asyncio.CancelledError:
            self._feed(schedule.Left(ticket=waiter.ticket))
            raise
        finally:
            self._waiting.pop(waiter.ticket.number, None)
        granted = self._entries[ticket.model]
        resident = granted.last
        assert resident is not None, "what is granted has been loaded"
        return ResidentLease(
            resident, self._served(granted), granted.declared, model_id, resident.load_within_s(asked_s),
            lambda: self._feed(schedule.Released(ticket=ticket)),
        )  # fmt: skip

    async def load(self, model_id: str) -> None:
        """Bring a model in without a request, where those that are idle make room; returns when it is ready.

        Raises:
            BusyError: there is no room that could be made now.
            BercailError: it cannot be loaded; see ``lease``.
        """
        entry = self._entry(model_id)
        self._refuse_if_stopping()
        await self._plan(entry)
        entry.declined = ""
        self._feed(schedule.Preload(model=entry.id))
        while self._stand(entry) is not Stand.READY:
            if entry.failure is not None and self._stand(entry) is Stand.OUT:
                raise entry.failure
            if entry.declined:
                raise BusyError(entry.declined)
            await self._changed.wait()
            self._refuse_if_stopping()

    async def unload(self, model_id: str) -> None:
        """Let a model finish what it serves and leave memory; returns when it has. Those who wait for it are refused.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._entry(model_id)
        self._feed(schedule.Unload(model=entry.id))
        while self._stand(entry) is not Stand.OUT and not self._stopping:
            await self._changed.wait()

    async def welcome(self) -> None:
        """Bring in those that are to be in memory from the start; what cannot is told."""
        configuration = self._house.configuration
        for text in (*self._roster.problems, *unserved(configuration)):
            self._tell(news.Warned(text=text))
        pinned = {model.id for model in configuration.models if model.keep is Keeping.PINNED}
        for name in dict.fromkeys((*configuration.preload, *sorted(pinned))):
            entry = self._entries[name]
            try:
                await self._plan(entry)
            except BercailError:  # told where it was found out
                continue
            self._feed(schedule.Preload(model=entry.id))

    async def reload(self, configuration: Configuration) -> None:
        """Serve what ``configuration`` declares: only what has changed starts anew, after its requests have ended."""
        before = self._roster
        self._house = replace(self._house, configuration=configuration)
        roster = await asyncio.to_thread(muster, self._house, self._findings, configuration)
        changed, added = [], []
        for name, fresh in roster.entries.items():
            known = self._entries.get(name)
            if known is None:
                self._entries[name] = fresh
                added.append(name)
            elif known.take(fresh):
                changed.append(name)
        self._roster = replace(roster, entries={name: self._entries[name] for name in roster.entries})
        alive = [name for name in changed if self._stand(self._entries[name]) in _ALIVE | _COMING]
        for name in alive:
            with contextlib.suppress(BercailError):  # told where it was found out
                await self._plan(self._entries[name])
        self._introduce(configuration, frozenset(alive))
        gone = tuple(name for name in before.entries if name not in roster.entries)
        self._tell(news.Reloaded(changed=tuple(changed), added=tuple(added), gone=gone))
        await self.welcome()

    def _introduce(self, configuration: Configuration, reload: frozenset[str]) -> None:
        """Tell the schedule of models whose needs are known, and of the rule that holds beside memory."""
        needs = {name: entry.need() for name, entry in self._roster.entries.items() if entry.is_known}
        rule = configuration.rule
        leaves = nobody_leaves if rule is None else partial(_leaving, rule)
        if needs or rule is not None or self._state.terms.needs:
            terms = replace(self._state.terms, needs=needs, leaves=leaves)
            self._feed(schedule.TermsChanged(terms=terms, reload=reload & needs.keys()))

    async def read_headers(self) -> None:
        """Read what is not yet read, so that listings tell context lengths and capabilities."""
        for entry in tuple(self._entries.values()):
            if entry.found is not None and entry.model is None and not entry.error:
                try:
                    entry.model = await read(self._house, entry.found)
                except BercailError as error:
                    entry.error = str(error)

    async def close(self) -> None:
        """Stop all engines and refuse whoever waits."""
        self._stopping = True
        self._changed.set()
        for waiter in tuple(self._waiting.values()):
            with contextlib.suppress(asyncio.InvalidStateError):  # it has just left, or was just granted
                waiter.granted.set_exception(StoppingError("the server is going down"))
        for entry in self._entries.values():
            entry.life, _ = launch.next_step(entry.life, launch.StopAsked())
            if entry.resident is not None:
                entry.resident.leaving = True
        for task in (*filter(None, (self._alarm,)), *self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        residents = [entry for entry in self._entries.values() if entry.resident is not None]
        await asyncio.gather(*(self._end(entry) for entry in residents))

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise StoppingError("the server is going down", hint="try again when it is back")

    def _entry(self, model_id: str) -> Entry:
        listed = self._roster.entries
        if not listed:
            lines = nowhere_lines(self._findings)
            raise NotFoundError("; ".join(lines[:-1]), hint=lines[-1], code="no_models")
        if selector := self._roster.selectors.get(model_id):
            return self._entry(self._selected(selector))
        name = self._roster.names.get(model_id, model_id)
        if name in listed:
            return self._entries[name]
        names = ", ".join((*listed, *self._roster.selectors))
        if model_id:
            raise NotFoundError(f"no model {model_id!r}", hint=f"there are: {names}")
        loaded = [name for name in listed if self._entries[name].resident is not None]
        likely = list(listed) if len(listed) == 1 else loaded
        if len(likely) == 1:
            return self._entries[likely[0]]
        which = "several are loaded" if likely else "none is loaded"
        raise NotFoundError(f"the request names no model and {which}", hint=f"name one of: {names}")

    def _selected(self, selector: Selector) -> str:
        """Which of its targets a selector means right now."""
        targets = {name: self._entry(name) for name in selector.targets}
        phases = {name: self._served(entry).phase for name, entry in targets.items()}
        seats = {name: self._state.seats.get(entry.id, _NOWHERE) for name, entry in targets.items()}
        return select(selector, phases, {name: len(seat.running) + len(seat.line) for name, seat in seats.items()})

    def _served(self, entry: Entry) -> ServedModel:
        stand = self._stand(entry)
        seat = self._state.seats.get(entry.id, _NOWHERE)
        phase = Phase.LOADING if stand in _COMING else Phase.FAILED if entry.error else Phase.UNLOADED
        if entry.resident is not None and stand in _ALIVE:
            phase = Phase.LOADED
        return replace(served(entry, phase), requests=len(seat.running), waiting=len(seat.line))

    def _stand(self, entry: Entry) -> Stand:
        return self._state.seats.get(entry.id, _NOWHERE).stand

    async def _plan(self, entry: Entry) -> None:
        """What the model needs, as it would be loaded now; whoever comes meanwhile waits for the same answer.

        Raises:
            BercailError: it cannot be loaded at all.
        """
        if entry.planning is None or entry.planning.done():
            entry.planning = self._spawn(self._planned(entry))
        await asyncio.shield(entry.planning)

    async def _planned(self, entry: Entry) -> None:
        if entry.command is not None:
            return  # what it takes is not known
        if entry.found is None:
            assert entry.failure is not None, "what was not found has its reason"
            raise entry.failure
        entry.error = ""
        if self._machine is None or self._empty():
            self._machine = await asyncio.to_thread(glance, self._house)
        try:
            prepared = await prepare(self._wishing(entry), entry.found, self._tell, self._machine)
        except BercailError as error:
            entry.error = str(error)
            self._tell(news.LoadFailed(model_id=entry.id, error=str(error)))
            raise
        entry.prepared, entry.model, entry.chat_refusal = prepared, prepared.model, prepared.chat_refusal
        terms = self._state.terms
        need = entry.need()
        budget = {**terms.budget, **{device.name: device.budget_bytes for device in prepared.plan.devices}}
        if terms.needs.get(entry.id) != need or budget != terms.budget:
            self._feed(
                schedule.TermsChanged(terms=replace(terms, needs={**terms.needs, entry.id: need}, budget=budget))
            )

    def _wishing(self, entry: Entry) -> House:
        """The house with the wishes that a configuration has for this model."""
        source = entry.declared.source if entry.declared else None
        if not isinstance(source, ModelFile):
            return self._house
        settings = self._house.settings
        return replace(self._house, settings=replace(settings, engine=source.wish(settings.engine)))

    def _empty(self) -> bool:
        """Whether nothing of ours is in memory, or on its way in or out."""
        return all(seat.stand is Stand.OUT for seat in self._state.seats.values())

    def _feed(self, event: schedule.Event) -> None:
        """Let the schedule decide, and do what it says; what follows meanwhile waits its turn."""
        self._events.append(event)
        if self._feeding or self._stopping:
            return
        self._feeding = True
        try:
            while self._events:
                happened = self._events.popleft()
                self._state, actions = schedule.schedule(self._state, happened, self._house.clock.monotonic())
                for action in actions:
                    self._act(action)
        finally:
            self._feeding = False
            self._changed.set()
            self._changed = asyncio.Event()

    def _act(self, action: Action) -> None:
        match action:
            case Start(model=model, again=again):
                entry = self._entries[model]
                entry.loading = self._spawn(self._load(entry, again=again))
            case Stop(model=model, swapped=swapped):
                self._entries[model].swaps += swapped
                self._stop(self._entries[model])
            case Grant(ticket=ticket):
                self._grant(ticket)
            case Refuse():
                self._refuse(action)
            case Decline(model=model, reason=reason):
                self._entries[model].declined = reason
                self._tell(news.Warned(text=reason))
            case WakeAt(at_s=at_s):
                if self._alarm is not None:
                    self._alarm.cancel()
                self._alarm = asyncio.create_task(self._wake(at_s))
            case Drain() | Resume():
                pass  # whoever holds a lease keeps it; new ones wait where they are
            case _ as unreachable:
                assert_never(unreachable)

    def _grant(self, ticket: Ticket) -> None:
        waiter = self._waiting[ticket.number]
        if waiter.granted.done():  # it has just left
            self._feed(schedule.Released(ticket=ticket))
        else:
            waiter.granted.set_result(ticket)

    def _refuse(self, refused: Refuse) -> None:
        failure = self._entries[refused.ticket.model].failure
        where = f"; it would have been number {refused.position} in line" if refused.position else ""
        busy = BusyError(f"{refused.reason}{where}", status=refused.status, retry_after_s=refused.retry_after_s)
        with contextlib.suppress(asyncio.InvalidStateError):  # it has just left
            self._waiting[refused.ticket.number].granted.set_exception(failure or busy)

    async def _wake(self, at_s: Seconds) -> None:
        # Timers of some event loops are a millisecond early, and whoever wakes too early is not woken again.
        while (rest_s := at_s - self._house.clock.monotonic()) > 0:
            await self._house.clock.sleep(rest_s)
        self._alarm = None
        self._feed(schedule.Tick())

    async def _load(self, entry: Entry, *, again: bool) -> None:
        """Bring a model up; whatever fails is told to those who wait for it."""
        entry.error, entry.failure = "", None
        if again:
            self._tell(news.Warned(text=f"{entry.id} ran out of memory; with more room it is tried once more"))
        if entry.life.stage is Stage.BACKING_OFF:
            entry.life, _ = launch.next_step(entry.life, launch.BackoffOver())
        else:
            entry.life = launch.Life()
        try:
            resident = await bring_up(self._house, entry, self._tell)
        except BercailError as error:
            self._start_failed(entry, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect of ours must not leave clients waiting for ever
            self._start_failed(entry, EngineError(f"internal error: {error!r}", code="internal"))
            return
        finally:
            entry.progress = None
        entry.resident = entry.last = resident
        entry.loads += 1
        entry.life, _ = launch.next_step(entry.life, launch.BecameReady())
        self._spawn(self._watch(entry, resident))
        self._feed(schedule.Ready(model=entry.id))

    def _start_failed(self, entry: Entry, error: BercailError) -> None:
        entry.error, entry.failure = str(error), error
        self._tell(news.LoadFailed(model_id=entry.id, error=str(error)))
        entry.life, step = launch.next_step(entry.life, launch.StartFailed(error=str(error)))
        self._feed(
            schedule.StartFailed(
                model=entry.id,
                reason=str(error),
                out_of_memory=error.code == "out_of_memory",
                retry_s=step.delay_s if isinstance(step, Pause) else None,
            )
        )

    async def _watch(self, entry: Entry, resident: Resident) -> None:
        """Wait for the end of an engine; if nobody asked for it, tell the truth and start it again."""
        ended = await resident.process.wait()
        self._house.journal.forget(resident.process.pid)
        if resident.leaving:
            return
        error = EngineError(f"the engine died ({ended})", code="engine_died", log_tail=ended.log_tail)
        entry.resident, resident.failure = None, error
        entry.error, entry.failure = error.message, error
        uptime_s = self._house.clock.monotonic() - resident.ready_at_s
        entry.life, step = launch.next_step(entry.life, launch.Died(error=error.message, uptime_s=uptime_s))
        again = isinstance(step, Pause) and self._stand(entry) is Stand.READY  # else it was to go anyway
        retry_s = step.delay_s if again and isinstance(step, Pause) else None
        name = entry.id
        self._tell(news.EngineDied(model_id=name, error=error.message, log_tail=ended.log_tail, retry_s=retry_s))
        self._feed(schedule.Died(model=name, reason=error.message, retry_s=retry_s))

    def _stop(self, entry: Entry) -> None:
        if entry.resident is not None:
            entry.resident.leaving = True  # at once: its death from now on is no crash
            self._spawn(self._unload(entry))
        else:
            self._spawn(self._give_up(entry))

    async def _unload(self, entry: Entry) -> None:
        resident = entry.resident
        if resident is not None and resident.prepared is not None:
            await save(self._house, resident.prepared, resident.process.address, self._tell)
        await self._end(entry)
        self._feed(schedule.Stopped(model=entry.id))

    async def _give_up(self, entry: Entry) -> None:
        """End a start that nobody waits for any more."""
        assert entry.loading is not None, "what starts has its task"
        entry.loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entry.loading
        if entry.resident is not None:  # it came up at the last moment
            await self._end(entry)
        self._feed(schedule.Stopped(model=entry.id))

    async def _end(self, entry: Entry) -> None:
        resident = entry.resident
        assert resident is not None, "only what runs is ended"
        resident.leaving = True
        await resident.process.stop(entry.command.stop_s if entry.command else STOP_GRACE_S)
        entry.resident = None
        self._house.journal.forget(resident.process.pid)
        self._tell(news.Unloaded(model_id=entry.id))

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_NOWHERE = Seat()


def _leaving(rule: Rule, target: str, running: frozenset[str]) -> frozenset[str]:
    return frozenset(rule.eviction_for(target, running))
