"""The machine, how fast its memory is read, and what each engine sees of it beside the CPU."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from bercail.core import bandwidth, news
from bercail.core.choice import AUTO, drives
from bercail.core.declared import ModelFile
from bercail.core.devices import beside, one_card_each, usable
from bercail.core.engine import Make, Offer
from bercail.core.errors import StoreError
from bercail.core.machine import Machine
from bercail.core.prefer import View, in_order
from bercail.ports import Engine, House


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine, as it is now.

    Attributes:
        machine: without GPUs.
        offers: of every engine, in the order of the house, with the GPUs that it sees.
    """

    machine: Machine
    offers: tuple[Offer, ...]


def glance(house: House) -> Machine:
    """The machine without GPUs, with the reading speed of its memory if it was measured before."""
    machine = house.prober.probe()
    return _reading(machine, _kept(house, machine))


def look(house: House, tell: Callable[[news.News], None]) -> Machine:
    """The machine with the reading speed of its memory, measured and kept; once more while only busy minutes told."""
    machine = house.prober.probe()
    readings = _kept(house, machine)
    if bandwidth.is_settled(readings):
        return _reading(machine, readings)
    measured = house.prober.measure_bandwidth(machine)
    if measured is None and not readings:
        tell(news.Warned(text="memory bandwidth was not measured: too little memory is free"))
    if measured is None:
        return _reading(machine, readings)
    readings = (*readings, measured)
    try:
        house.cache.put("bandwidth", house.prober.fingerprint(machine), bandwidth.to_keep(readings))
    except StoreError as error:
        tell(news.Warned(text=str(error)))
    if (doubt := bandwidth.doubt(readings)) and not bandwidth.is_settled(readings):
        text = f"memory bandwidth was measured while the machine was busy ({doubt}); it is measured again next time"
        tell(news.Warned(text=text))
    return _reading(machine, readings)


async def around(house: House) -> Here:
    """The machine, and the GPUs that engines see which may be chosen; what they say of free memory holds now."""
    machine = await asyncio.to_thread(glance, house)
    offers = await asyncio.gather(*(_seen(house, engine) for engine in house.engines))
    cards = one_card_each([offer.gpus for offer in offers])
    return Here(
        machine=machine,
        offers=tuple(replace(offer, gpus=gpus) for offer, gpus in zip(offers, cards, strict=True)),
    )


async def survey(house: House, tell: Callable[[news.News], None]) -> Machine:
    """The machine as `look` gives it, with the GPUs of the engine that comes first for them; what is wrong is told."""
    machine = await asyncio.to_thread(look, house, tell)
    here = await around(house)
    for offer in here.offers:
        if offer.trouble:
            tell(news.Warned(text=f"{offer.id} {offer.trouble}"))
    views = (
        View(offer=offer, machine=beside(machine, usable(offer.gpus, None, forced=False)))
        for offer in here.offers
        if drives(offer, machine)
    )
    return next((view.machine for view in in_order(tuple(views))), machine)


async def _seen(house: House, engine: Engine) -> Offer:
    return await engine.look() if _may_run(house, engine.offer) else engine.offer


def _may_run(house: House, offer: Offer) -> bool:
    """Whether settings or the configuration leave it a chance; somebody else's must be named."""
    sources = (model.source for model in house.configuration.models)
    wishes = [source.wishes.get("engine") for source in sources if isinstance(source, ModelFile)]
    named = [str(wish or AUTO) for wish in (house.settings.engine.engine, *wishes)]
    if AUTO in named and offer.make is not Make.FOUND:
        return True
    return any(name == offer.make or name in offer.id for name in named)


def _kept(house: House, machine: Machine) -> tuple[bandwidth.Reading, ...]:
    return bandwidth.kept(house.cache.get("bandwidth", house.prober.fingerprint(machine)))


def _reading(machine: Machine, readings: tuple[bandwidth.Reading, ...]) -> Machine:
    if not readings:
        return machine
    speed, doubt = bandwidth.best(readings).bytes_per_s, bandwidth.doubt(readings)
    return replace(machine, memory=replace(machine.memory, bandwidth_bytes_per_s=speed, bandwidth_doubt=doubt))
