"""From a file to a launch: read, audit, try the chat template, plan."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.allotment import Allotment
from bercail.core.begin import embeds
from bercail.core.engine import Make
from bercail.core.errors import CANNOT_BE_HAD, EngineError, ReadError, RefusedError, StoreError
from bercail.core.launch import PLAIN_TEMPLATE, LaunchSpec, TemplateVerdict
from bercail.core.lessons import Lessons
from bercail.core.machine import Machine
from bercail.core.model import Format, FoundModel, Model, Role
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.reasons import not_as_asked
from bercail.core.report import no_fit_hint
from bercail.flows.choose import chosen
from bercail.flows.inspect import refuse_unservable, with_draft
from bercail.flows.machine import Here, around
from bercail.ports import Engine, House

_REMAKE = "download the model again, or convert it with a template that works"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a launch needs.

    Attributes:
        machine: that was planned for.
        engine: that runs it.
        lessons: what earlier loads have taught the plan.
        chat_refusal: why chat is disabled, or empty.
        modified_s: when the model's file was last changed.
    """

    machine: Machine
    model: Model
    plan: Fits
    spec: LaunchSpec
    engine: Engine
    lessons: Lessons
    chat_refusal: str = ""
    modified_s: int = 0


async def read(house: House, found: FoundModel) -> Model:
    """The model behind a find, header only, with the draft model that the settings name.

    Raises:
        ReadError: a file cannot be read or must not be loaded.
    """
    model = await asyncio.to_thread(house.reader.read, found.path, projector=found.projector)
    return await with_draft(house, replace(model, id=found.id))


async def prepare(
    house: House,
    found: FoundModel,
    tell: Callable[[news.News], None],
    here: Here | None = None,
    allotment: Allotment | None = None,
    *,
    by_rule: bool = False,
) -> Prepared:
    """The launch of a model under the wishes in the settings.

    Args:
        house: what is built here.
        found: the model.
        tell: hears every step.
        here: to plan for; as it is now, if it is None.
        allotment: its share of the cores if it asks for one; None is that of the only model there is.
        by_rule: leave out the settings that were measured to be faster.

    Raises:
        ReadError: its file cannot be read or must not be loaded.
        RefusedError: it cannot be served, or does not fit.
        UsageError: the settings name a GPU that is not there.
    """
    model = await read(house, found)
    refuse_unservable(model)
    tell(news.ModelRead(model=model))
    for audited in filter(None, (model, model.draft)):
        await asyncio.to_thread(house.reader.audit_vocabulary, audited)
    chat_refusal = await _chat_refusal(house, model, tell)
    found_engine = chosen(house, await around(house) if here is None else here, model)
    if found_engine.idle:
        tell(news.Warned(text=f"{model.id} runs on {found_engine.choice.offer}: {found_engine.idle}"))
    planned_for, lessons = found_engine.machine, found_engine.lessons
    if by_rule:
        lessons = replace(lessons, tunings=())
    wish, choice = house.settings.engine, found_engine.choice
    verdict = decide(planned_for, model, wish, engine=choice, lessons=lessons, allotment=allotment)
    if isinstance(verdict, NoFit):
        never = verdict.contradiction or verdict.illegal
        raise RefusedError(verdict.why, hint=no_fit_hint(verdict), code=CANNOT_BE_HAD if never else "")
    for text in not_as_asked(verdict.settings, wish):
        tell(news.Warned(text=f"{found.id}: {text}"))
    template = PLAIN_TEMPLATE if chat_refusal else None
    spec = _launch(model, verdict, template, _slot_folder(house, found_engine.engine, verdict, tell))
    return Prepared(
        machine=planned_for,
        model=model,
        plan=verdict,
        spec=spec,
        engine=found_engine.engine,
        lessons=lessons,
        chat_refusal=chat_refusal,
        modified_s=found.modified_s,
    )


def _launch(model: Model, plan: Fits, template: str | None, slot_folder: str) -> LaunchSpec:
    return LaunchSpec(
        model_id=model.id,
        model_path=model.path,
        weights_bytes=model.weights_bytes,
        settings=plan.settings,
        projector_path=plan.projector,
        draft_path=plan.draft,
        drafting_layers=model.shape.nextn_layers,
        chat_template=template,
        slot_folder=slot_folder,
    )


def _slot_folder(house: House, engine: Engine, plan: Fits, tell: Callable[[news.News], None]) -> str:
    """Where the engine may save what it has read; empty if it keeps nothing, or is not known to be able to."""
    ours = engine.offer.make in (Make.EMBEDDED, Make.NATIVE, Make.PORTABLE)
    if not ours or plan.settings.embedding or plan.projector is not None:
        return ""  # llama.cpp b11549 saves no slots with a projector
    try:
        return house.shelf.place
    except StoreError as error:
        tell(news.Warned(text=str(error)))
        return ""


async def _chat_refusal(house: House, model: Model, tell: Callable[[news.News], None]) -> str:
    """Why chat must be disabled for this model, or empty.

    Raises:
        ReadError: its chat template cannot even be parsed.
    """
    if model.role is not Role.GENERATE or embeds(model, house.settings.engine):
        return ""
    if model.format is not Format.GGUF:  # its engine has a renderer of its own, and no template beside the model's
        if model.chat_template is None:
            tell(news.Warned(text=f"{model.id} brings no chat template: chat is disabled, completions work"))
        return "" if model.chat_template else "it brings no chat template"
    if model.chat_template is None:
        tell(news.Warned(text=f"{model.id} brings no chat template: chats are written as ChatML"))
        return ""
    verdict = await _verdict(house, model.chat_template, tell)
    if verdict.malformed:
        raise ReadError(
            f"not a chat template: {verdict.why}", path=model.path, field="tokenizer.chat_template", hint=_REMAKE
        )
    if verdict.usable:
        return ""
    tell(news.Warned(text=f"chat is disabled for {model.id}, completions work; its chat template fails: {verdict.why}"))
    return f"its chat template fails: {verdict.why}"


async def _verdict(house: House, template: str, tell: Callable[[news.News], None]) -> TemplateVerdict:
    """The engine's verdict on a template; a lasting one is kept per template and engine build."""
    digest = hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest()
    key = f"{house.engine.name}-{house.engine.build}-{digest}"
    if kept := house.cache.get("template", key):
        return TemplateVerdict(
            usable=bool(kept.get("usable")), why=str(kept.get("why", "")), malformed=bool(kept.get("malformed"))
        )
    try:
        verdict = await house.engine.try_template(template, house.settings.library.template_timeout)
    except EngineError as error:
        return TemplateVerdict(usable=False, why=f"it could not be tried: {error}", lasting=False)
    if verdict.lasting:
        try:
            kept = {"usable": verdict.usable, "why": verdict.why, "malformed": verdict.malformed}
            house.cache.put("template", key, kept)
        except StoreError as error:
            tell(news.Warned(text=str(error)))
    return verdict
