"""A plan beside what an engine really took: what was off, and what landed where it should not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bercail.core.budget import MARGIN, Device, as_told
from bercail.core.launch import Landed
from bercail.core.lessons import Lessons
from bercail.core.plan import Fits
from bercail.core.units import MIB, Bytes, format_bytes

TOLD = ("weights", "KV cache", "recurrent state", "compute", "output")
"""Parts that engines tell of."""
_MAPPED = frozenset(("weights", "draft head", "draft model"))
_SLACK: Bytes = MIB
"""Engines tell hundredths of a MiB, and round up to pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part on one device.

    Attributes:
        planned: with what earlier loads have taught.
    """

    device: str
    part: str
    planned: Bytes
    took: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A load, held against its plan.

    Attributes:
        rows: every part that the engine told of or the plan named.
        surprises: what should not have happened, in words: more than planned and its margin, or elsewhere.
    """

    rows: tuple[Row, ...]
    surprises: tuple[str, ...]

    def total(self, device: str) -> tuple[Bytes, Bytes]:
        """What was planned for a device and what it took, of the parts that engines tell of."""
        rows = [row for row in self.rows if row.device == device]
        return sum(row.planned for row in rows), sum(row.took for row in rows)

    @property
    def off(self) -> float:
        """By what share of the planned the total of a device was off at most."""
        totals = (self.total(device) for device in {row.device for row in self.rows})
        return max((abs(took - planned) / planned for planned, took in totals if planned), default=0.0)


def compare(plan: Fits, landed: Sequence[Landed]) -> Outcome | None:
    """What ``landed`` says of ``plan``; None where the engine told nothing."""
    if not landed:
        return None
    devices = {device.name: device for device in plan.devices}
    taken = _taken(plan, landed)
    rows = tuple(
        Row(device=name, part=part, planned=planned, took=taken.get((name, part), 0))
        for name in dict.fromkeys((*devices, *(name for name, _ in taken)))
        for part in TOLD
        for planned in (_planned(devices.get(name), part),)
        if planned or taken.get((name, part))
    )
    found = Outcome(rows=rows, surprises=())
    surprises = (*_elsewhere(found, devices), *_too_much(found, devices))
    return Outcome(rows=rows, surprises=surprises)


def taught(plan: Fits, outcome: Outcome, lessons: Lessons, architecture: str) -> Lessons:
    """``lessons`` and what this load adds to them."""
    ratios: dict[str, float] = {}
    for row in outcome.rows:
        if row.part != "compute" or not row.planned:
            continue
        formula = row.planned - next(
            (part.bytes for device in plan.devices if device.name == row.device for part in device.parts
             if part.name == "learned"), 0,
        )  # fmt: skip
        kind = row.device.rstrip("0123456789")
        ratios[kind] = max(ratios.get(kind, 0.0), row.took / max(1, formula))
    return lessons.with_load(ratios, architecture, outcome.off)


def _planned(device: Device | None, part: str) -> Bytes:
    return as_told(device).get(part, 0) if device else 0


def _taken(plan: Fits, landed: Sequence[Landed]) -> dict[tuple[str, str], Bytes]:
    """Bytes by device and part.

    Mapped weights lie in main memory as they lie in the file, however wide the mapping. Working memory may be told of
    again when it is made anew; each context begins with its output, and the most of each counts.
    """
    found: dict[tuple[str, str], Bytes] = {}
    working: dict[tuple[str, int], Bytes] = {}
    mapped = copied = context = 0
    for item in (part for told in landed for part in _apart(plan, told)):
        if item.place == "CPU_Mapped":
            mapped += item.bytes
            continue
        if item.place in _REARRANGED and plan.settings.mmap:
            copied += item.bytes
            continue
        device = _device(item.place)
        context += item.part == "output"
        if item.part == "compute":
            working[device, context] = max(item.bytes, working.get((device, context), 0))
        else:
            found[device, item.part] = found.get((device, item.part), 0) + item.bytes
    for (device, _), size in working.items():
        found[device, "compute"] = found.get((device, "compute"), 0) + size
    if mapped or copied:
        weights = [part.bytes for part in plan.devices[0].parts if part.name in _MAPPED]
        found["cpu", "weights"] = found.get(("cpu", "weights"), 0) + sum(weights) + max(0, copied - plan.copied_bytes)
    return found


_REARRANGED = ("CPU_REPACK", "AMX")
"""Buffers of weights that are copied into another order."""
_METAL = "mtl"
"""How an engine begins the names of Apple's GPUs."""
_TOGETHER = "Meta("
"""How it begins the name of a buffer that several GPUs have a slice of."""


def _apart(plan: Fits, told: Landed) -> tuple[Landed, ...]:
    """A buffer of one device as it was told; of slices, of which only the largest is told, the others as planned.

    Of a file that is mapped for a GPU the mapping is told, however little of it lies there: that is taken as planned.
    """
    planned = {device.name: _planned(device, told.part) for device in plan.devices}
    if told.place.endswith("_Mapped") and not told.place.startswith("CPU"):
        return (replace(told, bytes=planned.get(_device(told.place), told.bytes)),)
    if not told.place.startswith(_TOGETHER):
        return (told,)
    places = told.place.removeprefix(_TOGETHER).rstrip(")").split(",")
    sizes = {place: planned.get(_device(place), 0) for place in places}
    largest = max(places, key=lambda place: sizes[place])
    return tuple(
        replace(told, place=place, bytes=told.bytes if place == largest else min(size, told.bytes))
        for place, size in sizes.items()
    )


def _device(place: str) -> str:
    """The plan's name of the device where an engine's buffer lies."""
    if place.startswith("CPU") or place in _REARRANGED or place.endswith("_Host"):
        return "cpu"
    name = place.lower().removesuffix("_mapped").removesuffix("_private")
    return f"metal{name.removeprefix(_METAL)}" if name.startswith(_METAL) else name


def _elsewhere(outcome: Outcome, devices: dict[str, Device]) -> tuple[str, ...]:
    """Weights and caches that a GPU was to hold and does not, or holds unasked."""
    words = []
    for row in outcome.rows:
        if row.device == "cpu" or row.part in ("compute", "output"):
            continue
        if row.device not in devices:
            words.append(f"{format_bytes(row.took)} of {row.part} landed on {row.device}, where nothing was planned")
        elif row.took < row.planned - _slack(row.planned):
            missing = format_bytes(row.planned - row.took)
            words.append(f"{missing} of {row.part} did not land on {row.device} as planned")
    return tuple(words)


def _too_much(outcome: Outcome, devices: dict[str, Device]) -> tuple[str, ...]:
    words = []
    for name, device in devices.items():
        planned, took = outcome.total(name)
        margin = next(part.bytes for part in device.parts if part.name == MARGIN)
        if took > planned + margin:
            words.append(
                f"{name} took {format_bytes(took)} where {format_bytes(planned)} and a margin of "
                f"{format_bytes(margin)} were planned"
            )
    return tuple(words)


def _slack(planned: Bytes) -> Bytes:
    return _SLACK + planned // 100
