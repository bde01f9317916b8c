"""A model in memory: how it comes up, what its load teaches, and how clients see it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.engine import Offer
from bercail.core.errors import BercailError, EngineError, RefusedError
from bercail.core.landing import compare, taught
from bercail.core.launch import Life, Progress
from bercail.core.model import Capability, FoundModel, Model, Role
from bercail.core.plan import Fits
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.flows.lessons import keep
from bercail.flows.prepare import Prepared
from bercail.ports import EngineProcess, House

STOP_GRACE_S: Seconds = 10.0
"""How long an engine may take to stop by itself."""


@dataclass(slots=True, kw_only=True)
class Resident:
    """An engine that serves a model.

    Attributes:
        failure: how it died, if it has.
        leaving: its end is no crash: it was asked for.
    """

    plan: Fits
    offer: Offer
    process: EngineProcess
    ready_at_s: Seconds
    failure: EngineError | None = None
    leaving: bool = False


@dataclass(slots=True, kw_only=True)
class Entry:
    """What is known of one model.

    Attributes:
        prepared: the launch that its need was told by; None before it was first planned.
        planning: that is being found out.
        loading: the task that brings it up, or last did.
        resident: it in memory.
        last: it in memory, or as it last was.
        error: why it failed or cannot be loaded, in words; empty otherwise.
        failure: the same for those who wait.
    """

    found: FoundModel
    model: Model | None = None
    chat_refusal: str = ""
    prepared: Prepared | None = None
    planning: asyncio.Task[None] | None = None
    loading: asyncio.Task[None] | None = None
    life: Life = Life()  # noqa: RUF009 - a frozen value
    progress: Progress | None = None
    resident: Resident | None = None
    last: Resident | None = None
    error: str = ""
    failure: BercailError | None = None


async def bring_up(house: House, entry: Entry, tell: Callable[[news.News], None]) -> Resident:
    """The engine of a planned model, ready and held against its plan.

    Raises:
        EngineError: it did not become ready.
        RefusedError: its load took more than planned, and that is not allowed.
    """
    prepared = entry.prepared
    assert prepared is not None, "only what was planned is loaded"
    tell(news.Planned(plan=prepared.plan))
    started_s = house.clock.monotonic()

    def hear(progress: Progress) -> None:
        entry.progress = progress
        tell(news.Loading(model_id=entry.found.id, progress=progress))

    process = await prepared.engine.start(prepared.spec, hear)
    house.journal.record(process.pid, stop_argv=process.stop_argv)
    now_s = house.clock.monotonic()
    if refused := _learn(house, prepared, process, tell):
        await process.stop(STOP_GRACE_S)
        house.journal.forget(process.pid)
        tell(news.Unloaded(model_id=entry.found.id))
        raise refused
    tell(
        news.Ready(
            plan=prepared.plan,
            seconds=now_s - started_s,
            resident_bytes=process.resident_bytes(),
            chat=not prepared.chat_refusal,
        )
    )
    return Resident(plan=prepared.plan, offer=prepared.engine.offer, process=process, ready_at_s=now_s)


def _learn(
    house: House, prepared: Prepared, process: EngineProcess, tell: Callable[[news.News], None]
) -> RefusedError | None:
    """Hold a load against its plan and keep what it teaches; why it must be ended, or None."""
    outcome = compare(prepared.plan, process.landed())
    if outcome is None:
        return None
    lessons = taught(prepared.plan, outcome, prepared.lessons, prepared.model.architecture)
    keep(house, prepared.machine, prepared.engine, lessons, tell)
    if not outcome.surprises:
        return None
    words = f"{prepared.plan.model_id}: {'; '.join(outcome.surprises)}"
    if house.settings.engine.allow_spill:
        tell(news.Warned(text=f"{words}; allowed by allow_spill"))
        return None
    return RefusedError(
        f"{words}; it was ended",
        hint="start it again, for the next plan knows of it; ask for less (--context, --slots); "
        "or go on all the same with --allow-spill",
        code="spilled",
    )


def served(entry: Entry, phase: Phase) -> ServedModel:
    """The model as clients see it."""
    model, resident = entry.model, entry.resident if phase is Phase.LOADED else None
    seen = ServedModel(
        id=entry.found.id,
        phase=phase,
        created=entry.found.modified_s,
        file_bytes=entry.found.bytes,
        chat_refusal=entry.chat_refusal,
        error=entry.error,
        progress=entry.progress.fraction if phase is Phase.LOADING and entry.progress else None,
    )
    if model is not None:
        seen = replace(
            seen,
            context_length=model.context_length,
            capabilities=_capabilities(model, entry.chat_refusal, resident.plan if resident else None),
            architecture=model.architecture,
            quantization=model.quantization,
            parameter_count=model.parameter_count,
            vocabulary=model.shape.vocabulary,
            format=model.format.value,
        )
    if resident is None:
        return seen
    settings = resident.plan.settings
    return replace(
        seen,
        slot_context_tokens=settings.slot_context_tokens,
        slots=settings.slots,
        engine=resident.plan.engine,
        lacks=resident.offer.lacks,
        capabilities=tuple(word for word in seen.capabilities if word not in resident.offer.lacks),
    )


def _capabilities(model: Model, chat_refusal: str, plan: Fits | None) -> tuple[Capability, ...]:
    """What may be asked of a model as it is loaded, or as it would be."""
    embeds = plan.settings.embedding if plan else model.role is not Role.GENERATE
    if embeds:
        ranks = model.role is Role.RERANK
        return (Capability.RERANK,) if ranks else (Capability.EMBEDDINGS,)
    without: set[Capability] = {Capability.CHAT, Capability.TOOLS} if chat_refusal else set()
    if plan is not None and plan.projector is None:
        without |= {Capability.VISION, Capability.AUDIO}
    kept = tuple(capability for capability in model.capabilities if capability not in without)
    adds = Capability.CHAT not in kept and not chat_refusal
    # Without a template of its own the engine speaks ChatML; flows.prepare says so when it loads.
    return (Capability.CHAT, *kept) if adds else kept
