"""One turn of the scheduler: the state it begins with, a draft of the next one, and what is to be done."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from bercail.core import room
from bercail.core.line import Line, Ticket
from bercail.core.need import Need, Terms
from bercail.core.seat import (
    Past,
    Seat,
    Service,
    Stand,
    averaged,
    expires_s,
    held_until_s,
    idle_from_s,
    required,
    service_s,
)
from bercail.core.share import Shares
from bercail.core.units import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Bring a model into memory. ``again``: it ran out of memory just now, so plan it anew."""

    model: str
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """A model gets no new requests; those that run finish. ``Stop`` follows, or ``Resume``."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A model that drains for another stays after all."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End a model's process, whether it is up or still starting; nobody uses it.

    Attributes:
        swapped: it makes room for another.
    """

    model: str
    swapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Let a request through to ``ticket.model``, which may be one of its substitutes."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Send a request away.

    Attributes:
        status: 429 if its key has too many waiting, otherwise 503.
        reason: one sentence without a full stop.
        retry_after_s: when to come again, estimated as ``room.wait_s`` says; None if that would change nothing.
        position: which in its line it was or would have been, from 1; None if it never stood there.
        failed: its model has failed and is given up, of which whoever ran it can tell more.
    """

    ticket: Ticket
    status: int
    reason: str
    retry_after_s: int | None = None
    position: int | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """A model that was to come in without a request cannot."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Feed a ``Tick`` at that time. The last one replaces all before; one too many does no harm."""

    at_s: Seconds


Action: TypeAlias = Start | Drain | Resume | Stop | Grant | Refuse | Decline | WakeAt


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The state of the scheduler.

    Attributes:
        seats: every known model, and those that are leaving for good.
        waiting: requests that wait, in all.
        claimed: at the last review somebody waited for a model that was out.
        reviewed_s: when that was.
        wake_s: the ``Tick`` that is due next; infinity if none.
    """

    terms: Terms = field(default_factory=Terms)
    seats: Mapping[str, Seat] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)
    waiting: int = 0
    claimed: bool = False
    reviewed_s: Seconds = -math.inf
    wake_s: Seconds = math.inf


@dataclass(slots=True, kw_only=True)
class Turn:
    """A draft: it is changed while one event is worked through, and frozen at its end.

    Attributes:
        due: memory is to be reviewed before the turn ends.
    """

    before: Schedule
    now_s: Seconds
    terms: Terms
    seats: dict[str, Seat]
    shares: Shares
    waiting: int
    wake_s: Seconds
    claimed: bool
    reviewed_s: Seconds
    actions: list[Action] = field(default_factory=list)
    due: bool = False

    @classmethod
    def begin(cls, state: Schedule, now_s: Seconds) -> "Turn":
        """A draft of what follows."""
        return cls(
            before=state,
            now_s=now_s,
            terms=state.terms,
            seats=dict(state.seats),
            shares=state.shares,
            waiting=state.waiting,
            wake_s=state.wake_s if state.wake_s > now_s else math.inf,
            claimed=state.claimed,
            reviewed_s=state.reviewed_s,
            due=state.wake_s <= now_s,
        )

    def end(self) -> tuple[Schedule, tuple[Action, ...]]:
        """The next state and what is to be done, in this order."""
        if self.wake_s != self.before.wake_s and self.wake_s < math.inf:
            self.actions.append(WakeAt(at_s=self.wake_s))
        state = Schedule(
            terms=self.terms,
            seats=self.seats,
            shares=self.shares,
            waiting=self.waiting,
            claimed=self.claimed,
            reviewed_s=self.reviewed_s,
            wake_s=self.wake_s,
        )
        return state, tuple(self.actions)

    def wake_by(self, at_s: Seconds) -> None:
        """See to it that there is a ``Tick`` by then."""
        self.wake_s = min(self.wake_s, at_s)

    def past(self, model: str) -> Past:
        """What has happened to a model so far."""
        return self.seats[model].past

    def move(self, model: str, stand: Stand, past: Past | None = None) -> None:
        """Let a model stand elsewhere, with what has happened to it."""
        seat = self.seats[model]
        self.seats[model] = replace(seat, stand=stand, past=seat.past if past is None else past)
        self.due = True

    def push(self, ticket: Ticket) -> None:
        """Let a request wait for its model."""
        seat = self.seats[ticket.model]
        policy = self.terms.policy
        self.shares = self.shares.arrived(ticket.key, policy.fair_lag_s)
        self.seats[ticket.model] = replace(seat, line=seat.line.with_ticket(ticket, self.tag(ticket)))
        self.waiting += 1
        if not seat.line:
            self.wake_by(ticket.arrived_s + policy.wait_limit_s)

    def tag(self, ticket: Ticket) -> float:
        """When its turn comes, in service its key has had, with the head start of its priority."""
        need = self.terms.needs[ticket.model]
        return self.shares.had_s(ticket.key) - (ticket.priority + need.priority) * self.terms.policy.priority_s

    def pull(self, ticket: Ticket) -> None:
        """Take a request out of its line that is not to be served."""
        seat = self.seats[ticket.model]
        self.seats[ticket.model] = replace(seat, line=seat.line.without(ticket))
        self.shares = self.shares.left(ticket.key)
        self.waiting -= 1

    def serve(self, model: str) -> None:
        """Let those through whose turn it is, as far as the slots of a ready model go."""
        need, seat = self.terms.needs[model], self.seats[model]
        while seat.line and len(seat.running) < need.slots:
            ticket, turn_s = seat.line.first, seat.line.first_tag
            charged_s = self._charge_s(need, seat, ticket)
            self.shares = self.shares.begun(ticket.key, charged_s)
            self.waiting -= 1
            seat = self._granted(seat, seat.line.without(ticket, self.tag(ticket)), ticket, turn_s, charged_s)
        self.seats[model] = seat

    def admit(self, ticket: Ticket) -> None:
        """Let a request through that has just come, for there is a slot and nobody before it."""
        need, seat = self.terms.needs[ticket.model], self.seats[ticket.model]
        charged_s = self._charge_s(need, seat, ticket)
        self.shares = self.shares.admitted(ticket.key, charged_s, self.terms.policy.fair_lag_s)
        turn_s = self.tag(ticket) - charged_s
        self.seats[ticket.model] = self._granted(seat, seat.line, ticket, turn_s, charged_s)

    def _charge_s(self, need: Need, seat: Seat, ticket: Ticket) -> float:
        policy = self.terms.policy
        return service_s(policy, seat) / (need.slots * policy.weights.get(ticket.key, 1.0))

    def _granted(self, seat: Seat, line: Line, ticket: Ticket, turn_s: float, charged_s: float) -> Seat:
        self.actions.append(Grant(ticket=ticket))
        service = Service(key=ticket.key, begun_s=self.now_s, charged_s=charged_s)
        return Seat(
            stand=seat.stand,
            line=line,
            running={**seat.running, ticket.number: service},
            used_s=self.now_s,
            turn_s=turn_s,
            service_s=seat.service_s,
            past=seat.past,
        )

    def release(self, ticket: Ticket) -> None:
        """A request is done; nothing if it does not run."""
        seat = self.seats.get(ticket.model)
        if seat is None or ticket.number not in seat.running:
            return
        running = dict(seat.running)
        service = running.pop(ticket.number)
        took_s = self.now_s - service.begun_s
        slots = self.terms.needs[ticket.model].slots if ticket.model in self.terms.needs else 1
        weight = slots * self.terms.policy.weights.get(ticket.key, 1.0)
        self.shares = self.shares.ended(ticket.key, took_s / weight - service.charged_s)
        self.seats[ticket.model] = Seat(
            stand=seat.stand,
            line=seat.line,
            running=running,
            used_s=self.now_s,
            turn_s=seat.turn_s,
            service_s=averaged(seat.service_s, took_s),
            past=seat.past,
        )

    def refuse(self, ticket: Ticket, reason: str, *, retry_after_s: int | None = None, failed: bool = False) -> None:
        """Send a request away that waits."""
        position = self.seats[ticket.model].line.position(ticket)
        self.pull(ticket)
        self.actions.append(
            Refuse(
                ticket=ticket, status=503, reason=reason, retry_after_s=retry_after_s, position=position, failed=failed
            )
        )

    def refuse_all(self, model: str, reason: str, *, failed: bool = False) -> None:
        """Send away whoever waits for a model."""
        for ticket in self.seats[model].line:
            self.refuse(ticket, reason, failed=failed)

    def start(self, model: str) -> None:
        """Begin a load; from now on it holds what it needs."""
        seat = self.seats[model]
        held = required(self.terms.needs[model], seat)
        past = replace(seat.past, held=held, began_s=self.now_s, wanted=False, resting=False, stay_s=None)
        self.move(model, Stand.STARTING, past)
        self.actions.append(Start(model=model, again=seat.past.retried))

    def vacate(self, model: str, *, going: bool) -> None:
        """Let a ready model finish and go; ``going`` for its own reasons, so that it cannot be kept after all."""
        self.move(model, Stand.DRAINING, replace(self.past(model), out_s=self.now_s, going=going))
        if self.seats[model].running:
            self.actions.append(Drain(model=model))
        else:
            self.stop(model)

    def stop(self, model: str) -> None:
        """End a process that nobody uses."""
        swapped = self.seats[model].stand is Stand.DRAINING and not self.past(model).going
        self.move(model, Stand.STOPPING, replace(self.past(model), going=True))
        self.actions.append(Stop(model=model, swapped=swapped))

    def resume(self, model: str) -> None:
        """Keep a model that drains."""
        self.move(model, Stand.READY)
        self.actions.append(Resume(model=model))
        self.serve(model)

    def gone(self, model: str) -> None:
        """A model's memory is free again; what it served is lost."""
        seat = self.seats[model]
        for service in seat.running.values():
            self.shares = self.shares.ended(service.key, -service.charged_s)
        out_s = self.now_s if seat.stand is Stand.READY else seat.past.out_s
        self.seats[model] = replace(seat, running={})
        self.move(model, Stand.OUT, replace(seat.past, held={}, out_s=out_s, going=False))
        if model not in self.terms.needs:
            del self.seats[model]

    def expect_idle(self, model: str) -> None:
        """Review when a ready model that has nothing to do may go for another, or has outlived its time."""
        need, seat, policy = self.terms.needs[model], self.seats[model], self.terms.policy
        idle_s = max(idle_from_s(policy, need, seat), held_until_s(policy, need, seat)) if self.claimed else math.inf
        self.wake_by(min(idle_s, expires_s(need, seat)))
        self.due = self.due or self.wake_s <= self.now_s

    def retry_s(self, model: str, position: int) -> int:
        """When it is worth asking for a model again."""
        return room.retry_after_s(room.wait_s(self.terms, self.seats, model, position, self.now_s))
