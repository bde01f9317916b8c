"""Where a model may be put on a machine with GPUs, the fastest place first."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from bercail.core.budget import Case
from bercail.core.engine import EngineSettings
from bercail.core.legal import refuses_slices
from bercail.core.machine import Backend
from bercail.core.options import EngineOptions
from bercail.core.split import Split
from bercail.core.units import Tokens

_TENSOR_BACKENDS = frozenset({Backend.CUDA, Backend.ROCM})
"""Where slices are worth their traffic; elsewhere only if asked for."""
USEFUL_CONTEXT: Tokens = 16_384
"""Layers leave a GPU one by one until so much context fits, if the user named none."""


def gpu_layers(case: Case, settings: EngineSettings) -> int:
    """How many layers are on GPUs."""
    return case.model.shape.layers if settings.split_mode == Split.TENSOR else sum(settings.layer_split)


def shared_by(case: Case, settings: EngineSettings) -> Iterator[EngineSettings]:
    """All layers on GPUs: on one, a slice of each on every one, or shared out whole."""
    layers, gpus = case.model.shape.layers, len(case.gpus)
    if not gpus:
        return
    settings = replace(settings, cpu_experts=0)
    for index in _each(case):
        alone = tuple(layers * (index == other) for other in range(gpus))
        yield replace(settings, split_mode=Split.NONE.value, layer_split=alone)
    if gpus == 1:
        return
    if case.gpus[0].backend in _TENSOR_BACKENDS and not refuses_slices(case.model, settings):
        yield replace(settings, split_mode=Split.TENSOR.value, layer_split=(1,) * gpus)
    yield replace(settings, split_mode=Split.LAYER.value, layer_split=(layers, *[0] * (gpus - 1)))


def _each(case: Case) -> list[int]:
    """GPUs that differ, the fastest first, of equally fast ones that with most room."""
    order = sorted(
        range(len(case.gpus)),
        key=lambda index: (-(case.gpus[index].bandwidth_bytes_per_s or 0.0), -case.gpus[index].available_bytes),
    )
    alike = {
        (gpu.bandwidth_bytes_per_s, gpu.available_bytes): index for index, gpu in reversed(tuple(enumerate(case.gpus)))
    }
    return [index for index in order if index in alike.values()]


def placements(case: Case, settings: EngineSettings, wish: EngineOptions) -> Iterator[EngineSettings]:
    """Candidates in the order of their speed: all on GPUs, some experts in main memory, some layers, all."""
    if not case.gpus:
        yield settings
        return
    layers = case.model.shape.layers
    whole = [found for found in _every(case, settings, wish) if wish.split in (None, found.split_mode)]
    if wish.gpu_layers is None or wish.gpu_layers >= layers:
        yield from whole
    shared = [found for found in whole if found.split_mode == Split.LAYER]
    parted = shared or [found for found in whole if found.split_mode == Split.NONE][:1]
    context = wish.context or min(case.model.context_length, USEFUL_CONTEXT)
    for found in parted:
        if wish.gpu_layers is not None:
            yield _with_layers(case, found, min(layers, wish.gpu_layers))
        else:
            yield from _in_part(case, found, context)


def _in_part(case: Case, whole: EngineSettings, context: Tokens) -> Iterator[EngineSettings]:
    """As little as possible of ``whole`` moved to main memory for ``context`` to fit: experts, or else layers."""
    layers = case.model.shape.layers

    def fits(settings: EngineSettings) -> bool:
        """On the GPUs: main memory fills as they empty, and is asked about in the end."""
        _, *gpus = case.devices(case.at(settings, context))
        return all(device.total_bytes <= device.budget_bytes for device in gpus)

    if case.model.shape.experts:
        count = _least(layers, lambda number: fits(replace(whole, cpu_experts=number)))
        yield replace(whole, cpu_experts=count)
    yield _with_layers(
        case, whole, layers - _least(layers, lambda left: fits(_with_layers(case, whole, layers - left)))
    )


def _every(case: Case, settings: EngineSettings, wish: EngineOptions) -> Iterator[EngineSettings]:
    """All ways to share, and slices too where only the user would choose them."""
    found = list(shared_by(case, settings))
    yield from found
    if wish.split == Split.TENSOR and all(one.split_mode != Split.TENSOR for one in found):
        yield replace(settings, split_mode=Split.TENSOR.value, layer_split=(1,) * len(case.gpus))


def _least(most: int, enough: Callable[[int], bool]) -> int:
    """The smallest number up to ``most`` that is enough; ``most`` if none is."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _with_layers(case: Case, settings: EngineSettings, count: int) -> EngineSettings:
    """``settings`` with the last ``count`` layers on GPUs; none of them without any."""
    if count == 0:
        return replace(settings, split_mode=Split.NONE.value, layer_split=(), cpu_experts=0)
    home = next(index for index, held in enumerate(settings.layer_split) if held)
    split = tuple(count * (index == home) for index in range(len(case.gpus)))
    return case.placed(replace(settings, layer_split=split))
