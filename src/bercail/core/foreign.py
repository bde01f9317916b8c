"""Engines that are another project's library: what of a wish they cannot be told, and what they do their own way."""

from collections.abc import Sequence
from dataclasses import replace

from bercail.core.engine import EngineSettings, Offer
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.reasons import Reason

_OWN_WAY = "this engine does it its own way"
_UNTOLD = {
    "repack": "--repack", "mmap": "--mmap", "flash_attention": "--flash-attention", "prompt_cache": "--prompt-cache",
    "kv_unified": "--kv-unified", "threads": "--threads",
}  # fmt: skip
"""Wishes that a library has no words for, and their flags. Its threads are the same for prefill and decode."""
_TOLD_AS_IS = frozenset(("repack", "mmap", "flash_attention", "prompt_cache", "checkpoints", "swa_full", "warmup"))


def unheard(offer: Offer, model: Model, wish: EngineOptions) -> str:
    """A wish that the engine, or the model as it was exported, cannot be told, or empty."""
    for name, flag in _UNTOLD.items():
        value = getattr(wish, name)
        if value is not None:
            word = flag.replace("--", "--no-", 1) if value is False else flag
            instead = "; --threads-batch sets its threads" if name == "threads" else ""
            return f"{word} and the engine {offer.name} contradict each other: it cannot be told{instead}"
    own = model.stored.cache_type if model.stored else None
    for flag, kind in (("--kv", wish.kv), ("--kv-type-k", wish.kv_type_k), ("--kv-type-v", wish.kv_type_v)):
        if own is not None and kind not in (None, own):
            return f"{flag} {kind} and {model.id} contradict each other: it was exported for a cache of {own}"
    return ""


def its_way(model: Model, settings: EngineSettings) -> EngineSettings:
    """``settings`` without what the engine decides itself."""
    own = model.stored.cache_type if model.stored else None
    return replace(
        settings,
        repack=False,
        mmap=False,
        prompt_cache_bytes=0,
        checkpoints=0,
        threads=settings.threads_batch,
        kv_type_k=own or settings.kv_type_k,
        kv_type_v=own or settings.kv_type_v,
    )


def reworded(model: Model, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """``reasons`` with the truth about what was not decided here."""
    exported = model.stored is not None and model.stored.cache_type is not None
    return tuple(
        replace(row, because="as the model was exported")
        if exported and row.setting in ("kv_type_k", "kv_type_v")
        else replace(row, value="own", because=_OWN_WAY)
        if row.setting in _TOLD_AS_IS
        else row
        for row in reasons
    )
