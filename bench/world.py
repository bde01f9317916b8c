"""A world for a scheduler: engines that load, answer and stop on a clock of its own; every order is checked."""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from bench import first_come
from bercail.core.events import Asked, Died, Event, Left, Ready, Released, StartFailed, Stopped, TermsChanged, Tick
from bercail.core.line import Ticket
from bercail.core.need import Terms
from bercail.core.schedule import schedule
from bercail.core.seat import Stand
from bercail.core.turn import Action, Decline, Drain, Grant, Refuse, Resume, Schedule, Start, Stop, WakeAt


class Policy(Protocol):
    """What decides: the scheduler, or one to compare it with."""

    def feed(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """What is to be done."""

    def coming(self) -> frozenset[str]:
        """The models for which a swap has begun, or that are in."""


class Scheduled:
    """The scheduler itself."""

    def __init__(self) -> None:
        self.state = Schedule()

    def feed(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """One step."""
        self.state, actions = schedule(self.state, event, now_s)
        return actions

    def coming(self) -> frozenset[str]:
        """Called, starting or ready."""
        stands = (Stand.CALLED, Stand.STARTING, Stand.READY)
        return frozenset(model for model, seat in self.state.seats.items() if seat.stand in stands)


class FirstComeFirstServed:
    """One model at a time and strictly in order of arrival: ``bench.first_come``."""

    def __init__(self) -> None:
        self._state = first_come.RouteState()
        self._tickets: dict[int, Ticket] = {}

    def feed(self, event: Event, now_s: float) -> tuple[Action, ...]:
        """One step, in the words of the scheduler."""
        match event:
            case Asked(ticket=ticket):
                self._tickets[ticket.number] = ticket
                asked: first_come.RouteEvent = first_come.Asked(
                    ticket=first_come.Ticket(number=ticket.number, model_id=ticket.model)
                )
            case Released():
                asked = first_come.Released()
            case Ready():
                asked = first_come.Loaded()
            case Stopped():
                asked = first_come.Gone()
            case _:
                return ()
        before = self._state.resident
        self._state, actions = first_come.route(self._state, asked)
        return tuple(self._told(action, before) for action in actions)

    def coming(self) -> frozenset[str]:
        """What is in or on its way in."""
        resident, leaving = self._state.resident, self._state.residency is first_come.Residency.UNLOADING
        return frozenset() if resident is None or leaving else frozenset({resident})

    def _told(self, action: first_come.RouteAction, before: str | None) -> Action:
        match action:
            case first_come.Grant(ticket=ticket):
                return Grant(ticket=self._tickets[ticket.number])
            case first_come.Load(model_id=model):
                return Start(model=model)
            case first_come.Unload():
                assert before is not None
                return Stop(model=before)


@dataclass(slots=True, kw_only=True)
class Engine:
    """A process: what it takes, who is in a slot, who waits inside."""

    up: bool = False
    stopping: bool = False
    inside: list[Ticket] = field(default_factory=list)
    queued: list[Ticket] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Told:
    """What became of one request. Times in seconds; None while it has not happened."""

    ticket: Ticket
    granted_s: float | None = None
    ended_s: float | None = None
    refused: Refuse | None = None
    left: bool = False
    out_since_s: float | None = None
    longest_out_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it waits."""
        return self.granted_s is None and self.refused is None and not self.left


@dataclass(slots=True, kw_only=True)
class World:
    """Engines, requests and a clock.

    Attributes:
        load_s, stop_s: by model.
        takes: bytes by model and device that a process really takes; the needs by default.
        answer_s: how long an answer takes.
        done: called at the end of each answer or refusal.
        starts: every start so far, with its time.
        told: every request by its number.
        spoilt: how the next start of a model fails.
    """

    terms: Terms
    policy: Policy
    load_s: Mapping[str, float]
    stop_s: float = 1.0
    takes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    answer_s: Callable[[Ticket], float] = lambda ticket: 1.0
    done: Callable[["World", Told], None] = lambda world, told: None
    now_s: float = 0.0
    starts: list[tuple[float, str]] = field(default_factory=list)
    engines: dict[str, Engine] = field(default_factory=dict)
    told: dict[int, Told] = field(default_factory=dict)
    declined: list[Decline] = field(default_factory=list)
    spoilt: dict[str, StartFailed] = field(default_factory=dict)
    _agenda: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _alarm_s: float = math.inf
    _count: int = 0
    _number: int = 0

    def __post_init__(self) -> None:
        self.feed(TermsChanged(terms=self.terms))

    def at(self, at_s: float, act: Callable[[], object]) -> None:
        """Do something then."""
        self._count += 1
        heapq.heappush(self._agenda, (max(at_s, self.now_s), self._count, act))

    def ask(self, model: str, key: str = "", priority: int = 0, substitutes: Iterable[str] = ()) -> Ticket:
        """A request, now."""
        self._number += 1
        ticket = Ticket(
            number=self._number, model=model, key=key, priority=priority, arrived_s=self.now_s,
            substitutes=tuple(substitutes),
        )  # fmt: skip
        self.told[ticket.number] = Told(ticket=ticket, out_since_s=self.now_s)
        self.feed(Asked(ticket=ticket))
        return ticket

    def leave(self, number: int) -> None:
        """The client of a request is gone."""
        told = self.told[number]
        told.left = True
        for engine in self.engines.values():
            engine.inside = [ticket for ticket in engine.inside if ticket.number != number]
            engine.queued = [ticket for ticket in engine.queued if ticket.number != number]
            self._fill(engine)
        self.feed(Left(ticket=told.ticket))

    def die(self, model: str, retry_s: float | None) -> None:
        """A process ends by itself."""
        engine = self.engines.pop(model)
        for ticket in (*engine.inside, *engine.queued):
            self.told[ticket.number].ended_s = self.now_s
        engine.inside, engine.queued = [], []
        self.feed(Died(model=model, reason=f"{model} died", retry_s=retry_s))

    def run(self, until_s: float = math.inf) -> None:
        """Let time pass until nothing is left to do, or until then."""
        while self._agenda and self._agenda[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._agenda)
            act()
        if until_s < math.inf:
            self.now_s = max(self.now_s, until_s)

    def feed(self, event: Event) -> None:
        """Tell the policy, and do as it says."""
        actions = self.policy.feed(event, self.now_s)
        self._note_waits()
        for action in actions:
            self._obey(action)
        self._check_memory()

    def _obey(self, action: Action) -> None:
        match action:
            case Grant(ticket=ticket):
                self._grant(ticket)
            case Refuse(ticket=ticket):
                told = self.told[ticket.number]
                assert told.granted_s is None, "refused after it was granted"
                assert told.refused is None, "refused twice"
                told.refused = action
                self.done(self, told)
            case Start(model=model):
                assert model not in self.engines, "started twice"
                self.engines[model] = Engine()
                self.starts.append((self.now_s, model))
                engine = self.engines[model]
                self.at(self.now_s + self.load_s[model], partial(self._loaded, model, engine))
            case Stop(model=model):
                engine = self.engines[model]
                assert not engine.stopping, "stopped twice"
                assert not engine.inside, "stopped under a request"
                engine.stopping = True
                self.at(self.now_s + self.stop_s, partial(self._stopped, model, engine))
            case WakeAt(at_s=at_s):
                assert at_s > self.now_s, "woken in the past"
                self._alarm_s = at_s
                self.at(at_s, partial(self._ring, at_s))
            case Decline():
                self.declined.append(action)
            case Drain(model=model) | Resume(model=model):
                assert self.engines[model].up

    def _ring(self, at_s: float) -> None:
        if at_s == self._alarm_s:  # otherwise a later order has replaced it
            self.feed(Tick())

    def _grant(self, ticket: Ticket) -> None:
        engine = self.engines.get(ticket.model)
        assert engine is not None, "granted to a model that is out"
        assert engine.up, "granted to a model that is not ready"
        assert not engine.stopping, "granted to a model that is leaving"
        told = self.told[ticket.number]
        assert told.granted_s is None, "granted twice"
        assert told.refused is None, "granted after it was refused"
        assert not told.left, "granted to a client that is gone"
        told.granted_s = self.now_s
        engine.queued.append(ticket)
        self._fill(engine)

    def _fill(self, engine: Engine) -> None:
        while engine.queued and len(engine.inside) < self.terms.needs[engine.queued[0].model].slots:
            ticket = engine.queued.pop(0)
            engine.inside.append(ticket)
            self.at(self.now_s + self.answer_s(ticket), partial(self._answered, engine, ticket))

    def _answered(self, engine: Engine, ticket: Ticket) -> None:
        if ticket not in engine.inside:
            return  # it left, or the engine died
        engine.inside.remove(ticket)
        self._fill(engine)
        self.told[ticket.number].ended_s = self.now_s
        self.feed(Released(ticket=ticket))
        self.done(self, self.told[ticket.number])

    def _loaded(self, model: str, engine: Engine) -> None:
        if engine.stopping or self.engines.get(model) is not engine:
            return
        if (failure := self.spoilt.pop(model, None)) is not None:
            del self.engines[model]
            self.feed(failure)
            return
        real = self.takes.get(model)
        if real is not None and any(self._lacks(model, device) for device in real):
            del self.engines[model]
            self.feed(StartFailed(model=model, reason=f"{model}: out of memory", out_of_memory=True))
            return
        engine.up = True
        self.feed(Ready(model=model, bytes=real))

    def _lacks(self, model: str, device: str) -> bool:
        more = self.takes[model].get(device, 0) - self.terms.needs[model].bytes.get(device, 0)
        return self.held(device) + more > self.terms.budget[device]

    def _stopped(self, model: str, engine: Engine) -> None:
        if self.engines.get(model) is engine:
            del self.engines[model]
            self.feed(Stopped(model=model))

    def held(self, device: str) -> int:
        """Bytes that all processes take there."""
        return sum(self._takes(model, engine).get(device, 0) for model, engine in self.engines.items())

    def _takes(self, model: str, engine: Engine) -> Mapping[str, int]:
        need = self.terms.needs[model].bytes
        return self.takes.get(model, need) if engine.up else need

    def _check_memory(self) -> None:
        for device, budget in self.terms.budget.items():
            assert self.held(device) <= budget, f"over budget on {device}"

    def _note_waits(self) -> None:
        """How long each open request has now waited for its model to be called."""
        coming = self.policy.coming()
        for told in self.told.values():
            if not told.open:
                continue
            if told.ticket.model in coming:
                self._count_out(told)
                told.out_since_s = None
            elif told.out_since_s is None:
                told.out_since_s = self.now_s

    def _count_out(self, told: Told) -> None:
        if told.out_since_s is not None:
            told.longest_out_s = max(told.longest_out_s, self.now_s - told.out_since_s)
