"""Which model is resident and who waits for which: (state, event) -> (state, actions)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

from bercail.core.model import Capability
from bercail.core.units import Bytes, Tokens


class Phase(StrEnum):
    """What a client can expect of a model right now."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model as clients see it.

    Attributes:
        id: the name clients use.
        phase: resident, loading, on disk only, or broken.
        created: modification time of the file, unix seconds.
        context_length: tokens the model was made for; None while its header has not been read.
        slot_context_tokens: longest prompt and answer of one request as loaded; None while it is not.
        slots: requests that run at once as loaded; None while it is not.
        capabilities: what may be asked of it; empty while its header has not been read.
        parameter_count: None while its header has not been read.
        chat_refusal: why chat is disabled, or empty.
        error: why it failed or cannot be loaded, or empty.
        progress: of loading, 0 to 1; None unless it is loading.
        format: how it is kept on disk; None while its header has not been read.
        engine: that runs it; None while none does.
        lacks: what of requests that engine refuses.
        planned_bytes: memory of all devices that its plan takes as loaded; None while it is not.
        loads: how often it was loaded since the server started.
        swaps: how often it then made room for another.
    """

    id: str
    phase: Phase
    created: int
    file_bytes: Bytes
    context_length: Tokens | None = None
    slot_context_tokens: Tokens | None = None
    slots: int | None = None
    capabilities: tuple[Capability, ...] = ()
    architecture: str | None = None
    quantization: str | None = None
    parameter_count: int | None = None
    vocabulary: int | None = None
    chat_refusal: str = ""
    error: str = ""
    progress: float | None = None
    format: str | None = None
    engine: str | None = None
    lacks: tuple[str, ...] = ()
    planned_bytes: Bytes | None = None
    loads: int = 0
    swaps: int = 0


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
