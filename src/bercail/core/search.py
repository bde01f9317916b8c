"""Which settings of an engine are tried beside those of the rules, in which order, and what is taken.

One setting after the other (coordinate search), each value in a load of its own, by the time of the purpose's usual
requests. A machine's speed drifts, so a value that looks faster is loaded once more after the default was, in turns
(A B A B), and is taken only if both its loads were faster than both of the default's, and by more than the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeAlias

from bercail.core.engine import EngineSettings
from bercail.core.machine import Cpu
from bercail.core.options import EngineOptions, Purpose, purpose_of, settled
from bercail.core.rules import left_open, value_of
from bercail.core.tuning import Gain, Setting
from bercail.core.units import Seconds, Tokens

CLEARLY = 1.05
"""What is not so many times as fast is no faster: loads of the same settings differ by as much."""
LEAST_SHARE = 0.25
"""Of the usual requests' time: a setting that acts on less of it would have to make that part much faster to count."""
UBATCHES: tuple[Tokens, ...] = (128, 256, 512, 1024)
MANY_THREADS = 8
"""From so many on, half of them may read memory as fast as all."""
CACHE = "kv_type"
"""Types of the key and the value cache: they change answers, so what is faster is told, and never taken."""
SMALLER_CACHE = "q8_0"

Value: TypeAlias = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One setting, and what is tried in its place.

    Attributes:
        setting: as the plan calls it; ``kv_type`` is both types of the cache.
        instead: its value as planned.
        values: to try; none where ``because`` says why.
    """

    setting: str
    instead: Value
    values: tuple[Value, ...] = ()
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What settings are searched for: the fastest engine as it was measured.

    Attributes:
        cpu: as the engine sees it.
        settings: as planned by rule.
        wish: what the user set.
        library: another project's: it is told the threads for prefill alone.
        on_gpus: all of the model is on GPUs.
        reading: the share of the usual requests' time that goes into their prompts.
        reach_tokens: the prompts that were timed; a larger ubatch would never be full, and a client that leaves would
            be noticed later.
    """

    cpu: Cpu
    settings: EngineSettings
    wish: EngineOptions
    reading: float
    reach_tokens: Tokens
    library: bool = False
    on_gpus: bool = False

    @property
    def purpose(self) -> Purpose:
        """What the work is like."""
        return purpose_of(self.wish)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The model loaded with one value of a setting.

    Attributes:
        seconds: of the purpose's usual requests; None if nothing was timed.
        failure: why not.
    """

    value: Value
    seconds: Seconds | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of one value of a setting.

    Attributes:
        instead: the value that it was held against.
        ratio: so many times as fast as with that; None where it was not timed.
        loads: with this value.
        taken: by plans from now on.
        because: why, or why not.
    """

    setting: str
    value: Value
    instead: Value
    ratio: float | None = None
    loads: int = 0
    taken: bool = False
    because: str = ""


def axes(base: Base, *, settings: bool, lossy: bool) -> tuple[Axis, ...]:
    """What is searched, in this order: settings that keep the quality of answers, and the type of the cache."""
    found = [_axis(base, setting) for setting in Setting] if settings else []
    return (*found, _cache(base)) if lossy else tuple(found)


def now_at(axis: Axis, settings: EngineSettings) -> Axis:
    """``axis`` with the value that its setting has come to."""
    return axis if axis.setting == CACHE else replace(axis, instead=value_of(settings, Setting(axis.setting)))


def next_value(axis: Axis, loads: Sequence[Load]) -> Value | None:
    """What is loaded next: the default, each other value, and both again if one looks faster; None at the end."""
    done = [load.value for load in loads]
    if not axis.values or any(load.value == axis.instead and load.seconds is None for load in loads):
        return None
    for value in (axis.instead, *axis.values):
        if value not in done:
            return value
    best = _looks_best(axis, loads)
    if best is None:
        return None
    if done.count(axis.instead) == 1:
        return axis.instead
    faster = min(_seconds(loads, best)) < min(_seconds(loads, axis.instead))
    return best if faster and done.count(best) == 1 else None


def tried(axis: Axis, loads: Sequence[Load]) -> tuple[Tried, ...]:
    """What came of each value, in the order in which they were tried; one row of why not, where none was."""
    if not axis.values:
        return (Tried(setting=axis.setting, value=axis.instead, instead=axis.instead, because=axis.because),)
    values = [value for value in axis.values if any(load.value == value for load in loads)]
    if not values:
        failure = next(load.failure for load in loads)
        because = f"the default could not be timed: {failure}"
        return tuple(
            Tried(setting=axis.setting, value=value, instead=axis.instead, because=because) for value in axis.values
        )
    return tuple(_row(axis, loads, value) for value in values)


def gain_of(rows: Sequence[Tried]) -> Gain | None:
    """What is taken of a setting's rows, if anything is."""
    for row in rows:
        if row.taken and row.ratio and isinstance(row.value, int) and isinstance(row.instead, int):
            return Gain(setting=Setting(row.setting), value=row.value, instead=row.instead, ratio=row.ratio)
    return None


def _row(axis: Axis, loads: Sequence[Load], value: Value) -> Tried:
    mine = [load for load in loads if load.value == value]
    row = Tried(setting=axis.setting, value=value, instead=axis.instead, loads=len(mine))
    if failed := next((load for load in mine if load.seconds is None), None):
        return replace(row, because=failed.failure)
    own, others = _seconds(loads, value), _seconds(loads, axis.instead)
    ratio = median(others) / median(own)
    sure = len(own) > 1 and max(own) < min(others) and ratio >= CLEARLY
    because = _verdict(axis, loads, value, ratio, sure=sure)
    if axis.setting == CACHE:
        return replace(row, ratio=ratio, because=f"{because}; other quality, so never taken by itself: --kv {value}")
    return replace(row, ratio=ratio, taken=sure, because=because)


def _verdict(axis: Axis, loads: Sequence[Load], value: Value, ratio: float, *, sure: bool) -> str:
    if sure:
        return "faster in every load, in turns with the default"
    if value == _looks_best(axis, loads):
        again = next((load.failure for load in loads if load.value == axis.instead and load.seconds is None), "")
        return f"faster once, and the default was not timed again: {again}" if again else "within the noise"
    if ratio >= CLEARLY:
        return "another is faster"
    return "slower" if ratio * CLEARLY <= 1 else "no clear difference"


def _looks_best(axis: Axis, loads: Sequence[Load]) -> Value | None:
    """The value that was fastest at first, if it was clearly faster than the default was then."""
    first = {load.value: load.seconds for load in reversed(loads) if load.seconds is not None}
    others = {value: seconds for value, seconds in first.items() if value != axis.instead}
    best = min(others, key=lambda value: others[value], default=None)
    return best if best is not None and first[axis.instead] >= others[best] * CLEARLY else None


def _seconds(loads: Sequence[Load], value: Value) -> list[Seconds]:
    return [load.seconds for load in loads if load.value == value and load.seconds is not None]


def _axis(base: Base, setting: Setting) -> Axis:
    """One setting that leaves answers as they are, with what may be better on this machine for this work."""
    axis = Axis(setting=setting, instead=value_of(base.settings, setting))
    if setting not in left_open(base.wish):
        return replace(axis, because="as asked")
    if base.library and setting is not Setting.THREADS_BATCH:
        return replace(axis, because="this engine cannot be told it")
    if base.on_gpus and setting is not Setting.UBATCH:
        return replace(axis, because="all layers are on GPUs")
    if not base.library and (because := _weighs_little(base, setting)):
        return replace(axis, because=because)
    values = _ubatches(base) if setting is Setting.UBATCH else _threads(base, setting)
    return replace(axis, values=values, because="" if values else "no other value can matter here")


def _weighs_little(base: Base, setting: Setting) -> str:
    """Why a setting cannot matter, by what of the usual requests it acts on; empty if it can.

    llama.cpp takes the threads for prefill wherever a step has more than one token, so also where several answers are
    generated at once.
    """
    together = base.purpose.clients > 1
    if setting is Setting.THREADS:
        if together:
            return "several answers at once are generated with the threads for prefill"
        return _little("answers", 1 - base.reading)
    return "" if together and setting is Setting.THREADS_BATCH else _little("prompts", base.reading)


def _little(what: str, share: float) -> str:
    return f"{what} are {share:.0%} of the usual request's time" if share < LEAST_SHARE else ""


def _ubatches(base: Base) -> tuple[Tokens, ...]:
    """Those that a prompt of the purpose fills to more than half, and that the machine reads in a moment."""
    most = min(base.reach_tokens, base.settings.slot_context_tokens, 2 * base.purpose.prompt - 1)
    return tuple(size for size in UBATCHES if size <= most and size != base.settings.ubatch_tokens)


def _threads(base: Base, setting: Setting) -> tuple[int, ...]:
    """One fewer, for what else the machine does; half of many, where memory is the limit; all cores; their siblings.

    Prefill on a processor of fast and slow cores may go better without the slow ones.
    """
    cpu, now = base.cpu, value_of(base.settings, setting)
    usable = len(cpu.logical_cpus)
    most = usable if cpu.quota_cpus is None else max(1, min(usable, int(cpu.quota_cpus)))
    decode = setting is Setting.THREADS
    half = now // 2 if decode and now >= MANY_THREADS else None
    fast = None if decode else cpu.performance_cores
    wished = (now - 1, half, fast, cpu.physical_cores, most)
    return tuple(dict.fromkeys(count for count in wished if count and 0 < count <= most and count != now))


def _cache(base: Base) -> Axis:
    settings, wish = base.settings, settled(base.wish)
    axis = Axis(setting=CACHE, instead=settings.kv_type_k)
    if wish.kv_type_k or wish.kv_type_v:
        return replace(axis, because="as asked")
    if base.library or not settings.flash_attention or (settings.kv_type_k, settings.kv_type_v) != ("f16", "f16"):
        return replace(axis, because="tried in place of f16, with flash attention, in llama.cpp alone")
    return replace(axis, values=(SMALLER_CACHE,))
