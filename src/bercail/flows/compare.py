"""``bercail engine compare MODEL``: every engine that can run it, measured on this machine, and the winner."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.choice import compared
from bercail.core.engine import Make, Offer
from bercail.core.errors import BercailError, EngineError, NotFoundError
from bercail.core.model import Format, FoundModel
from bercail.core.options import purpose_of
from bercail.core.pace import usual_s
from bercail.core.search import Tried
from bercail.core.trial import Comparison, Trial, refused
from bercail.flows.choose import chosen
from bercail.flows.inspect import resolve
from bercail.flows.machine import Here, around
from bercail.flows.measure import Timed, examine, remember, tells_nothing
from bercail.flows.prepare import prepare
from bercail.flows.tune import tune
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What an engine did; ``timed`` is None if that came to nothing.

    Attributes:
        house: whose settings name the engine, and the order of weights.
    """

    trial: Trial
    house: House
    timed: Timed | None = None


async def compare(
    house: House, name: str, tell: Callable[[news.News], None], *, settings: bool = False, lossy: bool = False
) -> Comparison:
    """What each engine does with the model that ``name`` means, the fastest for the purpose first.

    Each is loaded as it is planned, with the weights as they are and rearranged, and timed as `measure` does; what it
    says is kept, so that ``--engine auto`` knows from then on.

    With ``settings`` others are tried with the engine that runs it from then on, and those that are clearly faster are
    kept in the place of earlier ones; with ``lossy`` also what changes answers, of which nothing is kept.

    Raises:
        NotFoundError: ``name`` is no path and no known id, or no engine reads it.
        ReadError: its file cannot be read.
        EngineError: no engine could run it.
    """
    found = await asyncio.to_thread(resolve, house.reader, name, house.settings.library.folders)
    model = await asyncio.to_thread(house.reader.read, found.path)
    here = await around(house)
    runs = [await _run(one, here.offers, found, tell, by_rule=settings) for one in _variants(house, here, model.format)]
    if not runs:
        why = f"no engine here reads {model.format}"
        raise NotFoundError(why, hint="see `bercail engine list`", code="engine_not_found")
    for run in runs:  # only now: half a comparison would be taken for a whole one
        if run.timed is not None:
            remember(run.house, run.timed, tell)
    runs.sort(key=lambda run: run.trial.request_s or float("inf"))
    compared = Comparison(trials=tuple(run.trial for run in runs))
    if runs[0].timed is None:
        why = f"no engine could run {found.id}: {runs[0].trial.failure}"
        raise EngineError(why, hint="see `bercail plan` on what it takes")
    if not (settings or lossy):
        return compared
    best = _used(runs, chosen(house, here, model).choice.offer)
    tried = await _tried(best, found, tell, settings=settings, lossy=lossy)
    return replace(compared, searched=best.trial.offer, tried=tried)


def _used(runs: Sequence[_Run], offer: Offer) -> _Run:
    """The fastest that ``offer`` did, which is what runs such a model from now on; if it failed, the fastest of all."""
    return next((run for run in runs if run.trial.offer.id == offer.id and run.timed is not None), runs[0])


async def _tried(
    run: _Run, found: FoundModel, tell: Callable[[news.News], None], *, settings: bool, lossy: bool
) -> tuple[Tried, ...]:
    """What came of other settings; those clearly faster are kept. Nothing where loads tell nothing of others."""
    assert run.timed is not None, "what failed has no settings to improve"
    if why := tells_nothing(run.timed.prepared):
        tell(news.Warned(text=f"{why}, so no settings are tried"))
        return ()
    tuned = await tune(run.house, found, run.timed, tell, settings=settings, lossy=lossy)
    if settings:
        remember(run.house, tuned.timed, tell, tuned.gains)
    return tuned.rows


def _variants(house: House, here: Here, form: Format) -> Iterator[House]:
    """The same house with each engine that reads the model, and each order of weights, asked for."""
    wish = house.settings.engine
    able = [offer for offer in here.offers if form in offer.reads]
    for offer in compared(able, here.machine, wish.engine):
        own = offer.make is Make.LIBRARY or offer.gpus  # it has an order of its own, or rearranges nothing on a GPU
        for order in (None,) if own else (True, False) if wish.repack is None else (wish.repack,):
            changed = replace(wish, engine=offer.id, repack=order)
            yield replace(house, settings=replace(house.settings, engine=changed))


async def _run(
    house: House, offers: Sequence[Offer], found: FoundModel, tell: Callable[[news.News], None], *, by_rule: bool
) -> _Run:
    wish = house.settings.engine
    offer = next(offer for offer in offers if offer.id == wish.engine)
    tell(news.Trying(engine=str(offer), repack=wish.repack is True))
    try:
        timed = await examine(house, await prepare(house, found, tell, by_rule=by_rule), tell)
    except BercailError as error:
        return _Run(house=house, trial=refused(offer, repack=wish.repack is True, why=str(error)))
    purpose, plan = purpose_of(wish), timed.prepared.plan
    seconds = usual_s(timed.prepared.model, timed.pace, purpose)
    if seconds is None:
        few = f"{plan.settings.slots} slots, and the work comes {purpose.clients} at once: see --slots"
        return _Run(house=house, trial=refused(offer, repack=plan.settings.repack, why=few))
    trial = Trial(
        offer=offer,
        repack=plan.settings.repack,
        quantization=timed.prepared.model.quantization,
        precision=plan.settings.precision,
        timings=timed.timings,
        ready_s=timed.ready_s,
        resident_bytes=timed.resident_bytes,
        planned_bytes=plan.devices[0].total_bytes,
        request_s=seconds,
        joint=timed.joint,
    )
    return _Run(house=house, trial=trial, timed=timed)
