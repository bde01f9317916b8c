"""Settings that follow from what was measured on this machine or, before that, from a table of rules."""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from bercail.core.budget import Case
from bercail.core.engine import EngineSettings, Make
from bercail.core.lessons import Lessons
from bercail.core.machine import Cpu
from bercail.core.model import Model
from bercail.core.options import EngineOptions, Purpose, purpose_name
from bercail.core.pace import lies_on, main_type, usual_s
from bercail.core.repack import has_tiles
from bercail.core.tuning import Setting, Work
from bercail.core.units import Seconds, format_seconds

READING_TYPES = frozenset(("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"))
"""Types whose prompts are worked through faster in the file's own order by engines that use AVX-512 and its like; the
engine in the box reads them a little slower so (`bench/results/engines-chat.json`)."""
READING_RATIO = 4
"""From so many prompt tokens for each generated one on, that is worth slower generation."""

APART = 1.03
"""Times that are nearer to each other than this are alike: two runs of one setting differ by more on a machine that has
anything else to do, so the rule's choice stands."""


def repack(model: Model, purpose: Purpose, lessons: Lessons, make: Make, cpu: Cpu) -> tuple[bool, str]:
    """Whether weights are rearranged for the CPU, and why; ``make`` says what the engine uses of the processor."""
    order, because = _by_rule(model, purpose, make, cpu)
    taken, other = (_takes(model, purpose, lessons, repack=one) for one in (order, not order))
    if taken is None or other is None:
        return order, because
    if taken > other * APART:
        order, taken, other = not order, other, taken
    how = "measured" if taken <= other else "measured, with too small a difference to leave the rule for it"
    return order, f"{how}: {format_seconds(taken)} for a usual request, {format_seconds(other)} else"


def _by_rule(model: Model, purpose: Purpose, make: Make, cpu: Cpu) -> tuple[bool, str]:
    kind = main_type(model)
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


def left_open(wish: EngineOptions) -> frozenset[Setting]:
    """Settings that the wish says nothing of; prefill's threads follow those asked for decode, a ubatch its batch."""
    fixed = {
        Setting.THREADS: wish.threads,
        Setting.THREADS_BATCH: wish.threads_batch or wish.threads,
        Setting.UBATCH: wish.ubatch or wish.batch,
    }
    return frozenset(setting for setting, asked in fixed.items() if asked is None)


def value_of(settings: EngineSettings, setting: Setting) -> int:
    """What a plan has chosen."""
    return {
        Setting.THREADS: settings.threads,
        Setting.THREADS_BATCH: settings.threads_batch,
        Setting.UBATCH: settings.ubatch_tokens,
    }[setting]


def with_value(settings: EngineSettings, setting: Setting, value: int) -> EngineSettings:
    """``settings`` with another value; a batch is never smaller than its ubatch."""
    match setting:
        case Setting.THREADS:
            return replace(settings, threads=value)
        case Setting.THREADS_BATCH:
            return replace(settings, threads_batch=value)
        case Setting.UBATCH:
            return replace(settings, ubatch_tokens=value, batch_tokens=max(value, settings.batch_tokens))
        case _ as unreachable:
            assert_never(unreachable)


def work_of(model: Model, settings: EngineSettings, place: str, wish: EngineOptions) -> Work:
    """What a search for faster settings is made with, or asked about."""
    return Work(
        type=main_type(model),
        repack=settings.repack,
        place=place,
        purpose=purpose_name(wish),
        weights_bytes=model.weights_bytes,
    )


def tuned(case: Case, settings: EngineSettings, wish: EngineOptions) -> tuple[EngineSettings, Mapping[str, str]]:
    """``settings`` with what was measured to be faster, and why, by the plan's names for settings.

    A search with one model counts for others of its type from a quarter to four times its size. What the user asked
    for stays, and so does what the rules give otherwise than they did then. Nothing else is given up for it: what
    would not fit is told, and left.
    """
    place = lies_on(case.gpus, settings, case.model.shape.layers)
    if place is None or settings.embedding:
        return settings, {}
    tuning = case.lessons.tuning(work_of(case.model, settings, place, wish))
    told: dict[str, str] = {}
    for gain in tuning.gains if tuning else ():
        if gain.setting not in left_open(wish) or value_of(settings, gain.setting) != gain.instead:
            continue
        changed = with_value(settings, gain.setting, gain.value)
        faster = f"{gain.ratio:.2f} times as fast as {gain.instead} for {purpose_name(wish)}"
        if not case.fits(changed):
            told[gain.setting] = f"measured: {gain.value} is {faster}, and does not fit"
            continue
        told[gain.setting] = f"measured: {faster}"
        if changed.batch_tokens != settings.batch_tokens:
            told["batch"] = "goes with the ubatch that was measured"
        settings = changed
    return settings, told
