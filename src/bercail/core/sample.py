"""The machine at one moment, as it is sampled while it serves; and the samples in the members that llama-swap has."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bercail.core.errors import UsageError
from bercail.core.units import MIB, Bytes, Seconds

KEPT_S: Seconds = 3600.0
"""So long samples are kept."""
Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one network interface has carried since it came up."""

    name: str
    received_bytes: Bytes
    sent_bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSample:
    """A graphics card. Unknown is None.

    Attributes:
        busy: share of the time, 0 to 1.
    """

    number: int
    name: str
    busy: float | None
    used_bytes: Bytes | None
    total_bytes: Bytes | None
    celsius: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The machine at ``at_s`` (unix seconds).

    Attributes:
        busy: of each CPU the share of the time since the sample before, 0 to 1; empty in the first sample.
        available_bytes: what a new process could take.
        load: of the last 1, 5 and 15 minutes; empty where the system does not tell.
        unread: what of the cards could not be read and why, one sentence each.
    """

    at_s: Seconds
    busy: tuple[float, ...]
    memory_bytes: Bytes
    available_bytes: Bytes
    swap_bytes: Bytes
    swap_free_bytes: Bytes
    load: tuple[float, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    cards: tuple[CardSample, ...] = ()
    unread: tuple[str, ...] = ()


def moment(text: str, name: str) -> Seconds:
    """Unix seconds of a moment as RFC 3339 writes it, and an address holds it: a space may be an unescaped plus.

    Args:
        text: the moment.
        name: what it is given as.

    Raises:
        UsageError: it is none, or names no time zone.
    """
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        raise _no_moment(text, name) from error
    if found.tzinfo is None:
        raise _no_moment(text, name)
    return found.timestamp()


def _no_moment(text: str, name: str) -> UsageError:
    return UsageError(f"{name}: {text[:40]!r} is no moment", hint="write it like 2026-11-21T10:00:00Z")


def performance_document(samples: Iterable[Sample], after_s: Seconds) -> Json:
    """Those after ``after_s``, in llama-swap's members; sizes there are MiB, shares percent, unknown null.

    ``gpu_unread`` is ours: what the latest of them lacks, in words.
    """
    wanted = [sample for sample in samples if sample.at_s > after_s]
    return {
        "enabled": True,
        "sys_stats": [_system(sample) for sample in wanted],
        "gpu_stats": [_card(sample, card) for sample in wanted for card in sample.cards],
        "gpu_unread": list(wanted[-1].unread) if wanted else [],
    }


def _system(sample: Sample) -> Json:
    load = sample.load or (None, None, None)
    return {
        "timestamp": stamp(sample.at_s),
        "cpu_util_per_core": [round(100 * share, 1) for share in sample.busy],
        "mem_total_mb": sample.memory_bytes // MIB,
        "mem_used_mb": (sample.memory_bytes - sample.available_bytes) // MIB,
        "mem_free_mb": sample.available_bytes // MIB,
        "swap_total_mb": sample.swap_bytes // MIB,
        "swap_used_mb": (sample.swap_bytes - sample.swap_free_bytes) // MIB,
        "load_avg_1": load[0],
        "load_avg_5": load[1],
        "load_avg_15": load[2],
        "net_io": [
            {"name": one.name, "bytes_recv": one.received_bytes, "bytes_sent": one.sent_bytes} for one in sample.traffic
        ],
    }


def _card(sample: Sample, card: CardSample) -> Json:
    return {
        "timestamp": stamp(sample.at_s),
        "id": card.number,
        "name": card.name,
        "gpu_util_pct": None if card.busy is None else round(100 * card.busy, 1),
        "mem_used_mb": None if card.used_bytes is None else card.used_bytes // MIB,
        "mem_total_mb": None if card.total_bytes is None else card.total_bytes // MIB,
        "temp_c": card.celsius,
        "power_draw_w": card.power_w,
    }


def stamp(at_s: Seconds) -> str:
    """A moment, of unix seconds, as RFC 3339 writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
