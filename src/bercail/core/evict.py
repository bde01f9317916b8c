"""Who goes for whom: the cheapest set of models whose memory is enough on every device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.units import Bytes

Cost: TypeAlias = tuple[float, ...]
"""Added up over a set and compared from the left; no part is negative, all are of one length."""

EXACT = 12
"""Up to so many candidates every set is considered; 4,096 sets take a few milliseconds at worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model that may go."""

    model: str
    bytes: Mapping[str, Bytes]
    cost: Cost


def cheapest(candidates: Sequence[Candidate], short: Mapping[str, Bytes]) -> frozenset[str] | None:
    """The models to evict, or None if all of them are not enough.

    The least cost wins, then the fewest models, then the names. Among more than ``EXACT`` candidates of use, the
    cheapest go until it is enough, and those that turn out to be superfluous stay, the dearest first.

    Args:
        candidates: who may go.
        short: bytes that are missing by device, each more than 0.
    """
    useful = [candidate for candidate in candidates if any(candidate.bytes.get(device) for device in short)]
    if not _enough(useful, short):
        return None
    useful.sort(key=lambda candidate: (candidate.cost, candidate.model))
    chosen = _exact(useful, short) if len(useful) <= EXACT else _thrifty(useful, short)
    return frozenset(candidate.model for candidate in chosen)


def _enough(chosen: Sequence[Candidate], short: Mapping[str, Bytes]) -> bool:
    return all(sum(one.bytes.get(device, 0) for one in chosen) >= missing for device, missing in short.items())


def _total(chosen: Sequence[Candidate]) -> Cost:
    return tuple(map(sum, zip(*(one.cost for one in chosen), strict=True)))


def _exact(useful: Sequence[Candidate], short: Mapping[str, Bytes]) -> Sequence[Candidate]:
    best: tuple[tuple[Cost, int, tuple[str, ...]], Sequence[Candidate]] | None = None
    open_ones: list[tuple[int, tuple[Candidate, ...]]] = [(0, ())]
    while open_ones:
        at, chosen = open_ones.pop()
        rank = (_total(chosen), len(chosen), tuple(sorted(one.model for one in chosen)))
        if best is not None and rank >= best[0]:
            continue  # adding to it makes it no cheaper
        if _enough(chosen, short):
            best = (rank, chosen)
        elif at < len(useful):
            open_ones += [(at + 1, chosen), (at + 1, (*chosen, useful[at]))]
    assert best is not None, "all of them together are enough"
    return best[1]


def _thrifty(useful: Sequence[Candidate], short: Mapping[str, Bytes]) -> Sequence[Candidate]:
    chosen: list[Candidate] = []
    for candidate in useful:
        if not _enough(chosen, short):
            chosen.append(candidate)
    for candidate in reversed(tuple(chosen)):
        rest = [one for one in chosen if one is not candidate]
        if _enough(rest, short):
            chosen = rest
    return chosen
