"""Engines whose backend sees GPUs: which comes first for whose cards, and what of a model each would put there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bercail.core.devices import Maker, makers
from bercail.core.engine import Choice, Offer
from bercail.core.lessons import NO_LESSONS, Lessons
from bercail.core.machine import Backend, Gpu, Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide

ORDER: Mapping[Maker, tuple[tuple[Backend, str], ...]] = {
    Maker.NVIDIA: (
        (Backend.CUDA, "NVIDIA's own, with the most complete kernels"),
        (Backend.VULKAN, "runs on what the graphics driver brings"),
    ),
    Maker.AMD: (
        (Backend.ROCM, "AMD's own: it keeps gaining with many requests at once where Vulkan falls back"),
        (Backend.VULKAN, "runs on what the graphics driver brings"),
    ),
    Maker.INTEL: (
        (Backend.SYCL, "Intel's own, for the matrix units of its cards"),
        (Backend.VULKAN, "runs on what the graphics driver brings, also where SYCL does not start"),
    ),
    Maker.APPLE: ((Backend.METAL, "Apple's own"),),
}
"""Backends for the cards of each maker, the best first, and why; rules until something was measured."""
_LAST = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A machine as one engine sees it.

    Attributes:
        machine: with the GPUs that it sees and that may be used.
        lessons: what the engine has taught there.
    """

    offer: Offer
    machine: Machine
    lessons: Lessons = NO_LESSONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """An engine that puts a model on GPUs.

    Attributes:
        whole: all of the model's layers.
    """

    choice: Choice
    whole: bool


def in_order(views: Sequence[View]) -> tuple[View, ...]:
    """``views`` with GPUs by the rule, of equals the one with most memory first."""
    seeing = (view for view in views if view.machine.gpus)
    return tuple(sorted(seeing, key=lambda view: (_rank(view), -sum(gpu.available_bytes for gpu in view.machine.gpus))))


def prefer(views: Sequence[View], model: Model | None, wish: EngineOptions) -> tuple[tuple[Preference, ...], str]:
    """Engines that gain by GPUs, the best first, and in words why others that see some do not.

    Those that take all layers come before those that take some, of these the one that takes most; else the rule holds.

    Args:
        views: the machine as each engine sees it.
        model: that is to run; None is any.
        wish: what the user set.
    """
    ordered = in_order(views)
    if model is None:
        reasons = (
            Choice(offer=view.offer, because=f"sees {_named(view.machine.gpus)}{_why(view, ordered)}")
            for view in ordered
        )
        return tuple(Preference(choice=choice, whole=False) for choice in reasons), ""
    found: list[tuple[int, Preference]] = []
    idle: list[str] = []
    for view in ordered:
        verdict = decide(view.machine, model, wish, engine=Choice(offer=view.offer, because=""), lessons=view.lessons)
        if not isinstance(verdict, Fits) or not (count := _layers_on_gpus(verdict, model)):
            idle.append(f"{view.offer.id} sees {_named(view.machine.gpus)}, which cannot take a layer of it")
            continue
        layers = model.shape.layers
        share = f"all {layers} layers" if count == layers else f"{count} of {layers} layers"
        because = f"{share} on {_used(view, verdict)}{_why(view, ordered)}"
        found.append((count, Preference(choice=Choice(offer=view.offer, because=because), whole=count == layers)))
    found.sort(key=lambda item: -item[0])
    return tuple(preference for _, preference in found), "; ".join(idle)


def _rank(view: View) -> int:
    """The place of its backend among those for the cards that it sees."""
    own = view.machine.gpus[0].backend
    places = [backends.index(own) for backends in _rivals(view) if own in backends]
    return min(places, default=_LAST)


def _rivals(view: View) -> list[list[Backend]]:
    """Backends for the cards of each maker that it sees, the best first."""
    return [[backend for backend, _ in ORDER[maker]] for maker in makers(view.machine.gpus)]


def _layers_on_gpus(plan: Fits, model: Model) -> int:
    settings = plan.settings
    return model.shape.layers if settings.split_mode == "tensor" else sum(settings.layer_split)


def _used(view: View, plan: Fits) -> str:
    split = plan.settings.layer_split
    return _named([gpu for gpu, count in zip(view.machine.gpus, split, strict=True) if count])


def _named(gpus: Sequence[Gpu]) -> str:
    """``2 x NVIDIA GeForce RTX 3090``."""
    counted = Counter(gpu.name for gpu in gpus)
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counted.items())


def _why(view: View, others: Sequence[View]) -> str:
    """Why this backend rather than another that sees cards of the same maker; empty where there is no other."""
    own = view.machine.gpus[0].backend
    present = {other.machine.gpus[0].backend for other in others} - {own}
    for maker in makers(view.machine.gpus):
        said = dict(ORDER[maker])
        if own in said and present & said.keys():
            return f"; {own}: {said[own]}"
    return ""
