"""A budget of memory and what a model takes of it, part by part."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bercail.core import memory
from bercail.core.engine import EngineSettings
from bercail.core.model import Model
from bercail.core.units import MIB, Bytes, Tokens

MARGIN_BYTES: Bytes = 128 * MIB
"""Always left free."""
MARGIN_SHARE = 32
"""One part in so many of all others is left free on top."""


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
    """

    name: str
    budget_bytes: Bytes
    parts: tuple[Part, ...]

    @property
    def total_bytes(self) -> Bytes:
        """All parts together."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The question: one model against one budget.

    Attributes:
        projector_bytes: weights and working memory of the ``mmproj`` file, or 0 if it is not used.
    """

    model: Model
    budget_bytes: Bytes
    projector_bytes: Bytes

    def device(self, settings: EngineSettings) -> Device:
        """What the model takes under ``settings``, part by part."""
        model = self.model
        kept = memory.checkpoint_bytes(model, settings) * settings.checkpoints * settings.slots
        parts = [
            Part(name="weights", bytes=model.weights_bytes),
            Part(name="KV cache", bytes=memory.cache_bytes(model, settings)),
            Part(name="recurrent state", bytes=memory.state_bytes(model, settings)),
            Part(name="compute", bytes=memory.compute_bytes(model, settings)),
            Part(name="output", bytes=memory.output_bytes(model, settings)),
            Part(name="projector", bytes=self.projector_bytes),
            Part(name="prompt cache", bytes=settings.prompt_cache_bytes),
            Part(name="checkpoints", bytes=kept),
            Part(name="engine", bytes=memory.ENGINE_BASE_BYTES),
        ]
        taken = sum(part.bytes for part in parts)
        parts.append(Part(name="margin", bytes=MARGIN_BYTES + taken // MARGIN_SHARE))
        return Device(name="cpu", budget_bytes=self.budget_bytes, parts=tuple(part for part in parts if part.bytes))

    def fits(self, settings: EngineSettings) -> bool:
        """Whether all parts together stay within the budget."""
        return self.device(settings).total_bytes <= self.budget_bytes

    def free_bytes(self, settings: EngineSettings) -> Bytes:
        """What the budget has left; negative if it does not fit."""
        return self.budget_bytes - self.device(settings).total_bytes

    def at(self, settings: EngineSettings, context: Tokens) -> EngineSettings:
        """The same settings with ``context`` tokens per slot."""
        return with_context(self.model, settings, context)


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
