"""A budget of memory and what a model takes of it, part by part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bercail.core import memory, split
from bercail.core.engine import EngineSettings
from bercail.core.lessons import NO_LESSONS, Lessons
from bercail.core.machine import Gpu
from bercail.core.model import Model
from bercail.core.repack import NOTHING, Repacked
from bercail.core.split import Weights
from bercail.core.units import MIB, Bytes, Tokens

MARGIN_BYTES: Bytes = 128 * MIB
"""Always left free."""
MARGIN_SHARE = 32
"""One part in so many of all others is left free on top."""


MARGIN = "margin"
"""The part of a device that is left free."""
MAIN_MEMORY = "cpu"
"""The device that main memory is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One named share of a device's memory."""

    name: str
    bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A place where memory is taken.

    Attributes:
        name: ``cpu`` is main memory.
        budget_bytes: what may be taken.
        parts: what is taken; they add up to ``total_bytes``.
        card: the name under which its memory is counted, whichever engine takes it; empty if that is ``name``.
    """

    name: str
    budget_bytes: Bytes
    parts: tuple[Part, ...]
    card: str = ""

    @property
    def total_bytes(self) -> Bytes:
        """All parts together."""
        return sum(part.bytes for part in self.parts)

    @property
    def held_bytes(self) -> Bytes:
        """The same without what is left free."""
        return sum(part.bytes for part in self.parts if part.name != MARGIN)


def by_card(devices: Sequence[Device]) -> tuple[Mapping[str, Bytes], Mapping[str, Bytes]]:
    """What is taken of each memory, and what may be; a GPU that shares the main memory takes of that."""
    taken: dict[str, Bytes] = {}
    budget: dict[str, Bytes] = {}
    for device in devices:
        card = device.card or device.name
        taken[card] = taken.get(card, 0) + device.total_bytes
        budget[card] = budget.get(card, 0) + device.budget_bytes
    return taken, budget


_TOLD_AS: Mapping[str, str] = {
    "second embedding": "weights", "tiles": "weights", "draft head": "weights", "draft model": "weights",
    "draft cache": "KV cache",
    "draft compute": "compute", "draft output": "output", "learned": "compute",
}  # fmt: skip


def as_told(device: Device) -> Mapping[str, Bytes]:
    """The parts of ``device`` as an engine tells of them, which keeps fewer apart."""
    sizes: dict[str, Bytes] = {}
    for part in device.parts:
        name = _TOLD_AS.get(part.name, part.name)
        sizes[name] = sizes.get(name, 0) + part.bytes
    return sizes


DRIVER_BYTES: Bytes = 400 * MIB
"""What a GPU's driver and its libraries keep for one process: 330 to 600 MiB were seen with CUDA. An estimate."""
GPU_MARGIN_BYTES: Bytes = 64 * MIB
GPU_MARGIN_SHARE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The question: one model against one budget.

    Attributes:
        budget_bytes: of main memory.
        projector_bytes: weights and working memory of the ``mmproj`` file, or 0 if it is not used.
        gpus: that may be used.
        weights: by where they may lie; needed with GPUs only.
        repacked: weights that the CPU gets in another order, if it is asked to.
        lessons: what earlier loads have taught.
    """

    model: Model
    budget_bytes: Bytes
    projector_bytes: Bytes
    gpus: tuple[Gpu, ...] = ()
    weights: Weights | None = None
    repacked: Repacked = NOTHING
    lessons: Lessons = NO_LESSONS

    def devices(self, settings: EngineSettings) -> tuple[Device, ...]:
        """What the model takes of main memory, then of every GPU it uses, part by part."""
        if not settings.layer_split or self.weights is None:
            return (self.device(settings),)
        host, *rest = split.held(self.model, settings, self.weights)
        used = [index for index, count in enumerate(settings.layer_split) if count]
        gpus = (self._gpu(settings, index, rest[index], used) for index in used)
        return (self._host(settings, host), *gpus)

    def device(self, settings: EngineSettings) -> Device:
        """What the model takes of main memory without GPUs."""
        model = self.model
        held = split.Held(
            weights=model.weights_bytes - memory.draft_weights(model),
            cache=memory.cache_bytes(model, settings),
            state=memory.state_bytes(model, settings),
        )
        compute = memory.compute_bytes(model, settings)
        return self._main(settings, held, compute, self.projector_bytes, self._draft(settings))

    def _host(self, settings: EngineSettings, held: split.Held) -> Device:
        """Main memory beside GPUs: where nothing is computed in it, it only hands over what goes in."""
        alone = settings.cpu_experts or sum(settings.layer_split) < self.model.shape.layers
        works = alone and settings.split_mode != split.Split.TENSOR
        compute = memory.compute_bytes(self.model, settings) if works else memory.input_bytes(self.model, settings)
        return self._main(settings, held, compute, 0, [])

    def _draft(self, settings: EngineSettings) -> list[Part]:
        """What guessing ahead takes where the last layers are."""
        if not settings.draft_tokens:
            return []
        return [Part(name=name, bytes=size) for name, size in memory.draft_parts(self.model, settings).items()]

    def _main(
        self, settings: EngineSettings, held: split.Held, compute: Bytes, projector: Bytes, draft: list[Part]
    ) -> Device:
        model = self.model
        kept = memory.checkpoint_bytes(model, settings) * settings.checkpoints * settings.slots
        parts = [
            Part(name="weights", bytes=held.weights),
            Part(name="second embedding", bytes=self.repacked.added if settings.repack else 0),
            Part(name="tiles", bytes=self.repacked.widened if settings.repack else 0),
            Part(name="KV cache", bytes=held.cache),
            Part(name="recurrent state", bytes=held.state),
            Part(name="compute", bytes=compute),
            Part(name="learned", bytes=self.lessons.more("cpu", model.architecture, compute)),
            Part(name="output", bytes=memory.output_bytes(model, settings)),
            *draft,
            Part(name="projector", bytes=projector),
            Part(name="prompt cache", bytes=settings.prompt_cache_bytes),
            Part(name="checkpoints", bytes=kept),
            Part(name="engine", bytes=memory.ENGINE_BASE_BYTES),
        ]
        return _device(MAIN_MEMORY, self.budget_bytes, parts, MARGIN_BYTES, MARGIN_SHARE)

    def _gpu(self, settings: EngineSettings, index: int, held: split.Held, used: Sequence[int]) -> Device:
        gpu, model = self.gpus[index], self.model
        most = max(model.shape.kv_heads, default=0)
        heads = max(split.cut(most, 1, len(settings.layer_split), 0)) if most else 0
        share = heads / most if most and settings.split_mode == split.Split.TENSOR else 1.0
        compute = memory.compute_bytes(model, settings)
        parts = [
            Part(name="weights", bytes=held.weights),
            Part(name="KV cache", bytes=held.cache),
            Part(name="recurrent state", bytes=held.state),
            Part(name="compute", bytes=compute),
            Part(name="learned", bytes=self.lessons.more(gpu.backend, model.architecture, compute)),
            Part(name="unpacked cache", bytes=split.unpacked_bytes(model, settings, share)),
            Part(name="projector", bytes=self.projector_bytes if index == used[0] else 0),
            *(self._draft(settings) if index == used[-1] or settings.split_mode == split.Split.TENSOR else ()),
            Part(name="driver", bytes=DRIVER_BYTES),
        ]
        name = f"{gpu.backend}{gpu.number if gpu.device else index}"
        device = _device(name, gpu.available_bytes, parts, GPU_MARGIN_BYTES, GPU_MARGIN_SHARE)
        return replace(device, card=gpu.card)

    def fits(self, settings: EngineSettings) -> bool:
        """Whether all parts together stay within the budget of each device."""
        return all(device.total_bytes <= device.budget_bytes for device in self.devices(settings))

    def filled(self, settings: EngineSettings) -> float:
        """The share of its budget that the fullest device has taken."""
        return max(device.total_bytes / max(1, device.budget_bytes) for device in self.devices(settings))

    def free_bytes(self, settings: EngineSettings) -> Bytes:
        """What the budget of main memory has left; negative if it does not fit."""
        host = self.devices(settings)[0]
        return host.budget_bytes - host.total_bytes

    def at(self, settings: EngineSettings, context: Tokens) -> EngineSettings:
        """The same settings with ``context`` tokens per slot, and the layers where there is room for them then."""
        return self.placed(with_context(self.model, settings, context))

    def placed(self, settings: EngineSettings) -> EngineSettings:
        """``settings`` with the layers that go to GPUs shared out anew."""
        if settings.split_mode != split.Split.LAYER or not sum(settings.layer_split) or self.weights is None:
            return settings
        layers = sum(settings.layer_split)
        weights, begin = self.weights, self.model.shape.layers - layers
        caches, states = memory.layer_cache_bytes(self.model, settings), memory.layer_state_bytes(self.model, settings)
        sizes = [
            weights.blocks[layer]
            + (weights.experts[layer] if layer >= settings.cpu_experts else 0)
            + caches[layer]
            + states[layer]
            for layer in range(begin, self.model.shape.layers)
        ]
        empty = split.Held(weights=0, cache=0, state=0)
        rooms = [
            max(1, gpu.available_bytes - self._gpu(settings, index, empty, range(len(self.gpus))).total_bytes)
            for index, gpu in enumerate(self.gpus)
        ]
        return replace(settings, layer_split=split.share_out(sizes, weights.output, rooms))


def _device(name: str, budget: Bytes, parts: list[Part], margin: Bytes, share: int) -> Device:
    """A device with ``parts``, those of no bytes left out, and a margin: so much, and one part in ``share`` of all."""
    margin += sum(part.bytes for part in parts) // share
    kept = (*(part for part in parts if part.bytes), Part(name=MARGIN, bytes=margin))
    return Device(name=name, budget_bytes=budget, parts=kept)


def with_context(model: Model, settings: EngineSettings, context: Tokens) -> EngineSettings:
    """``settings`` with ``context`` tokens per slot; an encoder's batch holds the whole text and grows with it."""
    changed = replace(settings, context_tokens=context if settings.kv_unified else context * settings.slots)
    if settings.embedding:
        # Pooling needs the whole text in one physical batch (llama.cpp issue 12836).
        changed = replace(changed, batch_tokens=context, ubatch_tokens=context)
    return changed


def most_context(fits: Callable[[Tokens], bool], limit: Tokens) -> Tokens:
    """The largest multiple of the cell step up to ``limit`` that fits, or 0; memory grows with context."""
    low, high = 0, limit // memory.CELL_STEP
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * memory.CELL_STEP):
            low = middle
        else:
            high = middle - 1
    return low * memory.CELL_STEP
