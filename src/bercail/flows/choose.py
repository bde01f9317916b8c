"""Which engine runs a model: the one asked for, the fastest by what was measured, or by rule."""

from dataclasses import dataclass, replace

from bercail.core.choice import AUTO, choose, drives
from bercail.core.devices import beside, usable
from bercail.core.engine import Choice, Offer
from bercail.core.errors import NotFoundError, RefusedError, UsageError
from bercail.core.lessons import Lessons
from bercail.core.machine import Machine
from bercail.core.model import Format, Model
from bercail.core.options import purpose_of
from bercail.core.prefer import Preference, View, prefer
from bercail.core.rules import least_s
from bercail.core.units import Seconds
from bercail.flows.lessons import recall
from bercail.flows.machine import Here, around
from bercail.ports import Engine, House

_KEPT = ("engine", "use")
_EXTRAS = {Format.OPENVINO: "openvino", Format.ONNX: "onnxruntime"}
"""Engines that come with an extra of the same name, by what only they read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An engine, why that one, and what it has taught on this machine.

    Attributes:
        machine: with the GPUs that it sees and that may be used.
        idle: why engines that were made for GPUs put nothing on one, in words; empty if all is well, or not asked.
    """

    engine: Engine
    choice: Choice
    lessons: Lessons
    machine: Machine
    idle: str = ""


def chosen(house: House, here: Here, model: Model | None) -> Chosen:
    """The engine for ``model`` under the wishes in the settings; None is a model of which nothing is known.

    Raises:
        NotFoundError: the settings name none that is there, or more than one, or none reads the model.
        RefusedError: the one that the settings name cannot read it.
        UsageError: it sees no such GPU as the settings name.
    """
    form = model.format if model is not None else Format.GGUF
    wish, machine = house.settings.engine, here.machine
    asked = wish.engine or kept_choice(house, form)
    free = asked in (None, AUTO) and form is Format.GGUF
    preferred, idle = prefer(_views(house, here), model, wish) if free else ((), "")
    seconds = _seconds(house, machine, model, preferred) if model is not None else {}
    choice = choose(here.offers, machine, asked, seconds, form, preferred)
    if choice is None:
        raise _none_such(house, asked, form)
    if model is not None and form not in choice.offer.reads:
        able = ", ".join(engine.offer.id for engine in house.engines if form in engine.offer.reads)
        raise RefusedError(
            f"{choice.offer} cannot run {model.id}: it reads {' and '.join(choice.offer.reads)}, and that is {form}",
            hint=f"take --engine {able}" if able else _how_to_get(form),
            code="engine_cannot_read",
        )
    engine = _engine(house, choice.offer)
    gpus = usable(choice.offer.gpus, wish.gpus, forced=not free) if choice.offer.gpus else ()
    trouble = "; ".join(filter(None, (_troubles(here, choice.offer, free=free), "" if preferred else idle)))
    told = replace(choice, because=f"{choice.because}; {trouble}" if trouble else choice.because)
    return Chosen(
        engine=engine,
        choice=told,
        lessons=recall(house, machine, engine),
        machine=beside(machine, gpus),
        idle=trouble,
    )


def _engine(house: House, offer: Offer) -> Engine:
    return next(engine for engine in house.engines if engine.offer.id == offer.id)


def _views(house: House, here: Here) -> tuple[View, ...]:
    """The machine as each engine sees it whose GPUs may be used without being asked for."""
    views = []
    for offer in here.offers:
        try:
            gpus = usable(offer.gpus, house.settings.engine.gpus, forced=False)
        except UsageError:  # another engine may see the one that was named
            continue
        if gpus and drives(offer, here.machine):
            lessons = recall(house, here.machine, _engine(house, offer))
            views.append(View(offer=offer, machine=beside(here.machine, gpus), lessons=lessons))
    return tuple(views)


def _troubles(here: Here, offer: Offer, *, free: bool) -> str:
    """What is wrong with the engine, or with any that could have been chosen instead."""
    concerned = here.offers if free else [offer]
    return "; ".join(f"{one.id} {one.trouble}" for one in concerned if one.trouble)


def _none_such(house: House, asked: str | None, form: Format) -> NotFoundError:
    """What to say where no engine is left to choose."""
    if asked in (None, AUTO):
        return NotFoundError(f"no engine here reads {form}", hint=_how_to_get(form), code="engine_not_found")
    if asked in _EXTRAS.values():
        return NotFoundError(
            f"{asked} is not installed", hint=f"pip install 'bercail[{asked}]'", code="engine_not_found"
        )
    names = ", ".join(engine.offer.id for engine in house.engines)
    return NotFoundError(
        f"no engine {asked!r}, or more than one",
        hint=f"there are: auto, {names}; `bercail engine build` makes one, and the path of a llama-server is one",
        code="engine_not_found",
    )


def _how_to_get(form: Format) -> str:
    """The engine that reads a format, and how it is installed."""
    return f"pip install 'bercail[{_EXTRAS[form]}]'" if form in _EXTRAS else "take --engine embedded"


def kept_choice(house: House, form: Format = Format.GGUF) -> str | None:
    """What ``bercail engine use`` was last told, unless that is gone meanwhile or does not read ``form``."""
    kept = house.cache.get(*_KEPT)
    found = kept.get("id") if kept else None
    known = [engine.offer.id for engine in house.engines if form in engine.offer.reads]
    return found if isinstance(found, str) and found in known else None


async def use(house: House, name: str) -> Choice:
    """From now on the engine that ``name`` means is used where the settings and the command line name none.

    Raises:
        NotFoundError: there is none, or more than one.
        StoreError: it cannot be kept.
    """
    wish = replace(house.settings.engine, engine=name)
    asking = replace(house, settings=replace(house.settings, engine=wish))
    choice = chosen(asking, await around(asking), None).choice
    house.cache.put(*_KEPT, {"id": AUTO if name == AUTO else choice.offer.id})
    return choice


def _seconds(
    house: House, machine: Machine, model: Model, preferred: tuple[Preference, ...] = ()
) -> dict[str, Seconds]:
    """What a request of the purpose's usual shape takes, by engine; of those that were measured with such a model.

    On GPUs that was measured with all layers there, and says nothing of a model that takes only a part.
    """
    parted = {preference.choice.offer.id for preference in preferred if not preference.whole}
    taught = {engine.offer.id: recall(house, machine, engine) for engine in house.engines}
    if sum(bool(lessons.paces) for lessons in taught.values()) < 2:
        return {}
    purpose = purpose_of(house.settings.engine)
    found = {name: least_s(model, purpose, lessons) for name, lessons in taught.items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None and name not in parted}
