"""Which of the engines at hand runs a model."""

from collections.abc import Mapping, Sequence

from bercail.core.build import Target, recipe_for
from bercail.core.devices import usable
from bercail.core.engine import Choice, Make, Offer
from bercail.core.machine import Machine
from bercail.core.model import Format
from bercail.core.prefer import Preference
from bercail.core.units import Seconds, format_seconds

AUTO = "auto"
_NEWER: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("avx512", "avx_vnni", "amx_"),
    "aarch64": ("asimddp", "i8mm", "sve", "bf16"),
}
"""How the names of instruction sets begin that the engine in the box does not use, by architecture."""


_WORDS = {Format.ONNX: "ONNX", Format.OPENVINO: "OpenVINO's IR"}


def newer_instructions(machine: Machine) -> tuple[str, ...]:
    """What this processor can do and the engine in the box does not use."""
    begins = _NEWER.get(machine.cpu.architecture, ())
    return tuple(name for name in machine.cpu.instruction_sets if name.startswith(begins)) if begins else ()


def choose(
    offers: Sequence[Offer],
    machine: Machine,
    asked: str | None = None,
    seconds: Mapping[str, Seconds] | None = None,
    form: Format = Format.GGUF,
    preferred: Sequence[Preference] = (),
) -> Choice | None:
    """The engine to use, and why; None if ``asked`` names none, or more than one.

    Args:
        offers: what there is; the engine in the box first.
        machine: it is to run on.
        asked: an id, a part of one that no other has, or a word for where it comes from; None or ``auto`` leaves it to
            us.
        seconds: what a request of the usual shape takes with an engine, by id, as measured; those not measured are not
            in it.
        form: of the model; an engine that was asked for is given whether it reads that or not.
        preferred: engines that put the model on GPUs, the best first. What was measured counts for those that take
            all of it.
    """
    if asked not in (None, AUTO):
        named = [offer for offer in offers if asked == offer.id] or [
            offer for offer in offers if asked == offer.make or (asked or "") in offer.id
        ]
        return Choice(offer=named[0], because="as asked") if len(named) == 1 else None
    if form is not Format.GGUF:
        able = [offer for offer in offers if form in offer.reads]
        return Choice(offer=able[0], because=f"reads {_WORDS[form]}") if able else None
    # A library of another project lacks what clients may ask for (tools, logprobs): it is taken by name only.
    able = [offer for offer in offers if _runs(offer, machine) and offer.make is not Make.LIBRARY]
    if preferred and (not preferred[0].whole or preferred[0].choice.offer.id not in (seconds or {})):
        return preferred[0].choice
    able += [preference.choice.offer for preference in preferred if preference.whole]
    timed = {offer.id: (seconds or {})[offer.id] for offer in able if offer.id in (seconds or {})}
    if len(timed) > 1:
        best = min(timed, key=lambda name: timed[name])
        next_best = min(took for name, took in timed.items() if name != best)
        because = (
            f"measured: {format_seconds(timed[best])} for a usual request, {format_seconds(next_best)} with another"
        )
        return Choice(offer=next(offer for offer in able if offer.id == best), because=because)
    return preferred[0].choice if preferred else _by_rule(able, newer_instructions(machine))


def compared(offers: Sequence[Offer], machine: Machine, asked: str | None = None) -> tuple[Offer, ...]:
    """The engines worth measuring: those that could be chosen, and one that was named; all of them only once."""
    choice = choose(offers, machine, asked) if asked not in (None, AUTO) else None
    named = (choice.offer,) if choice is not None else ()
    able = (offer for offer in offers if _runs(offer, machine) or drives(offer, machine))
    return tuple(dict.fromkeys((*able, *named)))


def drives(offer: Offer, machine: Machine) -> bool:
    """Whether it may be tried without being named, for the GPUs that it sees."""
    return bool(usable(offer.gpus, None, forced=False)) and _is_ours(offer, machine)


def _runs(offer: Offer, machine: Machine) -> bool:
    """Whether it may be tried without being named, on the CPU."""
    return offer.target == Target.CPU and _is_ours(offer, machine)


def _is_ours(offer: Offer, machine: Machine) -> bool:
    """Somebody else's is never taken unasked, nor what was built for another processor."""
    if offer.make is Make.FOUND:
        return False
    return offer.make is not Make.NATIVE or offer.processor == recipe_for(machine, Target.CPU, portable=False).processor


def _by_rule(able: Sequence[Offer], newer: tuple[str, ...]) -> Choice:
    boxed = able[0]
    for make, how in ((Make.NATIVE, "built for this processor"), (Make.PORTABLE, "has kernels for this processor")):
        for offer in able:
            if newer and offer.make is make:
                return Choice(offer=offer, because=f"{how}: uses {', '.join(newer)}")
    if newer:
        return Choice(
            offer=boxed, because=f"in the box; it leaves {', '.join(newer)} unused: see `bercail engine build`"
        )
    return Choice(offer=boxed, because="in the box; this processor can do nothing that it does not use")
