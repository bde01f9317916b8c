"""``bercail engine compare MODEL``: every engine that can run it, measured on this machine, and the winner."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bercail.core import news
from bercail.core.choice import compared
from bercail.core.engine import Make, Offer
from bercail.core.errors import BercailError, EngineError, NotFoundError
from bercail.core.model import Format, FoundModel
from bercail.core.options import purpose_of
from bercail.core.pace import usual_s
from bercail.core.trial import Trial, refused
from bercail.flows.inspect import resolve
from bercail.flows.machine import Here, around
from bercail.flows.measure import Timed, remember, time
from bercail.ports import House


async def compare(house: House, name: str, tell: Callable[[news.News], None]) -> tuple[Trial, ...]:
    """What each engine does with the model that ``name`` means, the fastest for the purpose first.

    Each is loaded as it is planned, with the weights as they are and rearranged, and timed as `measure` does; what it
    says is kept, so that ``--engine auto`` knows from then on.

    Raises:
        NotFoundError: ``name`` is no path and no known id, or no engine reads it.
        ReadError: its file cannot be read.
        EngineError: no engine could run it.
    """
    found = await asyncio.to_thread(resolve, house.reader, name, house.settings.library.folders)
    form = (await asyncio.to_thread(house.reader.read, found.path)).format
    here = await around(house)
    timed: list[Timed] = []
    trials = [await _trial(one, here.offers, found, tell, timed.append) for one in _variants(house, here, form)]
    if not trials:
        raise NotFoundError(f"no engine here reads {form}", hint="see `bercail engine list`", code="engine_not_found")
    for one in timed:  # only now: half a comparison would be taken for a whole one
        remember(house, one, tell)
    if all(trial.failure for trial in trials):
        raise EngineError(
            f"no engine could run {found.id}: {trials[0].failure}", hint="see `bercail plan` on what it takes"
        )
    return tuple(sorted(trials, key=lambda trial: trial.request_s or float("inf")))


def _variants(house: House, here: Here, form: Format) -> Iterator[House]:
    """The same house with each engine that reads the model, and each order of weights, asked for."""
    wish = house.settings.engine
    able = [offer for offer in here.offers if form in offer.reads]
    for offer in compared(able, here.machine, wish.engine):
        own = offer.make is Make.LIBRARY or offer.gpus  # it has an order of its own, or rearranges nothing on a GPU
        for order in (None,) if own else (True, False) if wish.repack is None else (wish.repack,):
            changed = replace(wish, engine=offer.id, repack=order)
            yield replace(house, settings=replace(house.settings, engine=changed))


async def _trial(
    house: House,
    offers: Sequence[Offer],
    found: FoundModel,
    tell: Callable[[news.News], None],
    hear: Callable[[Timed], None],
) -> Trial:
    wish = house.settings.engine
    offer = next(offer for offer in offers if offer.id == wish.engine)
    tell(news.Trying(engine=str(offer), repack=wish.repack is True))
    try:
        timed = await time(house, found, tell)
    except BercailError as error:
        return refused(offer, repack=wish.repack is True, why=str(error))
    purpose, plan = purpose_of(wish), timed.prepared.plan
    seconds = usual_s(timed.prepared.model, timed.pace, purpose)
    if seconds is None:
        few = f"{plan.settings.slots} slots, and the work comes {purpose.clients} at once: see --slots"
        return refused(offer, repack=plan.settings.repack, why=few)
    hear(timed)
    return Trial(
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
