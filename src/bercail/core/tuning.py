"""Settings that were measured to be faster than the rules' on a machine: what is kept of them, and for which models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log

from bercail.core.units import Bytes

SIZE_RANGE = 4
"""What was found with one model holds for others of its type from a quarter to so many times its weights: beyond that
a step is so much shorter or longer that the meeting of threads weighs otherwise."""


class Setting(StrEnum):
    """What is measured, as the plan calls it; none of them changes an answer's quality."""

    THREADS = "threads"
    THREADS_BATCH = "threads_batch"
    UBATCH = "ubatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What settings are found for.

    Attributes:
        type: of most bytes of the weights.
        repack: they are rearranged for the CPU.
        place: where all layers lie, as ``core.pace.lies_on`` words it.
        purpose: its name.
        weights_bytes: of the model.
    """

    type: str
    repack: bool
    place: str
    purpose: str
    weights_bytes: Bytes

    def apart(self, other: "Work") -> float | None:
        """How far the sizes of two models are apart, 0 for none; None where one tells nothing of the other."""
        kinds = [(work.type, work.repack, work.place, work.purpose) for work in (self, other)]
        if kinds[0] != kinds[1] or min(self.weights_bytes, other.weights_bytes) <= 0:
            return None
        times = abs(log(self.weights_bytes / other.weights_bytes))
        return times if times <= log(SIZE_RANGE) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A setting that is faster otherwise than by rule.

    Attributes:
        value: that is faster.
        instead: the rule's; where the rules give another meanwhile, nothing is known of that.
        ratio: so many times as fast the purpose's usual requests were.
    """

    setting: Setting
    value: int
    instead: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a search for faster settings came to.

    Attributes:
        work: that it was made with.
        gains: what it found; none where the rules' settings were as good as any.
    """

    work: Work
    gains: tuple[Gain, ...]


def nearest(tunings: Sequence[Tuning], work: Work) -> Tuning | None:
    """What was found with the model nearest in size, or None where nothing holds for ``work``."""
    near = [(distance, tuning) for tuning in tunings if (distance := tuning.work.apart(work)) is not None]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def replaced(tunings: Sequence[Tuning], tuning: Tuning) -> tuple[Tuning, ...]:
    """``tunings`` with ``tuning`` in the place of all that its model would have taken."""
    return (*(row for row in tunings if row.work.apart(tuning.work) is None), tuning)


def tuning_of(document: object) -> Tuning | None:
    """What was kept, from JSON values; None where it is nothing of the kind."""
    if not isinstance(document, Mapping):
        return None
    work, gains = _work(document.get("work")), document.get("gains")
    if work is None or not isinstance(gains, list | tuple):
        return None
    found = [_gain(row) for row in gains]
    return Tuning(work=work, gains=tuple(gain for gain in found if gain))


def _work(row: object) -> Work | None:
    if not isinstance(row, Mapping):
        return None
    kind, repack, size = row.get("type"), row.get("repack"), row.get("weights_bytes")
    place, purpose = row.get("place"), row.get("purpose")
    if not isinstance(kind, str) or not isinstance(repack, bool) or not isinstance(size, int):
        return None
    if not isinstance(place, str) or not isinstance(purpose, str):
        return None
    return Work(type=kind, repack=repack, place=place, purpose=purpose, weights_bytes=size)


def _gain(row: object) -> Gain | None:
    if not isinstance(row, Mapping):
        return None
    name, value, instead, ratio = (row.get(key) for key in ("setting", "value", "instead", "ratio"))
    if name not in tuple(Setting) or not isinstance(ratio, int | float):
        return None
    if not isinstance(value, int) or not isinstance(instead, int) or value < 1:
        return None
    return Gain(setting=Setting(name), value=value, instead=instead, ratio=float(ratio))
