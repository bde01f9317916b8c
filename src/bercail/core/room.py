"""Memory and rules: what is taken, what is free, who can never come in, and how long it takes until one is served."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import assert_never

from bercail.core.need import Keep, Terms
from bercail.core.seat import HOLDING, Seat, Stand, entered_s, load_s, required, service_s
from bercail.core.units import Bytes, Seconds, format_bytes

Seats = Mapping[str, Seat]


def taken(terms: Terms, seats: Seats, models: Iterable[str]) -> dict[str, Bytes]:
    """Bytes by device that these models hold, or will if they are only called."""
    sums: dict[str, Bytes] = {}
    for model in models:
        seat = seats[model]
        parts = required(terms.needs[model], seat) if seat.stand is Stand.CALLED else seat.past.held
        for device, count in parts.items():
            sums[device] = sums.get(device, 0) + count
    return sums


def missing(terms: Terms, need: Mapping[str, Bytes], used: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """Bytes by device that ``need`` lacks beside what is used; only those devices where it lacks some."""
    lacks = {device: count + used.get(device, 0) - terms.budget.get(device, 0) for device, count in need.items()}
    return {device: count for device, count in lacks.items() if count > 0}


def standing(seats: Seats, stands: Collection[Stand]) -> frozenset[str]:
    """The models in one of these stands."""
    return frozenset(model for model, seat in seats.items() if seat.stand in stands)


def beside_pinned(terms: Terms, seats: Seats, model: str) -> dict[str, Bytes]:
    """Bytes by device that are left for a model once every other pinned one is in."""
    left = dict(terms.budget)
    for name, need in terms.needs.items():
        if need.keep is Keep.PINNED and name != model:
            for device, count in required(need, seats[name]).items():
                left[device] = left.get(device, 0) - count
    return left


def never(terms: Terms, seats: Seats, model: str) -> str:
    """Why a model can never come in, even alone beside the pinned ones, with the numbers; empty if it can."""
    pinned = frozenset(name for name, need in terms.needs.items() if need.keep is Keep.PINNED) - {model}
    if barred := sorted(terms.leaves(model, pinned) & pinned):
        return f"{model} may not be in memory beside {', '.join(barred)}, which is pinned"
    left = beside_pinned(terms, seats, model)
    for device, count in required(terms.needs[model], seats[model]).items():
        room = left.get(device, 0)
        if count > room:
            beside = " beside the pinned models" if pinned else ""
            needs, there = format_bytes(count), format_bytes(max(room, 0))
            return f"{model} needs {needs} on {device}, and there are at most {there}{beside}"
    return ""


def corrected(terms: Terms, seats: Seats, model: str, device: str | None) -> dict[str, Bytes]:
    """What a model needs that ran out of memory while it loaded.

    It was given all that was free, so it needs more than that, and an eighth more than thought: on the device it
    told of, or on all of its own. Never more than it can be given, or it would not be tried again.
    """
    thought = required(terms.needs[model], seats[model])
    others = taken(terms, seats, standing(seats, HOLDING) - {model})
    needed = dict(thought)
    for name, count in thought.items():
        if device in (None, name):
            free = terms.budget.get(name, 0) - others.get(name, 0)
            needed[name] = max(count + count // 8, free + 1)
    return attainable(terms, seats, model, needed, thought)


def attainable(
    terms: Terms, seats: Seats, model: str, needed: Mapping[str, Bytes], least: Mapping[str, Bytes]
) -> dict[str, Bytes]:
    """``needed``, but no more than a model can be given beside the pinned ones, and never below ``least``."""
    left = beside_pinned(terms, seats, model)
    return {name: min(count, max(left.get(name, 0), least.get(name, 0))) for name, count in needed.items()}


def wait_s(terms: Terms, seats: Seats, model: str, position: int, now_s: Seconds) -> Seconds:
    """How long until the ``position``-th request that waits for a model is served, by what was observed.

    What is left of a load; or, where others must leave first, what is left of the longest wait, an answer that drains
    and a load. From there on, as many answers as come before its own, ``slots`` at a time, each as long as lately.
    """
    seat, need, policy = seats[model], terms.needs[model], terms.policy
    each_s, loading_s = service_s(policy, seat), load_s(need, seat)
    match seat.stand:
        case Stand.READY:
            before_s = 0.0
        case Stand.STARTING:
            before_s = max(0.0, seat.past.began_s + loading_s - now_s)
        case Stand.CALLED:
            before_s = each_s + loading_s
        case Stand.OUT | Stand.DRAINING | Stand.STOPPING:
            fits = not missing(terms, required(need, seat), taken(terms, seats, standing(seats, HOLDING)))
            since_s = entered_s(seat) if seat.line else now_s
            swap_s = 0.0 if fits else max(0.0, since_s + policy.max_wait_s - now_s) + each_s
            before_s = max(swap_s, seat.past.not_before_s - now_s) + loading_s
        case _ as unreachable:
            assert_never(unreachable)
    return before_s + math.ceil(position / need.slots) * each_s


def retry_after_s(estimate_s: Seconds) -> int:
    """An estimate as ``Retry-After`` takes it: whole seconds, at least one."""
    return max(1, math.ceil(estimate_s))
