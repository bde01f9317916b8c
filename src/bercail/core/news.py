"""What happens while Bercail works, as values: the steps a person or a log is told of."""

from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.launch import Progress
from bercail.core.machine import Machine
from bercail.core.model import Findings, Model
from bercail.core.plan import Fits
from bercail.core.units import Bytes, Seconds, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Children of a killed server were ended."""

    ended: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProbed:
    """The machine is known."""

    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsFound:
    """The search for models is over."""

    findings: Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Clients can connect."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The start is over and no model is in memory: the first request loads one.

    Attributes:
        models: how many are served.
        failed: how many of them cannot be loaded.
    """

    url: str
    models: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRead:
    """A model's header was read and is sound."""

    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """An engine is about to be measured, with this order of weights, and with ``setting`` if that is what is tried."""

    engine: str
    repack: bool
    setting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something works less well than it could, in words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """It fits; the engine is about to start."""

    plan: Fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Weights are being loaded."""

    model_id: str
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model answers.

    Attributes:
        seconds: from the start of loading.
        resident_bytes: memory its process holds, or None if the system does not tell.
        chat: whether chat is offered.
    """

    plan: Fits
    seconds: Seconds
    resident_bytes: Bytes | None
    chat: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReady:
    """What a command started answers, or a server elsewhere is to be asked.

    Attributes:
        seconds: from its start.
        address: where it answers.
        resident_bytes: memory its process holds, or None if the system does not tell or it is elsewhere.
    """

    model_id: str
    seconds: Seconds
    address: str
    resident_bytes: Bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The configuration was read anew.

    Attributes:
        changed: models that start anew.
        added: new ones.
        gone: those that are no longer served.
        later: keys with other values than at the start, which wait for the next one.
        altered: what else holds otherwise from now on, in words; no model starts anew for that.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]
    later: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """A model could not be loaded."""

    model_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDied:
    """An engine that was ready ended by itself.

    Attributes:
        retry_s: until it is started again; None if it was given up, or another model took its place.
    """

    model_id: str
    error: str
    log_tail: tuple[str, ...]
    retry_s: Seconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextKept:
    """What a model had read was saved before it left memory."""

    model_id: str
    tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRestored:
    """What a model had read when it left memory was brought back with it."""

    model_id: str
    tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Unloaded:
    """A model left memory."""

    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """No new requests; running ones may finish.

    Attributes:
        drain_s: for how long.
    """

    drain_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Everything is down.

    Attributes:
        cut: requests that did not finish in time.
    """

    cut: int


News: TypeAlias = (
    Reconciled
    | MachineProbed
    | ModelsFound
    | Listening
    | Waiting
    | ModelRead
    | Trying
    | Warned
    | Planned
    | Loading
    | Ready
    | CommandReady
    | Reloaded
    | LoadFailed
    | EngineDied
    | ContextKept
    | ContextRestored
    | Unloaded
    | Stopping
    | Stopped
)
