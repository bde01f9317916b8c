"""Which engine runs a model: the one asked for, the fastest by what was measured, or by rule."""

from dataclasses import dataclass, replace

from bercail.core.choice import AUTO, choose
from bercail.core.engine import Choice
from bercail.core.errors import NotFoundError, RefusedError
from bercail.core.lessons import Lessons
from bercail.core.machine import Machine
from bercail.core.model import Format, Model
from bercail.core.options import purpose_of
from bercail.core.rules import least_s
from bercail.core.units import Seconds
from bercail.flows.lessons import recall
from bercail.ports import Engine, House

_KEPT = ("engine", "use")
_EXTRAS = {Format.OPENVINO: "openvino", Format.ONNX: "onnxruntime"}
"""Engines that come with an extra of the same name, by what only they read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An engine, why that one, and what it has taught on this machine."""

    engine: Engine
    choice: Choice
    lessons: Lessons


def chosen(house: House, machine: Machine, model: Model | None) -> Chosen:
    """The engine for ``model`` under the wishes in the settings; None is a model of which nothing is known.

    Raises:
        NotFoundError: the settings name none that is there, or more than one, or none reads the model.
        RefusedError: the one that the settings name cannot read it.
    """
    form = model.format if model is not None else Format.GGUF
    asked = house.settings.engine.engine or kept_choice(house, form)
    seconds = _seconds(house, machine, model) if model is not None else {}
    choice = choose([engine.offer for engine in house.engines], machine, asked, seconds, form)
    if choice is None:
        raise _none_such(house, asked, form)
    if model is not None and form not in choice.offer.reads:
        able = ", ".join(engine.offer.id for engine in house.engines if form in engine.offer.reads)
        raise RefusedError(
            f"{choice.offer} cannot run {model.id}: it reads {' and '.join(choice.offer.reads)}, and that is {form}",
            hint=f"take --engine {able}" if able else _how_to_get(form),
            code="engine_cannot_read",
        )
    engine = next(engine for engine in house.engines if engine.offer == choice.offer)
    return Chosen(engine=engine, choice=choice, lessons=recall(house, machine, engine))


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
