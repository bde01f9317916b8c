"""A router that keeps one model in memory, strictly in the order of arrival: what the scheduler is measured against."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One request's place in the queue."""

    number: int
    model_id: str


class Residency(StrEnum):
    """What is in memory. One model at a time."""

    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """Who is in memory, who is served, who waits.

    Attributes:
        resident: the model in memory or on its way in or out; None if there is none.
        running: requests that hold a lease on it.
        waiting: in order of arrival.
    """

    residency: Residency = Residency.EMPTY
    resident: str | None = None
    running: int = 0
    waiting: tuple[Ticket, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request arrived."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A request gave up waiting."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A request that held a lease is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The resident is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The resident died and is being started again; what it was serving is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The resident is out of memory: unloaded, or it never came up."""


RouteEvent: TypeAlias = Asked | Left | Released | Loaded | Crashed | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Let a request through to the resident."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Bring a model into memory."""

    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Take the resident out of memory; nobody uses it."""


RouteAction: TypeAlias = Grant | Load | Unload


def route(state: RouteState, event: RouteEvent) -> tuple[RouteState, tuple[RouteAction, ...]]:
    """What follows from an event.

    Strictly in order of arrival: a request for another model waits until the running ones are done, and later requests
    for the resident queue behind it, so nobody starves.
    """
    match event:
        case Asked(ticket=ticket):
            state = replace(state, waiting=(*state.waiting, ticket))
        case Left(ticket=ticket):
            state = replace(state, waiting=tuple(other for other in state.waiting if other != ticket))
        case Released():
            state = replace(state, running=state.running - 1)
        case Loaded():
            state = replace(state, residency=Residency.READY)
        case Crashed():
            state = replace(state, residency=Residency.LOADING, running=0)
        case Gone():
            state = replace(state, residency=Residency.EMPTY, resident=None, running=0)
        case _ as unreachable:
            assert_never(unreachable)
    return _advance(state)


def _advance(state: RouteState) -> tuple[RouteState, tuple[RouteAction, ...]]:
    actions: list[RouteAction] = []
    while state.waiting and state.residency is Residency.READY and state.waiting[0].model_id == state.resident:
        actions.append(Grant(ticket=state.waiting[0]))
        state = replace(state, running=state.running + 1, waiting=state.waiting[1:])
    if not state.waiting or state.running:
        return state, tuple(actions)
    wanted = state.waiting[0].model_id
    if state.residency is Residency.EMPTY:
        state = replace(state, residency=Residency.LOADING, resident=wanted)
        actions.append(Load(model_id=wanted))
    elif state.residency is Residency.READY:
        state = replace(state, residency=Residency.UNLOADING)
        actions.append(Unload())
    return state, tuple(actions)
