"""Engines that are another project's library: what of a wish they cannot be told, and what they do their own way."""

from collections.abc import Sequence
from dataclasses import replace

from bercail.core.engine import EngineSettings, Offer
from bercail.core.model import Format, Model, Pooling, Role
from bercail.core.options import EngineOptions, purpose_of
from bercail.core.reasons import Reason

_OWN_WAY = "this engine does it its own way"
_IN_TURNS = "this engine serves them in turns, so two at once take about twice as long each"
_UNTOLD = {
    "repack": "--repack", "mmap": "--mmap", "flash_attention": "--flash-attention", "prompt_cache": "--prompt-cache",
    "kv_unified": "--kv-unified", "threads": "--threads",
}  # fmt: skip
"""Wishes that a library has no words for, and their flags. Its threads are the same for prefill and decode."""
_POOLINGS = (Pooling.MEAN, Pooling.CLS, Pooling.LAST)
_TOLD_AS_IS = frozenset(("repack", "mmap", "flash_attention", "prompt_cache", "checkpoints", "swa_full", "warmup"))


def unheard(offer: Offer, model: Model, wish: EngineOptions) -> str:
    """A wish that the engine, or the model as it was exported, cannot be told, or empty."""
    for name, flag in _UNTOLD.items():
        value = getattr(wish, name)
        if value is not None:
            word = flag.replace("--", "--no-", 1) if value is False else flag
            instead = "; --threads-batch sets its threads" if name == "threads" else ""
            return f"{word} and the engine {offer.name} contradict each other: it cannot be told{instead}"
    if why := _other_purpose(offer, model, wish):
        return why
    own = model.stored.cache_type if model.stored else None
    for flag, kind in (("--kv", wish.kv), ("--kv-type-k", wish.kv_type_k), ("--kv-type-v", wish.kv_type_v)):
        if own is not None and kind not in (None, own):
            return f"{flag} {kind} and {model.id} contradict each other: it was exported for a cache of {own}"
    return ""


def _other_purpose(offer: Offer, model: Model, wish: EngineOptions) -> str:
    """Text is wanted of what embeds, embeddings of what generates, or another pooling than there is; or empty."""
    wanted = purpose_of(wish).embedding if wish.embedding is None else wish.embedding
    if wish.embedding is False and model.role is Role.EMBED:
        return f"--no-embedding and {model.id} contradict each other: it embeds, and generates nothing"
    if model.format is Format.OPENVINO and wanted and model.role is Role.GENERATE:
        return (
            f"--embedding and {model.id} contradict each other: it was exported to generate; one that embeds is made "
            "with `optimum-cli export openvino --task feature-extraction`, or take a GGUF file"
        )
    if model.role is Role.EMBED and wish.pooling not in (None, *_POOLINGS):
        return (
            f"--pooling {wish.pooling} and the engine {offer.name} contradict each other: it pools by mean, cls, last"
        )
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
        pooling=settings.pooling or (model.pooling if settings.embedding else None),
    )


def reworded(offer: Offer, model: Model, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """``reasons`` with the truth about what was not decided here."""
    exported = model.stored is not None and model.stored.cache_type is not None
    return tuple(
        replace(row, because="as the model was exported")
        if exported and row.setting in ("kv_type_k", "kv_type_v")
        else replace(row, value="own", because=_OWN_WAY)
        if row.setting in _TOLD_AS_IS
        else replace(row, because="the same as for prefill")
        if row.setting == "threads"
        else replace(row, because=f"{row.because}; {_IN_TURNS}")
        if row.setting == "slots" and row.value != "1" and not offer.batches
        else row
        for row in reasons
    )
