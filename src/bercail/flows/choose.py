"""Which engine runs a model: the one asked for, the fastest by what was measured, or by rule."""

from dataclasses import dataclass, replace

from bercail.core.choice import AUTO, choose
from bercail.core.engine import Choice
from bercail.core.errors import NotFoundError
from bercail.core.lessons import Lessons
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.options import purpose_of
from bercail.core.rules import least_s
from bercail.core.units import Seconds
from bercail.flows.lessons import recall
from bercail.ports import Engine, House

_KEPT = ("engine", "use")
_EXTRAS = frozenset(("openvino",))
"""Engines that come with an extra of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An engine, why that one, and what it has taught on this machine."""

    engine: Engine
    choice: Choice
    lessons: Lessons


def chosen(house: House, machine: Machine, model: Model | None) -> Chosen:
    """The engine for ``model`` under the wishes in the settings; None is a model of which nothing is known.

    Raises:
        NotFoundError: the settings name none that is there, or more than one.
    """
    asked = house.settings.engine.engine or kept_choice(house)
    seconds = _seconds(house, machine, model) if model is not None else {}
    choice = choose([engine.offer for engine in house.engines], machine, asked, seconds)
    if choice is None and asked in _EXTRAS:
        raise NotFoundError(
            f"{asked} is not installed", hint=f"pip install 'bercail[{asked}]'", code="engine_not_found"
        )
    if choice is None:
        names = ", ".join(engine.offer.id for engine in house.engines)
        raise NotFoundError(
            f"no engine {asked!r}, or more than one",
            hint=f"there are: auto, {names}; `bercail engine build` makes one, and the path of a llama-server is one",
            code="engine_not_found",
        )
    engine = next(engine for engine in house.engines if engine.offer == choice.offer)
    return Chosen(engine=engine, choice=choice, lessons=recall(house, machine, engine))


def kept_choice(house: House) -> str | None:
    """What ``bercail engine use`` was last told, unless that is gone meanwhile."""
    kept = house.cache.get(*_KEPT)
    found = kept.get("id") if kept else None
    return found if any(engine.offer.id == found for engine in house.engines) and isinstance(found, str) else None


def use(house: House, name: str) -> Choice:
    """From now on the engine that ``name`` means is used where the settings and the command line name none.

    Raises:
        NotFoundError: there is none, or more than one.
        StoreError: it cannot be kept.
    """
    wish = replace(house.settings.engine, engine=name)
    choice = chosen(replace(house, settings=replace(house.settings, engine=wish)), house.prober.probe(), None).choice
    house.cache.put(*_KEPT, {"id": AUTO if name == AUTO else choice.offer.id})
    return choice


def _seconds(house: House, machine: Machine, model: Model) -> dict[str, Seconds]:
    """What a request of the purpose's usual shape takes, by engine; of those that were measured with such a model."""
    taught = {engine.offer.id: recall(house, machine, engine) for engine in house.engines}
    if sum(bool(lessons.paces) for lessons in taught.values()) < 2:
        return {}
    purpose = purpose_of(house.settings.engine)
    found = {name: least_s(model, purpose, lessons) for name, lessons in taught.items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}
