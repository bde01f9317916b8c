"""What real loads on a machine have taught about the plan's formulas; kept per machine, engine and build."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from bercail.core.tuning import Tuning, Work, nearest, replaced, tuning_of
from bercail.core.units import Bytes

UNTAUGHT = 0.004
"""By what share the total of a CPU may be off before anything was loaded: the worst of 1,662 accounts of the engine
that it was held against (`bench/results/breakdown.json`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How working memory turned out, for one architecture on one kind of device.

    Attributes:
        kind: ``cpu``, ``cuda`` ...
        ratio: taken over planned, the most that was seen.
    """

    kind: str
    architecture: str
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast models are whose weights are mostly of one type, by answers that were timed.

    Attributes:
        type: of most bytes of the weights.
        weights_s: seconds per byte of weights read in decode.
        mix_s: seconds per operation of attention in decode.
        linear_s: seconds per operation of matrices in prefill.
        attention_s: seconds per operation of attention in prefill.
        spread: half of the range that predictions are told with, as a share.
        runs: how many answers were timed.
        repack: its weights were rearranged for the CPU.
        joint_s: seconds per operation of matrices in decode for each request but the first of those that generate at
            once; None where that was not timed.
        place: where all layers lay: empty for main memory, else the GPUs, as ``core.pace.lies_on`` words it.
    """

    type: str
    weights_s: float
    mix_s: float
    linear_s: float
    attention_s: float
    spread: float
    runs: int
    repack: bool = True
    joint_s: float | None = None
    place: str = ""

    @property
    def kind(self) -> tuple[str, bool, str]:
        """What it is of: one is known of each."""
        return self.type, self.repack, self.place


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """All of one machine, engine and build.

    Attributes:
        loads: how many taught.
        worst: by what share the total of a device was off at most, before the lesson was drawn.
        rows: how working memory turned out.
        paces: how fast models were, by type.
        tunings: settings that were faster than the rules', by type and purpose.
    """

    loads: int = 0
    worst: float = 0.0
    rows: tuple[Lesson, ...] = ()
    paces: tuple[Pace, ...] = ()
    tunings: tuple[Tuning, ...] = ()

    @property
    def bound(self) -> float:
        """By what share a plan for main memory may be off, as far as is known."""
        return self.worst if self.loads else UNTAUGHT

    def more(self, kind: str, architecture: str, planned: Bytes) -> Bytes:
        """What to plan for beyond ``planned`` bytes of working memory; never less than nothing."""
        for row in self.rows:
            if (row.kind, row.architecture) == (kind, architecture):
                return max(0, round(planned * (row.ratio - 1)))
        return 0

    def with_load(self, ratios: Mapping[str, float], architecture: str, off: float) -> "Lessons":
        """These and one load more.

        Args:
            ratios: working memory that was taken over the formula's, by kind of device.
            architecture: of the model.
            off: by what share the total of a device was off at most.
        """
        seen = {(row.kind, row.architecture): row for row in self.rows}
        for kind, ratio in ratios.items():
            before = seen.get((kind, architecture))
            most = max(ratio, before.ratio) if before else ratio
            seen[kind, architecture] = Lesson(kind=kind, architecture=architecture, ratio=most)
        return replace(self, loads=self.loads + 1, worst=max(self.worst, off), rows=tuple(seen.values()))

    def pace(self, main_type: str, *, repack: bool, place: str = "") -> Pace | None:
        """Of models whose weights are mostly of this type, in this order and place, if one was timed."""
        return next((pace for pace in self.paces if pace.kind == (main_type, repack, place)), None)

    def with_pace(self, pace: Pace) -> "Lessons":
        """These and a pace, in the place of an earlier one of its kind.

        What several at once cost stays known where only one at a time was timed now.
        """
        before = self.pace(pace.type, repack=pace.repack, place=pace.place)
        if before is not None and pace.joint_s is None:
            pace = replace(pace, joint_s=before.joint_s)
        others = (row for row in self.paces if row.kind != pace.kind)
        return replace(self, paces=(*others, pace))

    def tuning(self, work: Work) -> Tuning | None:
        """What was found for such work, with the model nearest in size; None if nothing was."""
        return nearest(self.tunings, work)

    def with_tuning(self, tuning: Tuning) -> "Lessons":
        """These and what a search came to, in the place of what earlier ones did for such work."""
        return replace(self, tunings=replaced(self.tunings, tuning))


NO_LESSONS = Lessons()


def lessons_document(lessons: Lessons) -> dict[str, object]:
    """As JSON values, to keep."""
    return {"loads": lessons.loads, "worst": lessons.worst, "rows": [asdict(row) for row in lessons.rows],
            "paces": [asdict(row) for row in lessons.paces],
            "tunings": [asdict(row) for row in lessons.tunings]}  # fmt: skip


def lessons_of(document: Mapping[str, object] | None) -> Lessons:
    """What was kept; no lessons where it is not what `lessons_document` writes."""
    if document is None:
        return NO_LESSONS
    loads, worst, rows = document.get("loads"), document.get("worst"), document.get("rows")
    if not isinstance(loads, int) or not isinstance(worst, int | float) or not isinstance(rows, list):
        return NO_LESSONS
    found = [_lesson(row) for row in rows]
    paces = [_pace(row) for row in _rows(document, "paces")]
    tunings = [tuning_of(row) for row in _rows(document, "tunings")]
    return Lessons(
        loads=loads,
        worst=float(worst),
        rows=tuple(row for row in found if row),
        paces=tuple(pace for pace in paces if pace),
        tunings=tuple(tuning for tuning in tunings if tuning),
    )


def _rows(document: Mapping[str, object], name: str) -> list[object]:
    kept = document.get(name)
    return kept if isinstance(kept, list) else []


def _lesson(row: object) -> Lesson | None:
    if not isinstance(row, Mapping):
        return None
    kind, architecture, ratio = row.get("kind"), row.get("architecture"), row.get("ratio")
    if not isinstance(kind, str) or not isinstance(architecture, str) or not isinstance(ratio, int | float):
        return None
    return Lesson(kind=kind, architecture=architecture, ratio=float(ratio))


_COSTS = ("weights_s", "mix_s", "linear_s", "attention_s", "spread")


def _pace(row: object) -> Pace | None:
    if not isinstance(row, Mapping):
        return None
    kind, runs, costs = row.get("type"), row.get("runs"), [row.get(name) for name in _COSTS]
    if not isinstance(kind, str) or not isinstance(runs, int):
        return None
    numbers = [float(cost) for cost in costs if isinstance(cost, int | float) and cost >= 0]
    if len(numbers) < len(_COSTS):
        return None
    repack, joint = row.get("repack", True) is True, row.get("joint_s")
    joint_s = float(joint) if isinstance(joint, int | float) and joint >= 0 else None
    place = row.get("place", "")
    return Pace(
        type=kind, runs=runs, repack=repack, joint_s=joint_s, place=place if isinstance(place, str) else "",
        **dict(zip(_COSTS, numbers, strict=True)),
    )  # fmt: skip
