"""An engine tried with a model on this machine."""

from dataclasses import dataclass
from statistics import median

from bercail.core.engine import Offer
from bercail.core.pace import Joint, Timing
from bercail.core.search import Tried
from bercail.core.units import Bytes, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What an engine did with a model.

    Attributes:
        repack: with its weights rearranged for the CPU.
        quantization: of the file, as it is usually called.
        precision: that a library computed in; empty where that follows from the weights.
        ready_s: from its start to its readiness.
        resident_bytes: memory that it held then, or None.
        planned_bytes: of main memory.
        joint: answers to requests that came at once, if the purpose has such.
        request_s: what the purpose's usual requests take by these timings, or None if it failed.
        failure: why it did not answer, or empty.
    """

    offer: Offer
    repack: bool
    quantization: str = ""
    precision: str = ""
    timings: tuple[Timing, ...] = ()
    ready_s: Seconds = 0.0
    resident_bytes: Bytes | None = None
    planned_bytes: Bytes = 0
    joint: tuple[Joint, ...] = ()
    request_s: Seconds | None = None
    failure: str = ""

    @property
    def prefill_tokens_per_s(self) -> float:
        """The middle of its answers at the beginning of a context; 0 without any."""
        return _middle([row.prompt_tokens / row.prefill_s for row in self.timings if row.depth_tokens == self._depth])

    @property
    def decode_tokens_per_s(self) -> float:
        """The same of what it generated."""
        return _middle([row.decode_tokens / row.decode_s for row in self.timings if row.depth_tokens == self._depth])

    @property
    def joint_tokens_per_s(self) -> float | None:
        """The middle of all tokens by the wall clock of what came at once; None without any."""
        return _middle([row.tokens_per_s for row in self.joint]) or None

    @property
    def _depth(self) -> int:
        return min((row.depth_tokens for row in self.timings), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that was measured of a model.

    Attributes:
        trials: of engines and orders of weights, the fastest first.
        searched: the engine that runs such models from now on, where other settings of it were asked for, else None.
        tried: those settings.
    """

    trials: tuple[Trial, ...]
    searched: Offer | None = None
    tried: tuple[Tried, ...] = ()


def refused(offer: Offer, *, repack: bool, why: str) -> Trial:
    """A trial that came to nothing."""
    return Trial(offer=offer, repack=repack, failure=why)


def _middle(values: list[float]) -> float:
    return median(values) if values else 0.0
