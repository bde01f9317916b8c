"""Why each setting of a plan has its value."""

from collections.abc import Sequence
from dataclasses import dataclass

from bercail.core import memory
from bercail.core.bind import Bound
from bercail.core.budget import Case
from bercail.core.cpulist import format_cpulist
from bercail.core.devices import makers
from bercail.core.engine import EngineSettings
from bercail.core.link import Link, too_slow_for_slices
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions, purpose_of
from bercail.core.place import gpu_layers
from bercail.core.speed import Rate
from bercail.core.units import Bytes, Tokens, format_bytes, format_rate, format_tokens

_WHOLE_TEXT = "pooling needs the whole text in one batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a setting has its value."""

    setting: str
    value: str
    because: str


def fixed_reasons(
    machine: Machine, wish: EngineOptions, settings: EngineSettings, *, copied: Bytes, model: Model, order: str
) -> tuple[Reason, ...]:
    """Reasons for what does not depend on the budget.

    Args:
        machine: that is planned for.
        wish: what the user set.
        settings: what was chosen.
        copied: weights that are copied if they are rearranged.
        model: that is planned for.
        order: why weights are rearranged or not, if there is more to say than what it usually gains.
    """
    cpu = machine.cpu
    cores = f"{_counted(cpu.physical_cores, 'physical core')} behind {_counted(len(cpu.logical_cpus), 'usable CPU')}"
    quota = f", quota {cpu.quota_cpus:g} CPUs" if cpu.quota_cpus is not None else ""
    prefill = cores + quota if wish.threads is None else "as asked for decode"
    rows: list[tuple[str, object, bool, str]] = [
        ("threads", settings.threads, wish.threads is not None, cores + quota),
        ("threads_batch", settings.threads_batch, wish.threads_batch is not None, prefill),
        ("kv_type_k", settings.kv_type_k, wish.kv_type_k is not None, _cache(settings.kv_type_k, wish)),
        ("kv_type_v", settings.kv_type_v, wish.kv_type_v is not None, _cache(settings.kv_type_v, wish)),
        ("flash_attention", settings.flash_attention, wish.flash_attention is not None, "less memory, no loss"),
        ("mmap", settings.mmap, wish.mmap is not None, _mapped(settings)),
        ("repack", settings.repack, wish.repack is not None, _repack(settings, copied, order)),
        ("kv_unified", settings.kv_unified, wish.kv_unified is not None, _unified(settings)),
        ("embedding", settings.embedding, wish.embedding is not None, _for(wish, "what the model is for")),
        (
            "pooling",
            settings.pooling or "own",
            wish.pooling is not None,
            "as the model was made" if settings.pooling in (None, model.pooling) else "the model names none",
        ),
        ("swa_full", settings.swa_full, False, "sliding-window layers never look further back"),
        ("warmup", settings.warmup, False, "the first request is as fast as the next"),
    ]
    rows.append(_drafting(model, settings, wish))
    return tuple(
        Reason(setting=name, value=_word(value), because="as asked" if asked else because)
        for name, value, asked, because in rows
    )


def bind_reasons(settings: EngineSettings, place: Bound) -> tuple[Reason, ...]:
    """Why these CPUs, and whose memory."""
    node = "any" if settings.numa is None else str(settings.numa)
    return (
        Reason(setting="cores", value=format_cpulist(settings.cores) or "all", because=place.because),
        Reason(setting="numa", value=node, because=place.memory),
    )


def _mapped(settings: EngineSettings) -> str:
    return (
        "weights are shared with the file cache" if settings.mmap else "the GPU shares this memory and cannot map files"
    )


def _unified(settings: EngineSettings) -> str:
    if settings.kv_unified:
        return "texts at once would be cut, and pooled in part, in a cache for each slot"
    return "no request can crowd out another"


def _counted(count: int | None, what: str) -> str:
    return f"{count or '?'} {what}{'' if count == 1 else 's'}"


def _drafting(model: Model, settings: EngineSettings, wish: EngineOptions) -> tuple[str, object, bool, str]:
    """Who guesses ahead, if anybody."""
    if draft := model.draft:
        because = f"{draft.id} guesses; the engine's own number; what it gains is not predicted"
        return "draft_tokens", settings.draft_tokens, wish.draft_tokens is not None, because
    because = "not measured here yet; --mtp 3 tries it" if model.shape.nextn_layers else "the file has no drafting head"
    return "mtp", settings.draft_tokens, wish.mtp is not None, because


def _repack(settings: EngineSettings, copied: Bytes, order: str) -> str:
    if not copied:
        return "nothing in this model is rearranged for this CPU"
    if not settings.repack:
        return order
    if order:
        return f"{order}; {format_bytes(copied)} of the weights are copied"
    kept = "; the file's own pages of them go when memory is short" if settings.mmap else ""
    return f"faster decode; costs loading time; {format_bytes(copied)} of the weights are copied{kept}"


def _cache(kind: str, wish: EngineOptions) -> str:
    if kind == "f16" and purpose_of(wish).smaller_cache:
        return "no loss; q8_0 would give no more context than all the model was made for"
    if kind == "f16":
        return "no loss; q8_0 halves the cache"
    return _for(wish, "room") + ": f16 would leave less context; costs hardly any quality"


def _for(wish: EngineOptions, otherwise: str) -> str:
    """The purpose, if one was named."""
    return f"for {wish.purpose}" if wish.purpose else otherwise


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def not_as_asked(settings: EngineSettings, wish: EngineOptions) -> tuple[str, ...]:
    """What was asked for and is given otherwise, in words: for whoever does not look at the whole plan."""
    given = (
        ("context", wish.context, settings.slot_context_tokens, "the engine works in whole steps"),
        ("batch", wish.batch, settings.batch_tokens, _WHOLE_TEXT),
        ("ubatch", wish.ubatch, settings.ubatch_tokens, _WHOLE_TEXT),
    )
    return tuple(
        f"{name} {format_tokens(asked)} becomes {format_tokens(now)}: {because}"
        for name, asked, now, because in given
        if asked is not None and asked != now
    )


def context_reason(case: Case, settings: EngineSettings, wish: EngineOptions) -> Reason:
    """Why the context is as long as it is."""
    own, context = case.model.context_length, settings.slot_context_tokens
    if wish.context is not None:
        because = "as asked" if wish.context == context else f"{wish.context:,} as asked, rounded up to a whole step"
    elif context >= own:
        because = "all the model was made for"
    elif context == purpose_of(wish).cpu_context and not case.gpus:
        because = f"a CPU takes an hour to read more; the model was made for {format_tokens(own)}: ask with --context"
    elif context == purpose_of(wish).context:
        because = f"for {wish.purpose}: many short requests rather than a few long ones"
    else:
        full = max(case.devices(settings), key=lambda device: device.total_bytes / max(1, device.budget_bytes))
        room = format_bytes(full.budget_bytes) + (f" of {full.name}" if case.gpus else "")
        because = f"the most that fits in {room}; the model was made for {format_tokens(own)}"
    return Reason(setting="context", value=format_tokens(context), because=because)


def budget_reasons(case: Case, settings: EngineSettings, wish: EngineOptions) -> tuple[Reason, ...]:
    """Reasons for what is spent of the rest of the budget."""
    slots = "as asked" if wish.slots is not None else _slots(settings, wish)
    cut = memory.checkpoint_bytes(case.model, settings) == 0
    kept = "the cache can be cut anywhere" if cut else "the cache cannot be cut; at most a quarter of what is left"
    cache = "as asked" if wish.prompt_cache is not None else "eight contexts, at most a quarter of what is left"
    return (
        Reason(setting="slots", value=str(settings.slots), because=slots),
        Reason(
            setting="batch",
            value=format_tokens(settings.batch_tokens),
            because=_batch(settings, wish.batch, wish.ubatch),
        ),
        Reason(
            setting="ubatch",
            value=format_tokens(settings.ubatch_tokens),
            because=_batch(settings, wish.ubatch, wish.batch),
        ),
        Reason(setting="checkpoints", value=str(settings.checkpoints), because=kept),
        Reason(setting="prompt_cache", value=format_bytes(settings.prompt_cache_bytes), because=cache),
    )


def _slots(settings: EngineSettings, wish: EngineOptions) -> str:
    purpose = purpose_of(wish)
    share = "half" if purpose.share == 0.5 else f"{purpose.share:.0%}"
    if settings.slots == purpose.slots and wish.purpose:
        return f"for {wish.purpose}"
    if settings.embedding:
        return "one request at a time; --slots lets more of them in together"
    if settings.slots > 1:
        return f"whole context for each, within {share} of the budget"
    return f"more would take over {share} of the budget"


def place_reasons(case: Case, settings: EngineSettings, wish: EngineOptions) -> tuple[Reason, ...]:
    """Why the model lies where it does; nothing without GPUs."""
    if not case.gpus:
        return ()
    layers, on_gpus = case.model.shape.layers, gpu_layers(case, settings)
    why = {"none": "one GPU holds all that is on GPUs", "layer": "whole layers, more where there is more room",
           "tensor": "all GPUs work on every token, each on a slice of every layer"}  # fmt: skip
    rows = [
        Reason(
            setting="split",
            value=settings.split_mode,
            because="as asked" if wish.split is not None else why[settings.split_mode],
        ),
        Reason(
            setting="gpu_layers",
            value=f"{on_gpus} of {layers}",
            because=_layers(on_gpus, layers) if wish.gpu_layers is None else "as asked",
        ),
    ]
    if settings.devices:
        rows.insert(0, Reason(setting="gpus", value=", ".join(settings.devices), because=_gpus(case, wish)))
    if settings.split_mode == "layer":
        split = ", ".join(map(str, settings.layer_split))
        rows.append(Reason(setting="layer_split", value=split, because="the fullest GPU is as empty as can be"))
    if settings.cpu_experts:
        because = "an expert is used for few tokens; the rest of the layer stays on the GPU"
        rows.append(Reason(setting="cpu_experts", value=str(settings.cpu_experts), because=because))
    return tuple(rows)


_SLICED = ("tensor", "row")


def link_reasons(links: Sequence[Link], settings: EngineSettings) -> tuple[Reason, ...]:
    """What the links of cards say against slices of every layer; nothing for whole layers, which hardly use them."""
    why = too_slow_for_slices(links) if settings.split_mode in _SLICED else ""
    because = f"{why}; --split layer may be faster"
    return (Reason(setting="links", value="SLOW", because=because),) if why else ()


def _gpus(case: Case, wish: EngineOptions) -> str:
    """Why these, and what there is to know of them together."""
    whose = makers(case.gpus)
    mixed = f"; GPUs of {' and '.join(whose)} together are not tried yet, and go at the pace of the slowest"
    return ("as asked" if wish.gpus else "of those that this engine sees") + (mixed if len(whose) > 1 else "")


def speed_reasons(wish: EngineOptions, rates: Sequence[Rate]) -> tuple[Reason, ...]:
    """Whether a wish for speed is met; nothing where there was none."""
    if wish.min_speed is None:
        return ()
    because = "not known to be met: how fast a memory is read is not known"
    if rates:
        because = f"{format_rate(rates[0].tokens_per_s)} predicted{in_doubt(rates[0])}"
    return (Reason(setting="min_speed", value=f"{wish.min_speed:g}", because=because),)


def in_doubt(rate: Rate) -> str:
    """That a prediction rests upon a doubtful measurement; empty if it does not."""
    return f", from a reading speed that is in doubt ({rate.doubt})" if rate.doubt else ""


def _layers(on_gpus: int, layers: int) -> str:
    if on_gpus == layers:
        return "everything but the token embedding"
    return "the others do not fit" if on_gpus else "not one layer fits"


def _batch(settings: EngineSettings, asked: Tokens | None, other: Tokens | None) -> str:
    """Why a batch is as large as it is, if ``asked`` for it and ``other`` for the other kind of batch."""
    if settings.embedding:
        return _WHOLE_TEXT if asked in (None, settings.batch_tokens) else f"{_WHOLE_TEXT}, so not as asked"
    if asked is not None:
        return "as asked"
    if settings.layer_split:
        return "enough to keep a GPU busy" if other is None else "goes with the other batch, as asked"
    return "a lost client is noticed once per batch" if other is None else "goes with the other batch, as asked"
