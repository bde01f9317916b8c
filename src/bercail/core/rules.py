"""Settings that follow from what was measured on this machine or, before that, from a table of rules."""

from bercail.core.engine import Make
from bercail.core.lessons import Lessons
from bercail.core.machine import Cpu
from bercail.core.model import Model
from bercail.core.options import Purpose
from bercail.core.pace import main_type, usual_s
from bercail.core.repack import has_tiles
from bercail.core.units import Seconds, format_seconds

READING_TYPES = frozenset(("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"))
"""Types whose prompts are worked through faster in the file's own order by engines that use AVX-512 and its like; the
engine in the box reads them a little slower so (`bench/results/engines-chat.json`)."""
READING_RATIO = 4
"""From so many prompt tokens for each generated one on, that is worth slower generation."""


def repack(model: Model, purpose: Purpose, lessons: Lessons, make: Make, cpu: Cpu) -> tuple[bool, str]:
    """Whether weights are rearranged for the CPU, and why; ``make`` says what the engine uses of the processor."""
    kind = main_type(model)
    took = {order: seconds for order in (True, False) if (seconds := _takes(model, purpose, lessons, repack=order))}
    if len(took) == 2:
        best = min(took, key=lambda order: took[order])
        return (
            best,
            f"measured: {format_seconds(took[best])} for a usual request, {format_seconds(took[not best])} else",
        )
    reads = purpose.prompt >= READING_RATIO * max(purpose.answer, 1)
    if reads and has_tiles(cpu, make):
        return True, "long prompts: AMX reads them in an order of its own"
    if kind in READING_TYPES and reads and make is not Make.EMBEDDED:
        return False, f"long prompts: {kind} is read faster as it is, and generated a little slower"
    return True, ""


def least_s(model: Model, purpose: Purpose, lessons: Lessons) -> Seconds | None:
    """What the usual requests take in the better order of weights and place; None if nothing of the kind was timed."""
    paces = [pace for pace in lessons.paces if pace.type == main_type(model)]
    took = [usual_s(model, pace, purpose) for pace in paces]
    return min((seconds for seconds in took if seconds is not None), default=None)


def _takes(model: Model, purpose: Purpose, lessons: Lessons, *, repack: bool) -> Seconds | None:
    """The same in main memory, in one order of weights."""
    pace = lessons.pace(main_type(model), repack=repack)
    return usual_s(model, pace, purpose) if pace is not None else None
