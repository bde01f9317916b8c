"""``bercail plan``: what would fit on this machine, before anything is loaded."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.budget import Part
from bercail.core.engine import EMBEDDED, Choice
from bercail.core.errors import RefusedError, StoreError
from bercail.core.machine import Machine
from bercail.core.model import Format, Model
from bercail.core.plan import Verdict, decide
from bercail.flows.choose import chosen
from bercail.flows.inspect import allotted, inspect, refuse_unservable, what_is_meant, with_draft
from bercail.flows.machine import around
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A model and the plan for it."""

    model: Model
    verdict: Verdict


async def plan(house: House, name: str, machine: Machine | None = None) -> Planned:
    """The plan for the model that ``name`` means, under the wishes in the settings.

    Args:
        house: what is built here.
        name: path or id of the model.
        machine: to plan for; this one, if it is None.

    Raises:
        ReadError: its file cannot be read.
        NotFoundError: ``name`` is no path and no known id.
        RefusedError: it is not a model that can be served alone, or is declared by a command.
    """
    meant, general = what_is_meant(house, name), house
    model, here = await asyncio.gather(inspect(house, name), around(house))
    house = meant.house
    model = await with_draft(house, model)
    refuse_unservable(model)
    if machine is not None and model.format is not Format.GGUF:
        raise RefusedError(f"{model.id} is {model.format}; other machines are planned for with GGUF models only")
    share, wish = allotted(general, meant, machine or here.machine), house.settings.engine
    if machine is None:
        found = chosen(house, here, model)
        verdict = decide(found.machine, model, wish, engine=found.choice, lessons=found.lessons, allotment=share)
    else:
        verdict = decide(machine, model, wish, engine=_elsewhere(machine), allotment=share)
    return Planned(model=model, verdict=verdict)


def _elsewhere(machine: Machine) -> Choice:
    """What a plan for another machine is made for."""
    build = f"; `bercail engine build --backend {machine.gpus[0].backend}` there" if machine.gpus else ""
    return Choice(offer=EMBEDDED, because=f"as llama.cpp b11549 would run it on that machine{build}")


async def check(house: House, planned: Planned, tell: Callable[[news.News], None]) -> tuple[Part, ...]:
    """What the engine itself says the planned settings would take, beside the weights; kept per header and settings.

    Raises:
        EngineError: it refuses the model or the settings.
        RefusedError: its engine cannot be asked beforehand.
    """
    if planned.model.format is not Format.GGUF:
        raise RefusedError(f"{planned.verdict.engine} says nothing of {planned.model.id} before it is loaded")
    if planned.verdict.settings.layer_split:
        raise RefusedError(
            "--check asks the engine in the box, which knows nothing of GPUs; a load is held to its plan"
        )
    settings, draft = planned.verdict.settings, planned.model.draft
    header = hashlib.sha256(
        repr([_content(model) for model in (planned.model, draft)]).encode("utf-8", "replace")
    ).hexdigest()
    key = f"{house.engine.name}-{house.engine.build}; {header}; {settings}"
    if parts := _parts(house.cache.get("account", key)):
        return parts
    parts = await house.engine.account(planned.verdict.model_path, settings, draft.path if draft else None)
    try:
        house.cache.put("account", key, {"parts": [[part.name, part.bytes] for part in parts]})
    except StoreError as error:
        tell(news.Warned(text=str(error)))
    return parts


def _content(model: Model | None) -> Model | None:
    """What a model is, wherever it lies."""
    return replace(model, id="", path="", files=(), draft=None) if model else None


def _parts(kept: Mapping[str, object] | None) -> tuple[Part, ...]:
    """What was kept of an account; nothing if that is damaged."""
    rows = kept.get("parts") if kept else None
    found = []
    for row in rows if isinstance(rows, list) else ():
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], int)):
            return ()
        found.append(Part(name=row[0], bytes=row[1]))
    return tuple(found)
