"""Measured reading speeds of main memory: what disturbed a measurement, and which of several counts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

BUSY = 0.10
"""More than this share of the CPUs taken by others, and a measurement says less than the memory can do."""
WITHHELD = 0.05
"""The same of what a hypervisor kept."""
SPREAD = 0.25
"""Quiet measurements differ by 3 % (`bench/results/memory_bandwidth.txt`); rounds of one on two cores beside a test
suite on both differed by 66 %."""
MOST_KEPT = 20
"""After so many disturbed ones the best of them has to do: this machine is never quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One measurement with all usable cores. Unknown is None.

    Attributes:
        busy: share of the usable CPUs that other programs took meanwhile.
        withheld: share of them that the hypervisor kept.
        spread: by how much its best round is faster than another of the same kind, as a share of it.
    """

    bytes_per_s: float
    busy: float | None = None
    withheld: float | None = None
    spread: float | None = None

    @property
    def doubt(self) -> str:
        """What disturbed it, in words; empty if nothing did."""
        if self.busy is None and self.withheld is None and self.spread is None:
            return "it is not known what else ran then"
        causes = (
            (self.busy, BUSY, "other programs took {:.0%} of the CPUs"),
            (self.withheld, WITHHELD, "the hypervisor kept {:.0%} of the CPUs"),
            (self.spread, SPREAD, "its rounds differed by {:.0%}"),
        )
        return " and ".join(words.format(share) for share, most, words in causes if share is not None and share > most)


def best(readings: Sequence[Reading]) -> Reading:
    """The fastest: whatever disturbs can only slow down."""
    return max(readings, key=lambda reading: reading.bytes_per_s)


def doubt(readings: Sequence[Reading]) -> str:
    """Why the best of them may be less than the memory can do; empty if one of them was undisturbed."""
    return best(readings).doubt if all(reading.doubt for reading in readings) else ""


def is_settled(readings: Sequence[Reading]) -> bool:
    """Whether there is no use in measuring again."""
    return any(not reading.doubt for reading in readings) or len(readings) >= MOST_KEPT


def kept(value: Mapping[str, object] | None) -> tuple[Reading, ...]:
    """The readings in what was kept; a bare speed, of an earlier version, is one of which nothing else is known."""
    if value is None:
        return ()
    rows = value.get("readings")
    found = [_reading(row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else [_reading(value)]
    return tuple(reading for reading in found if reading)


def to_keep(readings: Sequence[Reading]) -> dict[str, object]:
    """Readings as ``kept`` takes them."""
    return {"bytes_per_s": best(readings).bytes_per_s, "readings": [asdict(reading) for reading in readings]}


def _reading(row: Mapping[str, object]) -> Reading | None:
    speed = _number(row.get("bytes_per_s"))
    if not speed:
        return None
    return Reading(
        bytes_per_s=speed, busy=_number(row.get("busy")), withheld=_number(row.get("withheld")),
        spread=_number(row.get("spread")),
    )  # fmt: skip


def _number(raw: object) -> float | None:
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) and raw >= 0 else None
