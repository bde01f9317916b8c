"""(machine, model, wish) -> Fits | NoFit: every byte explained, nothing shrunk in silence."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from bercail.core import memory
from bercail.core.bind import bound, within
from bercail.core.budget import Case, Device, most_context, with_context
from bercail.core.engine import IN_THE_BOX, Choice, EngineSettings
from bercail.core.legal import at_odds, illegal
from bercail.core.lessons import NO_LESSONS, Lessons
from bercail.core.machine import Machine
from bercail.core.model import Model, Pooling, Role
from bercail.core.nearby import Alternative, cached_as, more_context, more_memory, nearby, other_hardware
from bercail.core.options import EngineOptions, purpose_of, settled
from bercail.core.place import placements
from bercail.core.reasons import Reason, budget_reasons, context_reason, fixed_reasons, place_reasons, speed_reasons
from bercail.core.repack import NOTHING, repacked
from bercail.core.rules import repack
from bercail.core.speed import Rate, decode_rates, prefill_rates
from bercail.core.split import weigh
from bercail.core.units import GIB, MIB, Bytes, Tokens, format_bytes, format_rate, format_tokens

LEAST_CONTEXT: Tokens = 4096
"""A model that can hold fewer tokens than this by memory alone is refused, unless the user asked for so few."""

MOST_PROMPT_CACHE_BYTES: Bytes = GIB
SAVED_PROMPTS = 8
"""As many whole contexts are kept at most."""
CHECKPOINT_STEPS = (8, 4, 2, 1, 0)
GENERATE_BATCH: Tokens = 128
"""A lost client is noticed after a batch, and its slot is free after one more at most. Larger ones gained nothing on a
CPU: a billion parameters at q8_0 on two cores read 25 to 35 tokens/s at 64, 128, 256 and 512 alike."""
GUESSES: Tokens = 3
"""Guessed ahead by a draft model, if nobody says how many: the engine's own default."""
GPU_BATCH: Tokens = 512
"""What keeps a GPU busy: its default in the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """It fits, with these settings.

    Attributes:
        model_path: first file of the model.
        projector: the ``mmproj`` file to load as well, or None.
        draft: file of the draft model to load as well, or None.
        rates: how fast it will decode, predicted; empty where a memory's speed is unknown.
        prefill: how fast it will read prompts; empty before a model of its type was timed here.
        copied_bytes: weights that also lie in memory in another order, for the CPU's sake.
        lessons: what earlier loads have taught it.
    """

    model_id: str
    model_path: str
    engine: str
    settings: EngineSettings
    devices: tuple[Device, ...]
    reasons: tuple[Reason, ...]
    alternatives: tuple[Alternative, ...] = ()
    projector: str | None = None
    draft: str | None = None
    rates: tuple[Rate, ...] = ()
    prefill: tuple[Rate, ...] = ()
    copied_bytes: Bytes = 0
    lessons: Lessons = NO_LESSONS


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFit:
    """It does not fit.

    Attributes:
        model_path: first file of the model.
        why: one sentence.
        settings: what was tried; its memory is in ``devices``.
        alternatives: the nearest things that do fit.
    """

    model_id: str
    model_path: str
    engine: str
    why: str
    settings: EngineSettings
    devices: tuple[Device, ...]
    reasons: tuple[Reason, ...]
    alternatives: tuple[Alternative, ...] = ()


Verdict: TypeAlias = Fits | NoFit


def decide(
    machine: Machine,
    model: Model,
    wish: EngineOptions,
    *,
    engine: Choice = IN_THE_BOX,
    lessons: Lessons = NO_LESSONS,
) -> Verdict:
    """The plan for one model on this machine.

    Args:
        machine: what may be used.
        model: what is to run.
        wish: what the user set; None there is decided here.
        engine: that will run it.
        lessons: what earlier loads on this machine have taught.
    """
    wish = settled(wish)
    place = bound(machine, wish)
    if place.cpus:
        machine = within(machine, place)
        lessons = replace(lessons, paces=())  # they were timed on other CPUs
    case = Case(
        model=model,
        budget_bytes=_budget(machine, wish),
        projector_bytes=_projector_bytes(model, wish),
        gpus=machine.gpus,
        weights=weigh(model, len(machine.gpus)) if machine.gpus else None,
        repacked=NOTHING if machine.gpus else repacked(model, machine.cpu),
        lessons=lessons,
    )
    settings = replace(_first_settings(machine, model, wish), cores=place.cpus, numa=place.node)
    order, because = repack(model, settings, purpose_of(wish), lessons)
    if wish.repack is None and not machine.gpus:
        settings = replace(settings, repack=order)
    reasons = _fixed(machine, case, settings, wish, because)
    if why := place.refusal or at_odds(machine, model, wish):  # nothing is near to what contradicts itself
        return replace(_refuse(case, engine, settings, reasons, why), alternatives=())
    if why := illegal(case, settings):
        return _refuse(case, engine, settings, reasons, why)
    settings = _where_it_fits(case, settings, wish)
    reasons = (
        *_fixed(machine, case, settings, wish, because),
        *place_reasons(case, settings, wish),
    )
    if not case.fits(settings):
        refused = _refuse(case, engine, settings, reasons, _too_large(machine, case, settings, wish))
        more = more_memory(machine, case, settings)
        other = other_hardware(case, _as_wished(case, settings, wish), machine.memory.available_bytes)
        return replace(refused, alternatives=(*refused.alternatives, *more, *other))
    settings = _spend_the_rest(case, settings, wish)
    rates = decode_rates(machine, case, settings)
    if why := _too_slow(wish, rates):
        refused = _refuse(case, engine, settings, reasons, f"{_what(case, settings)} {why}")
        return replace(refused, alternatives=_faster(machine, model, wish, settings, rates))
    return Fits(
        model_id=model.id,
        model_path=model.path,
        engine=str(engine.offer),
        settings=settings,
        devices=case.devices(settings),
        reasons=(
            context_reason(case, settings, wish),
            Reason(setting="engine", value=str(engine.offer), because=engine.because),
            *reasons,
            *budget_reasons(case, settings, wish),
            *speed_reasons(wish, rates),
        ),
        alternatives=more_context(case, settings),
        projector=model.projector if case.projector_bytes else None,
        draft=model.draft.path if model.draft else None,
        rates=rates,
        prefill=prefill_rates(case, settings),
        copied_bytes=case.repacked.copied if settings.repack else 0,
        lessons=lessons,
    )


def _fixed(
    machine: Machine, case: Case, settings: EngineSettings, wish: EngineOptions, order: str
) -> tuple[Reason, ...]:
    """Reasons for what does not depend on the budget; ``order`` is the one for the order of weights."""
    return fixed_reasons(machine, wish, settings, copied=case.repacked.copied, model=case.model, order=order)


def _as_wished(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """The context that a place was sought for, where it was not found."""
    own = case.model.context_length
    context = wish.context or min(own, LEAST_CONTEXT)
    return case.at(settings, min(own, context))


def _too_slow(wish: EngineOptions, rates: tuple[Rate, ...]) -> str:
    """Why the plan is slower than wished for, or empty; what is not predicted is not refused."""
    if wish.min_speed is None or not rates or rates[0].tokens_per_s >= wish.min_speed:
        return ""
    first = rates[0]
    return (
        f"would decode {format_rate(first.tokens_per_s)} ({first.least:.3g} to {first.most:.3g}), "
        f"less than the {wish.min_speed:g} of min_speed"
    )


def _faster(
    machine: Machine, model: Model, wish: EngineOptions, settings: EngineSettings, rates: tuple[Rate, ...]
) -> tuple[Alternative, ...]:
    """The speed that can be had, and the one that a short context leaves room for on GPUs."""
    context = settings.slot_context_tokens
    rows = [
        Alternative(
            change=f"with min_speed {rates[0].tokens_per_s:.3g} it fits",
            context_tokens=context,
            settings=settings,
            costs="speed",
        )
    ]
    if context > LEAST_CONTEXT:
        short = decide(machine, model, replace(wish, context=LEAST_CONTEXT, min_speed=None))
        if isinstance(short, Fits) and short.rates and short.rates[0].tokens_per_s >= (wish.min_speed or 0):
            change = f"context {format_tokens(LEAST_CONTEXT)} decodes {format_rate(short.rates[0].tokens_per_s)}"
            rows.append(
                Alternative(
                    change=change, context_tokens=LEAST_CONTEXT, settings=short.settings, costs="a shorter conversation"
                )
            )
    return tuple(rows)


def _too_large(machine: Machine, case: Case, settings: EngineSettings, wish: EngineOptions) -> str:
    """What is needed where, and how much of it there is."""
    if not case.gpus:
        return f"{_needs(case, settings)}; {format_bytes(case.budget_bytes)} may be used ({_limit(machine, wish)})"
    over = [device for device in case.devices(settings) if device.total_bytes > device.budget_bytes]
    short = ", ".join(
        f"{format_bytes(device.total_bytes)} of the {format_bytes(device.budget_bytes)} of {device.name}"
        for device in over
    )
    return f"{_what(case, settings)} needs {short}"


def _limit(machine: Machine, wish: EngineOptions) -> str:
    """What sets the budget, in words."""
    if wish.memory is not None and wish.memory < machine.memory.available_bytes:
        return "as asked with memory"
    by = machine.memory.limited_by
    return "all that is available" if by == "system" else f"limited by {by}"


def _budget(machine: Machine, wish: EngineOptions) -> Bytes:
    available = machine.memory.available_bytes
    return available if wish.memory is None else min(wish.memory, available)


def _projector_bytes(model: Model, wish: EngineOptions) -> Bytes:
    """Weights and working memory of the projector; 1.4 times the file was measured for image encoders."""
    return model.projector_bytes * 14 // 10 if wish.vision is not False and model.projector else 0


def usable_threads(machine: Machine) -> int:
    """Physical cores (the fast ones of a hybrid processor), no more than the CPU quota grants in full."""
    cpu = machine.cpu
    cores = cpu.performance_cores or cpu.physical_cores or len(cpu.logical_cpus)
    quota = int(cpu.quota_cpus) if cpu.quota_cpus is not None else cores
    return max(1, min(cores, quota))


def _prefill_threads(machine: Machine) -> int:
    cpu = machine.cpu
    cores = cpu.physical_cores or len(cpu.logical_cpus)
    quota = int(cpu.quota_cpus) if cpu.quota_cpus is not None else cores
    return max(1, min(cores, quota))


def _own_pooling(model: Model, *, embedding: bool) -> Pooling | None:
    """The mean for models that were not made to embed and name no pooling: without one, clients get no embedding."""
    unsaid = model.pooling is None or model.pooling is Pooling.NONE
    return Pooling.MEAN if embedding and unsaid and model.role is Role.GENERATE else None


def _first_settings(machine: Machine, model: Model, wish: EngineOptions) -> EngineSettings:
    """Everything but the context, which starts at what was asked or what the model was made for."""
    wanted = purpose_of(wish).embedding or model.role is not Role.GENERATE
    embedding = wanted if wish.embedding is None else wish.embedding
    pooling = Pooling(wish.pooling) if wish.pooling else _own_pooling(model, embedding=embedding)
    usual = GPU_BATCH if machine.gpus else GENERATE_BATCH
    ubatch = wish.ubatch or wish.batch or usual
    threads = wish.threads or usable_threads(machine)
    settings = EngineSettings(
        context_tokens=0,
        slots=wish.slots or 1,
        kv_unified=bool(wish.kv_unified),
        batch_tokens=wish.batch or max(usual, ubatch),
        ubatch_tokens=ubatch,
        kv_type_k=wish.kv_type_k or "f16",
        kv_type_v=wish.kv_type_v or "f16",
        flash_attention=wish.flash_attention is not False,
        threads=threads,
        threads_batch=wish.threads_batch or (wish.threads or _prefill_threads(machine)),
        mmap=wish.mmap is not False,
        repack=wish.repack is not False,
        embedding=embedding,
        pooling=pooling,
        prompt_cache_bytes=wish.prompt_cache or 0,
        draft_tokens=(wish.draft_tokens or GUESSES) if model.draft else wish.mtp or 0,
    )
    asked = wish.context or model.context_length
    # The engine rounds up to whole steps; the plan does so first, where the model allows it, and says it.
    return with_context(model, settings, max(asked, min(memory.pad(asked, memory.CELL_STEP), model.context_length)))


def _where_it_fits(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """The fastest place with room for a context; if there is none, the one that is nearest to it."""
    tried = []
    for candidate in placements(case, settings, wish):
        found = _with_room(case, candidate, wish)
        if case.fits(found):
            return found
        tried.append(found)
    return min(tried, key=case.filled)


def _with_room(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """The context asked for, or the most that fits; with a smaller cache if the purpose is worth it and that helps."""
    plain = _with_context(case, settings, wish)
    may = wish.kv_type_k is None and wish.kv_type_v is None and settings.flash_attention
    if not (purpose_of(wish).smaller_cache and may) or _is_enough(case, plain, wish):
        return plain
    smaller = _with_context(case, cached_as(settings, "q8_0"), wish)
    if illegal(case, smaller) or not case.fits(smaller):
        return plain
    more = smaller.slot_context_tokens > plain.slot_context_tokens or not case.fits(plain)
    return smaller if more else plain


def _with_context(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    most = purpose_of(wish).context or case.model.context_length
    return _largest_context(case, settings, most) if wish.context is None else settings


def _is_enough(case: Case, settings: EngineSettings, wish: EngineOptions) -> bool:
    """Nothing is left to be wished for."""
    own = case.model.context_length
    return case.fits(settings) and (wish.context is not None or settings.slot_context_tokens >= own)


def _largest_context(case: Case, settings: EngineSettings, most: Tokens) -> EngineSettings:
    """The most context per slot that fits, in whole steps, up to ``most`` and the model's own; else the least."""
    own = min(case.model.context_length, most)
    if case.fits(case.at(settings, own)):
        return case.at(settings, own)
    least = min(LEAST_CONTEXT, own)
    best = most_context(lambda context: case.fits(case.at(settings, context)), own)
    return case.at(settings, max(best, least))


def _spend_the_rest(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """More slots, checkpoints and a prompt cache, where the machine has plenty left."""
    purpose = purpose_of(wish)
    if wish.slots is None and not settings.embedding:
        for slots in range(purpose.slots, 1, -1):
            more = case.at(replace(settings, slots=slots), settings.slot_context_tokens)
            if case.filled(more) <= purpose.share:
                settings = more
                break
    if not memory.keeps_cache(case.model) or settings.embedding:
        return settings
    one = memory.checkpoint_bytes(case.model, settings) * settings.slots
    if one:
        room = case.free_bytes(settings) // 4
        settings = replace(settings, checkpoints=next(n for n in CHECKPOINT_STEPS if n * one <= room or n == 0))
    if wish.prompt_cache is None:
        prompts = SAVED_PROMPTS * memory.cache_bytes(case.model, settings) // settings.slots
        spare = min(MOST_PROMPT_CACHE_BYTES, prompts, case.free_bytes(settings) // 4) // MIB * MIB
        settings = replace(settings, prompt_cache_bytes=max(0, spare))
    return settings


def _needs(case: Case, settings: EngineSettings) -> str:
    return f"{_what(case, settings)} needs {format_bytes(case.device(settings).total_bytes)}"


def _what(case: Case, settings: EngineSettings) -> str:
    slots = f" in {settings.slots} slots" if settings.slots > 1 else ""
    return f"{case.model.id} with context {format_tokens(settings.slot_context_tokens)}{slots}"


def _refuse(case: Case, engine: Choice, settings: EngineSettings, reasons: tuple[Reason, ...], why: str) -> NoFit:
    return NoFit(
        model_id=case.model.id,
        model_path=case.model.path,
        engine=str(engine.offer),
        why=why,
        settings=settings,
        devices=case.devices(settings),
        reasons=reasons,
        alternatives=nearby(case, settings),
    )
