"""(machine, model, wish) -> Fits | NoFit: every byte explained, nothing shrunk in silence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from bercail.core.allotment import Allotment
from bercail.core.arithmetic import misplaced, precision
from bercail.core.begin import begin
from bercail.core.bind import Bound, bound, within
from bercail.core.budget import Case, Device
from bercail.core.engine import IN_THE_BOX, Choice, EngineSettings, Make
from bercail.core.fit import LEAST_CONTEXT, spend_the_rest, where_it_fits
from bercail.core.foreign import its_way, reworded, unheard
from bercail.core.legal import at_odds, illegal
from bercail.core.lessons import NO_LESSONS, Lessons
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.nearby import Alternative, fewer_slots, more_context, more_memory, nearby, other_hardware
from bercail.core.options import EngineOptions, purpose_of, settled
from bercail.core.reasons import (
    Reason,
    bind_reasons,
    budget_reasons,
    context_reason,
    fixed_reasons,
    in_doubt,
    link_reasons,
    place_reasons,
    speed_reasons,
)
from bercail.core.repack import NOTHING, repacked
from bercail.core.rules import repack, tuned
from bercail.core.speed import Rate, decode_rates, prefill_rates, unread
from bercail.core.split import weigh
from bercail.core.units import Bytes, format_bytes, format_rate, format_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """It fits, with these settings.

    Attributes:
        model_path: first file of the model.
        projector: the ``mmproj`` file to load as well, or None.
        draft: file of the draft model to load as well, or None.
        rates: how fast it will decode, predicted; empty where a memory's speed is unknown.
        prefill: how fast it will read prompts; empty before a model of its type was timed here in the same place.
        unread: memories it is read from whose speed is not known, where there are no rates for that.
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
    unread: tuple[str, ...] = ()
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
        contradiction: the wish cannot be had with any memory: two parts of it, or it and the machine, contradict.
        illegal: the engine would refuse it with any memory.
    """

    model_id: str
    model_path: str
    engine: str
    why: str
    settings: EngineSettings
    devices: tuple[Device, ...]
    reasons: tuple[Reason, ...]
    alternatives: tuple[Alternative, ...] = ()
    contradiction: bool = False
    illegal: bool = False


Verdict: TypeAlias = Fits | NoFit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The question, as it is worked on.

    Attributes:
        machine: as the engine will see it.
        place: where it is kept to.
        order: why weights are rearranged or not, if there is more to say than what it usually gains.
        faster: why settings are not the rules', where that was measured, by setting.
    """

    machine: Machine
    place: Bound
    wish: EngineOptions
    engine: Choice
    case: Case
    order: str
    faster: Mapping[str, str] = field(default_factory=dict)

    def fixed(self, settings: EngineSettings) -> tuple[Reason, ...]:
        """Reasons for what does not depend on the budget."""
        case = self.case
        rows = fixed_reasons(
            self.machine, self.wish, settings, copied=case.repacked.copied, model=case.model, order=self.order
        )
        kind, because = precision(self.engine.offer, self.machine.cpu, self.wish, embeds=settings.embedding)
        arithmetic = Reason(setting="precision", value=kind or "own", because=because)
        return (*rows, arithmetic, *bind_reasons(settings, self.place))

    def told(self, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """``reasons`` as they are true of the engine."""
        rows = tuple(replace(row, because=self.faster.get(row.setting, row.because)) for row in reasons)
        return reworded(self.engine.offer, self.case.model, rows) if self.engine.offer.make is Make.LIBRARY else rows


def decide(
    machine: Machine,
    model: Model,
    wish: EngineOptions,
    *,
    engine: Choice = IN_THE_BOX,
    lessons: Lessons = NO_LESSONS,
    allotment: Allotment | None = None,
) -> Verdict:
    """The plan for one model on this machine.

    Args:
        machine: what may be used.
        model: what is to run.
        wish: what the user set; None there is decided here.
        engine: that will run it.
        lessons: what earlier loads on this machine have taught.
        allotment: its share of the cores if it asks for ``auto``; None is that of the only model there is.
    """
    verdict = _decided(machine, model, wish, engine, lessons, allotment)
    if isinstance(verdict, NoFit) and allotment is not None and allotment.node is not None and wish.numa is None:
        return _decided(machine, model, wish, engine, lessons, allotment.without_node())  # no node was asked for
    return verdict


def _decided(
    machine: Machine,
    model: Model,
    wish: EngineOptions,
    engine: Choice,
    lessons: Lessons,
    allotment: Allotment | None,
) -> Verdict:
    """The plan where memory comes from where ``allotment`` says."""
    wish = settled(wish)
    foreign = engine.offer.make is Make.LIBRARY
    if foreign:
        machine = replace(machine, gpus=())  # our workers run them on CPUs
    place = bound(machine, wish, allotment)
    if place.cpus:
        machine = within(machine, place)
        lessons = replace(lessons, paces=(), tunings=())  # they were timed on other CPUs
    case = _case(machine, model, wish, lessons, engine.offer.make)
    settings = replace(begin(machine, model, wish), cores=place.cpus, numa=place.node)
    order, because = repack(model, purpose_of(wish), lessons, engine.offer.make, machine.cpu)
    if foreign:
        kind, _ = precision(engine.offer, machine.cpu, wish, embeds=settings.embedding)
        settings = replace(its_way(model, settings), precision=kind)
    elif wish.repack is None and not machine.gpus:
        settings = replace(settings, repack=order)
    asked = _Asked(machine=machine, place=place, wish=wish, engine=engine, case=case, order=because)
    untold = misplaced(engine.offer, machine.cpu, wish) or (unheard(engine.offer, model, wish) if foreign else "")
    if why := place.refusal or at_odds(machine, model, wish) or untold:  # nothing is near to what contradicts itself
        return replace(_refuse(asked, settings, asked.fixed(settings), why), alternatives=(), contradiction=True)
    if why := illegal(case, settings):
        return replace(_beyond(asked, settings, _refuse(asked, settings, asked.fixed(settings), why)), illegal=True)
    settings = where_it_fits(case, settings, wish)
    if not case.fits(settings):
        return _no_room(asked, settings)
    settings, faster = tuned(case, spend_the_rest(case, settings, wish), wish)
    asked = replace(asked, faster=faster)
    settings = its_way(model, settings) if foreign else settings
    rates = decode_rates(machine, case, settings)
    if why := _too_slow(wish, rates):
        return _no_speed(asked, settings, rates, why)
    return _fits(asked, settings, rates)


def _case(machine: Machine, model: Model, wish: EngineOptions, lessons: Lessons, make: Make) -> Case:
    return Case(
        model=model,
        budget_bytes=_budget(machine, wish),
        projector_bytes=_projector_bytes(model, wish),
        gpus=machine.gpus,
        weights=weigh(model, len(machine.gpus)) if machine.gpus else None,
        repacked=NOTHING if machine.gpus else repacked(model, machine.cpu, make),
        lessons=lessons,
    )


def _fits(asked: _Asked, settings: EngineSettings, rates: tuple[Rate, ...]) -> Fits:
    case, model, wish = asked.case, asked.case.model, asked.wish
    offer = asked.engine.offer
    settings = replace(settings, devices=_devices(asked, settings))
    return Fits(
        model_id=model.id,
        model_path=model.path,
        engine=str(offer),
        settings=settings,
        devices=case.devices(settings),
        reasons=asked.told(
            (
                context_reason(case, settings, wish),
                Reason(setting="engine", value=str(offer), because=asked.engine.because),
                *_placed(asked, settings),
                *budget_reasons(case, settings, wish),
                *speed_reasons(wish, rates),
            )
        ),
        alternatives=more_context(case, settings),
        projector=model.projector if case.projector_bytes else None,
        draft=model.draft.path if model.draft else None,
        rates=rates,
        prefill=prefill_rates(case, settings),
        unread=() if rates or settings.embedding else unread(asked.machine, case, settings),
        copied_bytes=case.repacked.copied if settings.repack else 0,
        lessons=case.lessons,
    )


def _devices(asked: _Asked, settings: EngineSettings) -> tuple[str, ...]:
    """The engine's names of the GPUs that hold something; that it must keep off them, where none does."""
    if asked.machine.gpus and not asked.machine.gpus[0].device:  # a machine that one does not have
        return ()
    pairs = zip(asked.machine.gpus, settings.layer_split, strict=bool(settings.layer_split))
    used = tuple(gpu.device for gpu, count in pairs if count)
    return used or (("none",) if asked.engine.offer.gpus else ())


def _placed(asked: _Asked, settings: EngineSettings) -> tuple[Reason, ...]:
    links = link_reasons(asked.machine.links, settings)
    return (*asked.fixed(settings), *place_reasons(asked.case, settings, asked.wish), *links)


def _no_room(asked: _Asked, settings: EngineSettings) -> NoFit:
    """What is needed, and what there would have to be."""
    machine, case, wish = asked.machine, asked.case, asked.wish
    refused = _refuse(asked, settings, _placed(asked, settings), _too_large(machine, case, settings, wish))
    more = more_memory(machine, case, settings)
    other = other_hardware(case, _as_wished(case, settings, wish), machine.memory.available_bytes)
    return replace(refused, alternatives=(*refused.alternatives, *more, *other))


def _beyond(asked: _Asked, settings: EngineSettings, refused: NoFit) -> NoFit:
    """A refusal of what no engine does; where less of it lacks memory as well, with what would hold that."""
    machine, case = asked.machine, asked.case
    less = case.at(settings, case.model.context_length)
    if refused.alternatives or illegal(case, less):
        return refused
    rows = (*more_memory(machine, case, less), *other_hardware(case, less, machine.memory.available_bytes))
    only = f"context {format_tokens(less.slot_context_tokens)} "
    return replace(refused, alternatives=tuple(replace(row, change=only + row.change) for row in rows))


def _no_speed(asked: _Asked, settings: EngineSettings, rates: tuple[Rate, ...], why: str) -> NoFit:
    """It fits, and is slower than wished for."""
    case = asked.case
    refused = _refuse(asked, settings, _placed(asked, settings), f"{_what(case, settings)} {why}")
    return replace(refused, alternatives=_faster(asked.machine, case.model, asked.wish, settings, rates))


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
        f"less than the {wish.min_speed:g} of min_speed{in_doubt(first)}"
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


def _needs(case: Case, settings: EngineSettings) -> str:
    return f"{_what(case, settings)} needs {format_bytes(case.device(settings).total_bytes)}"


def _what(case: Case, settings: EngineSettings) -> str:
    slots = f" in {settings.slots} slots" if settings.slots > 1 else ""
    return f"{case.model.id} with context {format_tokens(settings.slot_context_tokens)}{slots}"


def _refuse(asked: _Asked, settings: EngineSettings, reasons: tuple[Reason, ...], why: str) -> NoFit:
    case = asked.case
    return NoFit(
        model_id=case.model.id,
        model_path=case.model.path,
        engine=str(asked.engine.offer),
        why=why,
        settings=settings,
        devices=case.devices(settings),
        reasons=asked.told(reasons),
        alternatives=(*nearby(case, settings), *fewer_slots(case, settings)),
    )
