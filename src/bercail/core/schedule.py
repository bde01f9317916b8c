"""Which models are in memory and who is served next, many at a time: (state, event, now) -> (state, actions).

The state begins empty and learns its models by ``TermsChanged``. A ready model serves as many requests as its engine
has slots; the others wait here, where keys, priorities and age count. Requests for a model in memory are served while
those for others wait, until it is idle, fairness demands a swap, or a request has waited as long as it may. A model
starts only when the memory of those that leave for it is really free.
"""

from dataclasses import replace
from typing import assert_never

from bercail.core import room
from bercail.core.events import (
    Ailing,
    Asked,
    Died,
    Event,
    Left,
    Preload,
    Ready,
    Released,
    Reload,
    StartFailed,
    Stay,
    Stopped,
    TermsChanged,
    Tick,
    Unload,
)
from bercail.core.line import Ticket
from bercail.core.need import Keep
from bercail.core.review import PAUSE_S, review
from bercail.core.seat import Seat, Stand, averaged, required
from bercail.core.turn import Action, Decline, Refuse, Schedule, Turn
from bercail.core.units import Seconds


def schedule(state: Schedule, event: Event, now_s: Seconds) -> tuple[Schedule, tuple[Action, ...]]:
    """What follows from an event at a time that never runs backwards.

    Events about models that are unknown, or that come too late to mean anything, change nothing.
    """
    turn = Turn.begin(state, now_s)
    match event:
        case Asked(ticket=ticket):
            _asked(turn, ticket)
        case Left(ticket=ticket):
            _left(turn, ticket)
        case Released(ticket=ticket):
            _released(turn, ticket)
        case TermsChanged():
            _terms_changed(turn, event)
        case Tick():
            turn.due = True
        case _:
            if event.model in turn.seats:
                _to_model(turn, event)
    if turn.due or (turn.claimed and now_s >= turn.reviewed_s + PAUSE_S):
        review(turn)
    return turn.end()


def _to_model(
    turn: Turn, event: Ready | StartFailed | Died | Ailing | Stopped | Unload | Stay | Preload | Reload
) -> None:
    match event:
        case Ready():
            _ready(turn, event)
        case StartFailed():
            _start_failed(turn, event)
        case Died():
            _died(turn, event)
        case Ailing():
            _ailing(turn, event)
        case Stopped(model=model):
            turn.gone(model)
        case Unload(model=model):
            turn.refuse_all(model, f"{model} was unloaded by request")
            _send_out(turn, model, wanted=False)
        case Stay(model=model, stay_s=stay_s):
            turn.move(model, turn.seats[model].stand, replace(turn.past(model), stay_s=stay_s))
        case Preload(model=model):
            _preload(turn, model)
        case Reload(model=model):
            _send_out(turn, model, wanted=True)
        case _ as unreachable:
            assert_never(unreachable)


def _asked(turn: Turn, ticket: Ticket) -> None:
    ticket = _substituted(turn, ticket)
    model = ticket.model
    if model not in turn.terms.needs:
        turn.actions.append(Refuse(ticket=ticket, status=503, reason=f"{model} is not configured"))
        return
    seat = turn.seats[model]
    ready = seat.stand is Stand.READY
    if not ready and (reason := room.never(turn.terms, turn.seats, model)):
        turn.actions.append(Refuse(ticket=ticket, status=503, reason=reason))
        return
    if ready and not seat.line and len(seat.running) < turn.terms.needs[model].slots:
        turn.admit(ticket)
    elif refusal := _full(turn, ticket):
        turn.actions.append(refusal)
    else:
        turn.push(ticket)
        turn.due = turn.due or not (ready or seat.line)


def _substituted(turn: Turn, ticket: Ticket) -> Ticket:
    """For the first of its substitutes that is ready, if its own model is not."""
    for model in (ticket.model, *ticket.substitutes):
        if model in turn.seats and turn.seats[model].stand is Stand.READY:
            return ticket if model == ticket.model else replace(ticket, model=model)
    return ticket


def _full(turn: Turn, ticket: Ticket) -> Refuse | None:
    """Why no more may wait, or None."""
    policy, line = turn.terms.policy, turn.seats[ticket.model].line
    mine = turn.shares.waiting(ticket.key)
    if mine >= policy.queue_per_key:
        reason, status = f"{mine} requests of this key wait already, as many as may", 429
    elif turn.waiting >= policy.queue_length:
        reason, status = f"{turn.waiting} requests wait already, as many as may", 503
    else:
        return None
    tag = turn.shares.arrived(ticket.key, policy.fair_lag_s).had_s(ticket.key)
    position = line.with_ticket(ticket, tag).position(ticket)
    return Refuse(
        ticket=ticket, status=status, reason=reason, retry_after_s=turn.retry_s(ticket.model, 1), position=position
    )


def _left(turn: Turn, ticket: Ticket) -> None:
    for model in (ticket.model, *ticket.substitutes):
        seated = replace(ticket, model=model)
        turn.release(seated)
        if model in turn.seats and turn.seats[model].line.has(ticket):
            turn.pull(seated)
        _settle(turn, model)


def _released(turn: Turn, ticket: Ticket) -> None:
    turn.release(ticket)
    _settle(turn, ticket.model)


def _settle(turn: Turn, model: str) -> None:
    """A model has one request less: the next one, or its end, or its rest."""
    seat = turn.seats.get(model)
    if seat is None:
        return
    if seat.stand is Stand.READY:
        turn.serve(model)
        if not turn.seats[model].busy:
            turn.expect_idle(model)
    elif seat.stand is Stand.DRAINING and not seat.running:
        turn.stop(model)
    elif seat.stand is Stand.CALLED and not seat.line:
        turn.due = True


def _ready(turn: Turn, event: Ready) -> None:
    model = event.model
    seat, need = turn.seats[model], turn.terms.needs.get(model)
    if seat.stand is not Stand.STARTING or need is None:
        return  # it was told to stop meanwhile
    took_s = averaged(seat.past.load_s, turn.now_s - seat.past.began_s)
    past = replace(seat.past, ready_s=turn.now_s, load_s=took_s, retried=False)
    if event.bytes is not None:
        # What runs can run again: it is never said to need more than it can be given.
        learned = room.attainable(turn.terms, turn.seats, model, event.bytes, required(need, seat))
        past = replace(past, held=event.bytes, learned=learned)
    turn.seats[model] = replace(seat, used_s=turn.now_s)
    turn.move(model, Stand.READY, past)
    turn.serve(model)
    _rule_out(turn)


def _start_failed(turn: Turn, event: StartFailed) -> None:
    model = event.model
    seat = turn.seats[model]
    if seat.stand is not Stand.STARTING:
        turn.gone(model)  # it failed while it was told to stop
    elif event.out_of_memory and not seat.past.retried:
        learned = room.corrected(turn.terms, turn.seats, model, event.device)
        turn.gone(model)
        past = replace(turn.past(model), learned=learned, retried=True, wanted=not seat.line)
        turn.move(model, Stand.OUT, past)
    else:
        _fall(turn, model, event.reason, event.retry_s)


def _died(turn: Turn, event: Died) -> None:
    if turn.seats[event.model].stand in (Stand.STARTING, Stand.READY):
        _fall(turn, event.model, event.reason, event.retry_s)
    else:
        turn.gone(event.model)  # it was to go anyway


def _ailing(turn: Turn, event: Ailing) -> None:
    model, retry_s = event.model, event.retry_s
    if turn.seats[model].stand is not Stand.READY:
        return  # it was to go anyway
    if retry_s is None:
        turn.refuse_all(model, event.reason, failed=True)
    else:
        turn.move(model, Stand.READY, replace(turn.past(model), not_before_s=turn.now_s + retry_s))
    _send_out(turn, model, wanted=retry_s is not None)


def _fall(turn: Turn, model: str, reason: str, retry_s: Seconds | None) -> None:
    """A model is out by its own fault: it comes again after a pause, or whoever waits hears why not."""
    turn.gone(model)
    past = replace(turn.past(model), retried=False)
    if retry_s is None:
        turn.refuse_all(model, reason, failed=True)
        turn.move(model, Stand.OUT, replace(past, wanted=False, resting=True))
    else:
        turn.move(model, Stand.OUT, replace(past, wanted=True, not_before_s=turn.now_s + retry_s))


def _preload(turn: Turn, model: str) -> None:
    seat = turn.seats[model]
    if model not in turn.terms.needs:
        turn.actions.append(Decline(model=model, reason=f"{model} is not configured"))
    elif reason := room.never(turn.terms, turn.seats, model):
        turn.actions.append(Decline(model=model, reason=reason))
    elif seat.stand not in (Stand.STARTING, Stand.READY):
        turn.move(model, seat.stand, replace(seat.past, wanted=True, resting=False))


def _send_out(turn: Turn, model: str, *, wanted: bool) -> None:
    """Out of memory, or out of the way into it; ``wanted`` if it is to come again."""
    stand = turn.seats[model].stand
    is_in = stand in (Stand.CALLED, Stand.STARTING, Stand.READY, Stand.DRAINING)
    again = wanted and (is_in or turn.past(model).wanted)
    past = replace(turn.past(model), wanted=again, resting=not wanted, retried=False, going=stand is Stand.DRAINING)
    turn.move(model, Stand.OUT if stand is Stand.CALLED else stand, past)
    if stand is Stand.READY:
        turn.vacate(model, going=True)
    elif stand is Stand.STARTING:
        turn.stop(model)


def _terms_changed(turn: Turn, event: TermsChanged) -> None:
    before, turn.terms = turn.terms, event.terms
    for model in sorted(turn.seats.keys() - event.terms.needs.keys()):
        turn.refuse_all(model, f"{model} is no longer configured")
        _send_out(turn, model, wanted=False)
        if turn.seats[model].stand is Stand.OUT:
            del turn.seats[model]
    for model, need in event.terms.needs.items():
        if model not in turn.seats:
            turn.seats[model] = Seat()
        elif model not in before.needs or before.needs[model].bytes != need.bytes:
            past = replace(turn.past(model), learned=None, retried=False)
            turn.move(model, turn.seats[model].stand, past)
        if model in event.reload:
            _send_out(turn, model, wanted=True)
    _fit_lessons(turn)
    _rule_out(turn)
    _welcome(turn)
    turn.due = True


def _fit_lessons(turn: Turn) -> None:
    """What a model was found to need is never more than there is to give, also where that has become less."""
    for model, need in turn.terms.needs.items():
        seat = turn.seats[model]
        if seat.past.learned is not None:
            learned = room.attainable(turn.terms, turn.seats, model, seat.past.learned, need.bytes)
            turn.seats[model] = replace(seat, past=replace(seat.past, learned=learned))


def _welcome(turn: Turn) -> None:
    """There may be more slots; and whoever is to come by itself, but cannot, is told of."""
    for model, need in turn.terms.needs.items():
        if turn.seats[model].stand is Stand.READY:
            turn.serve(model)
        elif need.keep in (Keep.PINNED, Keep.WARM) and (reason := room.never(turn.terms, turn.seats, model)):
            turn.actions.append(Decline(model=model, reason=reason))


def _rule_out(turn: Turn) -> None:
    """Refuse whoever waits for a model that can no longer come in."""
    for model, seat in tuple(turn.seats.items()):
        if seat.line and seat.stand is not Stand.READY and (reason := room.never(turn.terms, turn.seats, model)):
            turn.refuse_all(model, reason)
