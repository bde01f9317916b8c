"""What the schedule decides is done: engines start and stop, requests are let through or sent away."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import assert_never

from bercail.core import events, launch, news, schedule
from bercail.core.errors import BercailError, BusyError, EngineError, StoppingError
from bercail.core.launch import Pause, Stage
from bercail.core.line import Ticket
from bercail.core.loading import Wait
from bercail.core.need import Policy, Terms
from bercail.core.route import Phase
from bercail.core.seat import Seat, Stand
from bercail.core.turn import Action, Decline, Drain, Grant, Refuse, Resume, Schedule, Start, Stop, WakeAt
from bercail.core.units import Seconds
from bercail.flows.health import fails, follow
from bercail.flows.keepsakes import save
from bercail.flows.resident import STOP_GRACE_S, Entry, Resident, bring_up
from bercail.ports import House, Watch

_NOWHERE = Seat()
_PHASES = {Stand.STARTING: Phase.LOADING, Stand.READY: Phase.LOADED}


@dataclass(slots=True, kw_only=True)
class _Waiter:
    """A request in the queue."""

    ticket: Ticket
    granted: asyncio.Future[Ticket] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Dispatcher:
    """Feeds ``core.schedule`` with what happens and carries out what it says; ``core.launch`` rules each engine's life.

    Attributes:
        state: of the schedule.
        stopping: nothing is begun any more.
        changed: set, and replaced, after every event.
    """

    def __init__(
        self, house: House, entries: dict[str, Entry], tell: Callable[[news.News], None], policy: Policy
    ) -> None:
        """Begin with everybody out.

        Args:
            house: what is built here.
            entries: all models by id, those that are on their way out included; whoever gave it may add to it.
            tell: hears every step.
            policy: how long one waits, and for what.
        """
        self._house = house
        self._entries = entries
        self._tell = tell
        self.state = Schedule(terms=Terms(policy=policy))
        self.stopping = False
        self.changed = asyncio.Event()
        self._events: deque[events.Event] = deque()
        self._feeding = False
        self._waiting: dict[int, _Waiter] = {}
        self._tickets = 0
        self._alarm: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of ours is in memory, or on its way in or out."""
        return all(seat.stand is Stand.OUT for seat in self.state.seats.values())

    def seat(self, entry: Entry) -> Seat:
        """Where a model stands, and who waits for it."""
        return self.state.seats.get(entry.id, _NOWHERE)

    async def wait(
        self, entry: Entry, key: str, priority: int, substitutes: tuple[str, ...] = (), watch: Watch | None = None
    ) -> Ticket:
        """A request's turn at a model; what is granted must be given back by ``Released``. Cancelling leaves the queue.

        ``watch`` gets to ask how it stands with it, if it has to wait.

        Raises:
            BercailError: why it will not be served.
        """
        self._tickets += 1
        now_s = self._house.clock.monotonic()
        ticket = Ticket(
            number=self._tickets, model=entry.id, key=key, priority=priority, arrived_s=now_s, substitutes=substitutes
        )
        waiter = _Waiter(ticket=ticket)
        self._waiting[self._tickets] = waiter
        self.feed(events.Asked(ticket=ticket))
        if watch is not None and not waiter.granted.done():
            watch(lambda: self._outlook(ticket))
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self.feed(events.Left(ticket=ticket))
            raise
        finally:
            self._waiting.pop(ticket.number, None)
            del waiter  # it holds the refusal, whose trace holds this frame: only the collector would find the request

    def _outlook(self, ticket: Ticket) -> Wait:
        """How it stands with a request that waits; with one that has just been let through, it is next."""
        lines = (
            name for name in (ticket.model, *ticket.substitutes) if self.seat(self._entries[name]).line.has(ticket)
        )
        entry = self._entries[next(lines, ticket.model)]
        seat = self.seat(entry)
        phase = _PHASES.get(seat.stand, Phase.FAILED if entry.error else Phase.UNLOADED)
        position = seat.line.position(ticket) if seat.line.has(ticket) else 1
        progress = entry.progress.fraction if entry.progress else None
        return Wait(model=entry.id, phase=phase, position=position, progress=progress)

    async def close(self) -> None:
        """Refuse whoever waits, and stop all engines."""
        self.stopping = True
        self.changed.set()
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

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task that ends with us at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def feed(self, event: events.Event) -> None:
        """Let the schedule decide, and do what it says; what follows meanwhile waits its turn."""
        self._events.append(event)
        if self._feeding or self.stopping:
            return
        self._feeding = True
        try:
            while self._events:
                happened = self._events.popleft()
                self.state, actions = schedule.schedule(self.state, happened, self._house.clock.monotonic())
                for action in actions:
                    self._act(action)
        finally:
            self._feeding = False
            self.changed.set()
            self.changed = asyncio.Event()

    def _act(self, action: Action) -> None:
        match action:
            case Start(model=model, again=again):
                entry = self._entries[model]
                entry.loading = self.spawn(self._load(entry, again=again))
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
            self.feed(events.Released(ticket=ticket))
        else:
            waiter.granted.set_result(ticket)

    def _refuse(self, refused: Refuse) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # it has just left
            self._waiting[refused.ticket.number].granted.set_exception(self._why(refused))

    def _why(self, refused: Refuse) -> BercailError:
        """What a request is told that is sent away: also what its model is at, if that has failed lately."""
        failure = self._entries[refused.ticket.model].failure
        if refused.failed and failure is not None:
            return failure
        where = f"; it would have been number {refused.position} in line" if refused.position else ""
        before = f"; before that, {failure.message}" if failure is not None else ""
        words = f"{refused.reason}{where}{before}"
        return BusyError(words, status=refused.status, retry_after_s=refused.retry_after_s)

    async def _wake(self, at_s: Seconds) -> None:
        # Timers of some event loops are a millisecond early, and whoever wakes too early is not woken again.
        while (rest_s := at_s - self._house.clock.monotonic()) > 0:
            await self._house.clock.sleep(rest_s)
        self._alarm = None
        self.feed(events.Tick())

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
        self.spawn(self._watch(entry, resident))
        self.feed(events.Ready(model=entry.id, bytes=resident.taken))

    def _start_failed(self, entry: Entry, error: BercailError) -> None:
        entry.error, entry.failure = str(error), error
        self._tell(news.LoadFailed(model_id=entry.id, error=str(error)))
        entry.life, step = launch.next_step(entry.life, launch.StartFailed(error=str(error)))
        self.feed(
            events.StartFailed(
                model=entry.id,
                reason=str(error),
                out_of_memory=error.code == "out_of_memory",
                retry_s=step.delay_s if isinstance(step, Pause) else None,
            )
        )

    async def _watch(self, entry: Entry, resident: Resident) -> None:
        """Wait for the end of an engine; if nobody asked for it, tell the truth and start it again."""
        care = self.spawn(self._look_after(entry, resident))
        ended = await resident.process.wait()
        care.cancel()
        self._house.journal.forget(resident.process.pid)
        if resident.leaving:
            return
        died = EngineError(f"the engine died ({ended})", code="engine_died", log_tail=ended.log_tail)
        entry.resident, resident.failure = None, resident.failure or died
        retry_s = self._lost(entry, resident, resident.failure)
        self.feed(events.Died(model=entry.id, reason=resident.failure.message, retry_s=retry_s))

    def _lost(self, entry: Entry, resident: Resident, error: EngineError) -> Seconds | None:
        """Tell of an engine that is no more, or is to be no more; when it is started again, None if it is not."""
        entry.error, entry.failure = error.message, error
        uptime_s = self._house.clock.monotonic() - resident.ready_at_s
        entry.life, step = launch.next_step(entry.life, launch.Died(error=error.message, uptime_s=uptime_s))
        again = isinstance(step, Pause) and self.seat(entry).stand is Stand.READY  # else it was to go anyway
        retry_s = step.delay_s if again and isinstance(step, Pause) else None
        said = news.EngineDied(model_id=entry.id, error=error.message, log_tail=error.log_tail, retry_s=retry_s)
        self._tell(said)
        return retry_s

    async def _look_after(self, entry: Entry, resident: Resident) -> None:
        """See that an engine stays well; one that does not is ended and started again."""
        if not self._house.settings.server.health_interval:
            return
        if entry.command is not None and not entry.command.argv:
            await follow(self._house, entry, resident, lambda: self.seat(entry).used_s, self._tell)
        words = await fails(self._house, resident, lambda: bool(self.seat(entry).running))
        tail = resident.process.log_tail()
        resident.failure = EngineError(f"the engine was ended: {words}", code="engine_ill", log_tail=tail)
        if self.seat(entry).running:  # they would wait for ever, and nobody else is let in meanwhile
            await resident.process.stop(0)
        elif not resident.leaving:
            retry_s = self._lost(entry, resident, resident.failure)
            self.feed(events.Ailing(model=entry.id, reason=resident.failure.message, retry_s=retry_s))

    def _stop(self, entry: Entry) -> None:
        if entry.resident is not None:
            entry.resident.leaving = True  # at once: its death from now on is no crash
            self.spawn(self._unload(entry))
        else:
            self.spawn(self._give_up(entry))

    async def _unload(self, entry: Entry) -> None:
        resident = entry.resident
        if resident is not None and resident.prepared is not None and resident.failure is None:
            await save(self._house, resident.prepared, resident.process.address, self._tell)
        await self._end(entry)
        self.feed(events.Stopped(model=entry.id))

    async def _give_up(self, entry: Entry) -> None:
        """End a start that nobody waits for any more."""
        assert entry.loading is not None, "what starts has its task"
        entry.loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entry.loading
        if entry.resident is not None:  # it came up at the last moment
            await self._end(entry)
        self.feed(events.Stopped(model=entry.id))

    async def _end(self, entry: Entry) -> None:
        resident = entry.resident
        assert resident is not None, "only what runs is ended"
        resident.leaving = True
        await resident.process.stop(entry.command.stop_s if entry.command else STOP_GRACE_S)
        entry.resident, entry.away = None, ""
        self._house.journal.forget(resident.process.pid)
        self._tell(news.Unloaded(model_id=entry.id))
