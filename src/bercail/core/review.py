"""The review of memory: who has outlived its time, who is called next, who leaves for it, who starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bercail.core import room
from bercail.core.evict import Candidate, cheapest
from bercail.core.line import Ticket
from bercail.core.need import Keep
from bercail.core.seat import (
    HOLDING,
    STAYING,
    Seat,
    Stand,
    comes_back,
    entered_s,
    expires_s,
    held_until_s,
    idle_from_s,
    limited_from_s,
    load_s,
    required,
    service_s,
)
from bercail.core.turn import Turn
from bercail.core.units import Seconds

PAUSE_S: Seconds = 0.5
"""While somebody waits, memory is reviewed with the next event that is so much later than the last review."""
RECENT_S: Seconds = 60.0
"""A model last used ``t`` ago is expected again with a chance of 1 in ``RECENT_S + t`` each second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A model that is out and to come in.

    Attributes:
        rank: 0 requests wait for it, 1 it is wanted, 2 it may come back if there is room.
        late_s: when its oldest request has waited as long as it may; infinity for those without requests.
        due_s: from when busy models go for it: then, or so much earlier that its rivals can follow in time.
        crowded: it and its rivals cannot all begin in time, so ready models keep their minimum residency.
        turn_s: the turn of whoever waits for it and has had least, with the head start of priorities.
        number: of the oldest request.
    """

    model: str
    rank: int
    late_s: Seconds = math.inf
    due_s: Seconds = math.inf
    crowded: bool = False
    turn_s: float = math.inf
    number: int = 0


def review(turn: Turn) -> None:
    """Bring memory in line with what is asked for."""
    turn.reviewed_s = turn.now_s
    _expire(turn)
    _outlived(turn)
    _call_off(turn)
    left = _call(turn, _claims(turn))
    _resume(turn)
    _start(turn)
    turn.claimed = bool(left)
    _set_alarm(turn, left)
    turn.due = False


def _expire(turn: Turn) -> None:
    limit_s = turn.terms.policy.wait_limit_s
    for model, seat in tuple(turn.seats.items()):
        if seat.stand is Stand.STARTING or not seat.line or _limit_s(turn, seat, seat.line.oldest) > turn.now_s:
            continue
        for ticket in seat.line:
            if _limit_s(turn, seat, ticket) <= turn.now_s:
                reason = f"waited {limit_s:.0f} s for {model}, the most that is allowed"
                turn.refuse(ticket, reason, retry_after_s=turn.retry_s(model, len(seat.line)))


def _limit_s(turn: Turn, seat: Seat, ticket: Ticket) -> Seconds:
    return limited_from_s(seat, ticket) + turn.terms.policy.wait_limit_s


def _outlived(turn: Turn) -> None:
    for model, seat in tuple(turn.seats.items()):
        if seat.stand is Stand.READY and not seat.busy and expires_s(turn.terms.needs[model], seat) <= turn.now_s:
            turn.vacate(model, going=True)


def _call_off(turn: Turn) -> None:
    """Whoever was called comes in only if it is still wanted and what was planned still holds."""
    staying = room.standing(turn.seats, STAYING - {Stand.CALLED})
    called = room.standing(turn.seats, {Stand.CALLED})
    for model in sorted(called, key=lambda name: (turn.seats[name].past.began_s, name)):
        seat, need = turn.seats[model], turn.terms.needs[model]
        wanted = seat.line or comes_back(need, seat)
        used = room.taken(turn.terms, turn.seats, staying)
        if (
            not wanted
            or room.missing(turn.terms, required(need, seat), used)
            or turn.terms.leaves(model, staying) & staying
        ):
            turn.move(model, Stand.OUT)
        else:
            staying |= {model}


def _claims(turn: Turn) -> list[Claim]:
    """Who is out and to come in, the most urgent first."""
    claims = [claim for model in turn.terms.needs if (claim := _claim(turn, model))]
    return sorted(_in_time(turn, claims), key=lambda claim: _urgency(turn, claim))


def _in_time(turn: Turn, claims: Sequence[Claim]) -> list[Claim]:
    """Each so early that those who want the same memory later can begin in time too, if that is possible."""
    policy = turn.terms.policy
    timely: list[Claim] = []
    spent_s = {
        claim.model: load_s(turn.terms.needs[claim.model], turn.seats[claim.model])
        + 2 * service_s(policy, turn.seats[claim.model])
        for claim in claims
        if claim.rank == 0
    }
    for claim in sorted(claims, key=lambda claim: (-claim.late_s, claim.model)):
        if claim.model not in spent_s:
            timely.append(claim)
            continue
        others = (other for other in claims if other is not claim and other.model in spent_s)
        rivals = {other.model for other in others if _rivals(turn, claim, other)}
        after_s = min((other.due_s for other in timely if other.model in rivals), default=math.inf)
        together_s = spent_s[claim.model] + sum(spent_s[model] for model in rivals)
        due_s = min(claim.late_s, after_s - spent_s[claim.model])
        timely.append(replace(claim, due_s=due_s, crowded=bool(rivals) and together_s > policy.max_wait_s))
    return timely


def _rivals(turn: Turn, one: Claim, other: Claim) -> bool:
    """Whether two models cannot be in memory together."""
    leaves, budget = turn.terms.leaves, turn.terms.budget
    first, second = (required(turn.terms.needs[claim.model], turn.seats[claim.model]) for claim in (one, other))
    return (
        any(first[device] + second[device] > budget.get(device, 0) for device in first.keys() & second.keys())
        or other.model in leaves(one.model, frozenset({other.model}))
        or one.model in leaves(other.model, frozenset({one.model}))
    )


def _urgency(turn: Turn, claim: Claim) -> tuple[float, ...]:
    due_s = claim.due_s if claim.due_s <= turn.now_s else math.inf
    return (claim.rank, due_s, claim.turn_s, claim.number)


def _claim(turn: Turn, model: str) -> Claim | None:
    seat, need, policy = turn.seats[model], turn.terms.needs[model], turn.terms.policy
    if seat.stand is not Stand.OUT or seat.past.not_before_s > turn.now_s:
        return None
    if seat.line:
        head_start_s = {name: (name[1] + need.priority) * policy.priority_s for name in seat.line.lanes}
        return Claim(
            model=model,
            rank=0,
            late_s=-math.inf if seat.past.retried else entered_s(seat) + policy.max_wait_s,
            turn_s=min(turn.shares.had_s(name[0]) - ahead_s for name, ahead_s in head_start_s.items()),
            number=seat.line.oldest.number,
        )
    if not comes_back(need, seat) or room.never(turn.terms, turn.seats, model):
        return None
    return Claim(model=model, rank=2 if need.keep is Keep.WARM and not seat.past.wanted else 1)


def _call(turn: Turn, claims: Sequence[Claim]) -> list[Claim]:
    """Call whom others can make room for; those who must wait on.

    An overdue claim that cannot be served yet keeps what it needs from those behind it.
    """
    left: list[Claim] = []
    first: list[Claim] = []
    for claim in claims:
        behind = any(_rivals(turn, claim, other) for other in first) or (claim.rank == 2 and bool(left))
        leaving = None if behind else _who_leaves(turn, claim)
        if leaving is None:
            left.append(claim)
            if claim.due_s <= turn.now_s:
                first.append(claim)
            continue
        turn.move(claim.model, Stand.CALLED, replace(turn.past(claim.model), began_s=turn.now_s))
        for model in sorted(leaving):
            turn.vacate(model, going=False)
    return left


def _who_leaves(turn: Turn, claim: Claim) -> frozenset[str] | None:
    """The models that go for a claim, the cheapest set; None if it has to wait."""
    staying = room.standing(turn.seats, STAYING)
    forced = turn.terms.leaves(claim.model, staying) & staying
    if not all(_may_go(turn, claim, model) for model in forced):
        return None
    need = required(turn.terms.needs[claim.model], turn.seats[claim.model])
    short = room.missing(turn.terms, need, room.taken(turn.terms, turn.seats, staying - forced))
    if not short:
        return forced
    willing = [model for model in staying - forced if _may_go(turn, claim, model)]
    more = cheapest([_candidate(turn, model) for model in willing], short)
    return None if more is None else forced | more


def _may_go(turn: Turn, claim: Claim, model: str) -> bool:
    seat, need, policy = turn.seats[model], turn.terms.needs[model], turn.terms.policy
    if seat.stand is not Stand.READY or need.keep is Keep.PINNED or claim.rank == 2:
        return False
    late = claim.late_s <= turn.now_s and not claim.crowded
    if turn.now_s < held_until_s(policy, need, seat) and not late:
        return False
    if claim.due_s <= turn.now_s:
        return True
    if seat.busy or turn.now_s < idle_from_s(policy, need, seat):
        worth_s = max(policy.fair_lag_s, 2 * load_s(turn.terms.needs[claim.model], turn.seats[claim.model]))
        return claim.rank == 0 and seat.turn_s - claim.turn_s > worth_s
    return True


def _candidate(turn: Turn, model: str) -> Candidate:
    """Idle ones go before busy ones, then evictable ones, then by priority, then by what it costs to lose them."""
    seat, need = turn.seats[model], turn.terms.needs[model]
    least = min(other.priority for other in turn.terms.needs.values())
    lost = load_s(need, seat) / (RECENT_S + turn.now_s - seat.used_s)
    cost = (float(seat.busy), float(need.keep is not Keep.EVICTABLE), float(need.priority - least), lost)
    return Candidate(model=model, bytes=seat.past.held, cost=cost)


def _resume(turn: Turn) -> None:
    """Whoever drains for another stays if nobody called needs its memory."""
    for model in sorted(room.standing(turn.seats, {Stand.DRAINING})):
        staying = room.standing(turn.seats, STAYING)
        called = room.standing(turn.seats, {Stand.CALLED})
        if turn.seats[model].past.going or any(
            model in turn.terms.leaves(other, staying - {other} | {model}) for other in called
        ):
            continue
        used = room.taken(turn.terms, turn.seats, staying)
        if not room.missing(turn.terms, turn.seats[model].past.held, used):
            turn.resume(model)


def _start(turn: Turn) -> None:
    """Whoever is called starts once its memory is really free."""
    for model in sorted(room.standing(turn.seats, {Stand.CALLED})):
        holding = room.standing(turn.seats, HOLDING)
        need = required(turn.terms.needs[model], turn.seats[model])
        used = room.taken(turn.terms, turn.seats, holding)
        if not room.missing(turn.terms, need, used) and not turn.terms.leaves(model, holding) & holding:
            turn.start(model)


def _set_alarm(turn: Turn, left: Sequence[Claim]) -> None:
    """Wake when time alone changes something."""
    policy = turn.terms.policy
    times = [claim.due_s for claim in left] + [claim.late_s for claim in left]
    for model, seat in turn.seats.items():
        if model not in turn.terms.needs:
            continue
        need = turn.terms.needs[model]
        if seat.line and seat.stand is not Stand.STARTING:
            times.append(_limit_s(turn, seat, seat.line.oldest))
        if seat.stand is Stand.OUT and (seat.line or comes_back(need, seat)):
            times.append(seat.past.not_before_s)
        if seat.stand is Stand.READY and not seat.busy:
            times.append(expires_s(need, seat))
        if seat.stand is Stand.READY and left:
            times += (held_until_s(policy, need, seat), idle_from_s(policy, need, seat))
    turn.wake_s = min((at_s for at_s in times if at_s > turn.now_s), default=math.inf)
