"""What happens that may change which models are in memory, or who is served."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.line import Ticket
from bercail.core.need import Terms
from bercail.core.units import Bytes, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request arrived."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A request gave up; as good as ``Released`` if it had been granted."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A granted request is done; with the ticket as it was granted."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A start succeeded. ``bytes`` is what it really takes by device, None if that is not known."""

    model: str
    bytes: Mapping[str, Bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """A start failed, and its memory is free.

    Attributes:
        reason: one sentence without a full stop, for those who waited.
        out_of_memory: another try with more room may succeed.
        device: where memory ran out; None if it was not told.
        retry_s: how long to wait before the next try for those who wait; None if it is given up for now.
    """

    model: str
    reason: str
    out_of_memory: bool = False
    device: str | None = None
    retry_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A model that was ready ended by itself; what it served is lost. The rest as in ``StartFailed``."""

    model: str
    reason: str
    retry_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailing:
    """A model that was ready is no good any more: it is to leave, and memory is free only then. As in ``Died``."""

    model: str
    reason: str
    retry_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A process ended as it was told, and its memory is free."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """A person wants a model out of memory: running requests finish, waiting ones are refused."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Until it leaves, a model that is in memory may idle for ``stay_s`` there; infinity is for ever."""

    model: str
    stay_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Preload:
    """A model is to come in without a request, where those that are idle make room."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """A model is to leave, if it is in, and to come again; waiting requests wait on."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsChanged:
    """The configuration was read, anew or for the first time, or a plan has changed a need.

    Models that are gone from it drain, and whoever waits for them is refused; all others keep running.

    Attributes:
        reload: models that run with settings that no longer hold.
    """

    terms: Terms
    reload: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    Asked
    | Left
    | Released
    | Ready
    | StartFailed
    | Died
    | Ailing
    | Stopped
    | Unload
    | Stay
    | Preload
    | Reload
    | TermsChanged
    | Tick
)
