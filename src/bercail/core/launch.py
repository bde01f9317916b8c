"""What is launched, and the life of an engine: its state and the next step after each event."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

from bercail.core.declared import Timeouts
from bercail.core.engine import EngineSettings
from bercail.core.units import Bytes, Seconds

PLAIN_TEMPLATE = "chatml"
"""A template of the engine's own that is known to render; for models whose own one is unusable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One engine process to be.

    Attributes:
        model_id: the name clients use.
        model_path: first file of the model.
        weights_bytes: for progress.
        projector_path: ``mmproj`` file, or None.
        draft_path: file of the model that guesses ahead, or None.
        drafting_layers: blocks of a drafting head in the file, which the engine counts even if it loads none.
        chat_template: replaces the file's own where that one is unusable; None keeps it.
        environment: added to the engine's environment.
        slot_folder: where it may save what its slots hold, with a slash at its end; empty if it is not to.
    """

    model_id: str
    model_path: str
    weights_bytes: Bytes
    settings: EngineSettings
    projector_path: str | None = None
    draft_path: str | None = None
    drafting_layers: int = 0
    chat_template: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    slot_folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What it takes to ask a server that is no engine of ours, beside its host and port.

    Attributes:
        authority: host and port as its ``Host`` header names them.
        tls: it speaks TLS, and must prove its name.
        prefix: the beginning of every path there, without a slash at its end.
        headers: sent with every request, such as a key; they replace those of the same name.
        ours: it runs here, as a child of ours: it may see what a client proves itself with.
    """

    authority: str
    tls: bool = False
    prefix: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ours: bool = False

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine listens: a unix socket, or a port.

    Attributes:
        site: for a server that is no engine of ours; None asks on loopback without further ado.
        timeouts: that a configuration sets; None leaves them to whoever asks.
    """

    unix_path: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    site: Site | None = None
    timeouts: Timeouts | None = None

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix:{self.unix_path}"
        return f"{self.host}:{self.port}" if self.site is None else str(self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Weights are being loaded: ``fraction`` runs from 0 to 1 in each ``stage`` (``weights``, ``projector``)."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A buffer that an engine made while it loaded.

    Attributes:
        place: in the engine's words: ``CPU``, ``CPU_Mapped``, ``CPU_REPACK``, ``CUDA0``, ``CUDA_Host`` ...
        part: the plan's name for what lies in it.
    """

    place: str
    part: str
    bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an engine process ended.

    Attributes:
        code: exit status, negative for the signal that killed it.
        log_tail: its last lines, oldest first.
    """

    code: int
    log_tail: tuple[str, ...]

    def __str__(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit status {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVerdict:
    """Whether the engine's own renderer can use a chat template.

    Attributes:
        usable: chat may be offered.
        why: if not, what went wrong, in words.
        tools: the renderer found that the template handles tools.
        malformed: it is not even a template: it cannot be parsed.
        lasting: another try would end alike; False where the machine may just have been busy or its disk full.
    """

    usable: bool
    why: str = ""
    tools: bool = False
    malformed: bool = False
    lasting: bool = True


class Stage(StrEnum):
    """Where an engine is in its life."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    FAILED = "failed"
    STOPPED = "stopped"


FIRST_BACKOFF_S: Seconds = 1.0
LONGEST_BACKOFF_S: Seconds = 60.0
MOST_CRASHES = 6
STEADY_S: Seconds = 60.0
"""An engine that ran this long has left its earlier crashes behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The life of one engine.

    Attributes:
        crashes: in a row, each within ``STEADY_S`` of becoming ready or before it.
        error: what happened last, or empty.
    """

    stage: Stage = Stage.STARTING
    crashes: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BecameReady:
    """It answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """It did not become ready."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """It was ready and ended by itself, ``uptime_s`` after it had become ready."""

    error: str
    uptime_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffOver:
    """The pause before the next start has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """Someone wants it gone."""


LifeEvent: TypeAlias = BecameReady | StartFailed | Died | BackoffOver | StopAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Start the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait before the next start."""

    delay_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Nothing to do."""


LifeStep: TypeAlias = Spawn | Pause | Rest


def next_step(life: Life, event: LifeEvent) -> tuple[Life, LifeStep]:
    """What follows from an event.

    A first start that fails is final, for the same file and settings fail again. An engine that was ready and died
    is started again after 1, 2, 4 ... 60 s, and given up after ``MOST_CRASHES`` deaths in a row.
    """
    over = life.stage is Stage.STOPPED or (life.stage is Stage.FAILED and not isinstance(event, StopAsked))
    if over:
        return life, Rest()  # a new life begins with a new value
    match event:
        case StopAsked():
            return replace(life, stage=Stage.STOPPED), Rest()
        case BecameReady():
            return replace(life, stage=Stage.READY, error=""), Rest()
        case BackoffOver():
            return replace(life, stage=Stage.STARTING), Spawn()
        case StartFailed(error=error):
            return _after_crash(life, error) if life.crashes else (Life(stage=Stage.FAILED, error=error), Rest())
        case Died(error=error, uptime_s=uptime_s):
            return _after_crash(life if uptime_s < STEADY_S else Life(), error)
        case _ as unreachable:
            assert_never(unreachable)


def _after_crash(life: Life, error: str) -> tuple[Life, LifeStep]:
    crashes = life.crashes + 1
    if crashes >= MOST_CRASHES:
        return Life(
            stage=Stage.FAILED, crashes=crashes, error=f"{error}; gave up after {crashes} times in a row"
        ), Rest()
    delay_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (crashes - 1))
    return Life(stage=Stage.BACKING_OFF, crashes=crashes, error=error), Pause(delay_s=delay_s)
