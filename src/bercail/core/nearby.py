"""The nearest things that do fit, where a wish does not; and what would give more, where it does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bercail.core.budget import Case, most_context
from bercail.core.engine import EngineSettings
from bercail.core.legal import illegal
from bercail.core.machine import Machine
from bercail.core.place import shared_by
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.split import weigh
from bercail.core.units import MIB, Bytes, Tokens, format_bytes, format_tokens

LEAN_UBATCH: Tokens = 64
_MOST_CARDS = 8
_LEAST_BITS = 2.0
"""No file of fewer bits per weight is worth proposing."""
_MANY = 3
"""Of fewer slots there is nothing between all of them and one."""
_SHORTER = "a shorter conversation"
_SLOWER = {"none": "the other GPUs rest", "layer": "one GPU works at a time", "tensor": "links between GPUs are busy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Something near the wish that does fit.

    Attributes:
        change: what to do differently, as words a user can act on.
        context_tokens: context per slot it would give.
        settings: the whole settings.
        costs: what it costs in quality or speed.
        here: it needs no other file and no other machine.
    """

    change: str
    context_tokens: Tokens
    settings: EngineSettings
    costs: str
    here: bool = True


def more_context(case: Case, settings: EngineSettings) -> tuple[Alternative, ...]:
    """Ways to a longer context than the one chosen, if the model was made for more."""
    lean = replace(settings, prompt_cache_bytes=0, checkpoints=0)
    more = (row for row in nearby(case, lean) if row.context_tokens > settings.slot_context_tokens)
    return tuple(replace(row, costs="memory") if row.costs == _SHORTER else row for row in more)


def more_memory(machine: Machine, case: Case, settings: EngineSettings) -> tuple[Alternative, ...]:
    """The wish as it is, if only the limit that the user set stands in its way."""
    needed = case.devices(settings)[0].total_bytes
    if case.budget_bytes >= needed or not replace(case, budget_bytes=machine.memory.available_bytes).fits(settings):
        return ()
    change = f"with memory {-(-needed // MIB)} MiB it fits"
    context = settings.slot_context_tokens
    return (Alternative(change=change, context_tokens=context, settings=settings, costs="more memory"),)


def nearby(case: Case, settings: EngineSettings) -> tuple[Alternative, ...]:
    """The nearest things that fit, one change at a time, each with the longest context it gives."""
    fast = replace(settings, flash_attention=True)
    flash = "" if settings.flash_attention else " and flash attention"
    wide = TENSOR_TYPES_BY_NAME[settings.kv_type_k].bits_per_weight > 16
    ubatch = min(LEAN_UBATCH, settings.ubatch_tokens, settings.batch_tokens)
    changes: list[tuple[str, EngineSettings, str]] = [
        ("context {context} fits", settings, _SHORTER),
        (
            f"without {'the draft model' if case.model.draft else 'mtp'} {{context}} fits",
            replace(settings, draft_tokens=0),
            "what guessing ahead would gain",
        ),
        ("with flash attention {context} fits", fast, "no quality"),
        (
            "with an f16 KV cache {context} fits",
            cached_as(settings, "f16"),
            "hardly any quality" if wide else "memory",
        ),
        (f"with a q8_0 KV cache{flash} {{context}} fits", cached_as(fast, "q8_0"), "hardly any quality"),
        (f"with a q4_0 KV cache{flash} {{context}} fits", cached_as(fast, "q4_0"), "some quality in long contexts"),
        ("with one slot {context} fits", replace(settings, slots=1), "requests wait for one another"),
        (f"with ubatch {ubatch} {{context}} fits", replace(settings, ubatch_tokens=ubatch), "slower prefill"),
    ]
    changes += [
        (f"with split {other.split_mode} {{context}} fits", other, _SLOWER[other.split_mode])
        for other in shared_by(case, settings)
        if other.split_mode != settings.split_mode
    ]
    rows: list[Alternative] = []
    for words, changed, costs in changes:
        row = _alternative(case, changed, words, costs)
        if row and all(row.context_tokens > other.context_tokens for other in rows):
            rows.append(row)
    if not rows and case.projector_bytes:
        text_only = replace(case, projector_bytes=0)
        row = _alternative(text_only, settings, "without the projector {context} fits", "no images")
        rows.extend([row] if row else [])
    return tuple(rows)


def fewer_slots(case: Case, settings: EngineSettings) -> tuple[Alternative, ...]:
    """Where several slots were wished for: how many of them the context leaves room for, and half of both wishes."""
    wished = min(settings.slot_context_tokens, case.model.context_length)
    least = case.at(settings, wished)
    if settings.slots < _MANY or illegal(case, least) or case.fits(least):
        return ()
    counts = range(settings.slots - 1, 1, -1)
    most = next((count for count in counts if case.fits(case.at(replace(settings, slots=count), wished))), 0)
    half = settings.slots // 2
    rows = []
    if most:
        changed = case.at(replace(settings, slots=most), wished)
        words = f"with {most} slots {format_tokens(changed.slot_context_tokens)} fits"
        rows.append(Alternative(change=words, context_tokens=wished, settings=changed, costs="fewer requests at once"))
    if half > max(1, most):
        words = f"with {half} slots {{context}} fits"
        both = _alternative(case, replace(settings, slots=half), words, "fewer requests at once, " + _SHORTER)
        rows.extend([both] if both else [])
    return tuple(rows)


def cached_as(settings: EngineSettings, kind: str) -> EngineSettings:
    """``settings`` with keys and values of this type."""
    return replace(settings, kv_type_k=kind, kv_type_v=kind)


def _alternative(case: Case, settings: EngineSettings, words: str, costs: str) -> Alternative | None:
    own = case.model.context_length
    if illegal(case, case.at(settings, own)):
        return None
    whole = case.fits(case.at(settings, own))
    context = own if whole else most_context(lambda tokens: case.fits(case.at(settings, tokens)), own)
    if context == 0:
        return None
    return Alternative(
        change=words.format(context=format_tokens(context)),
        context_tokens=context,
        settings=case.at(settings, context),
        costs=costs,
    )


def other_hardware(case: Case, settings: EngineSettings, available: Bytes) -> tuple[Alternative, ...]:
    """What would hold the wish as it is: a smaller file of the same model, more cards, more main memory.

    Args:
        case: what does not fit.
        settings: what was wished for.
        available: main memory that may be had; the case's budget may be less, by the user's wish.
    """
    rows = (_smaller_file(case, settings), _more_cards(case, settings), _more_main_memory(case, settings, available))
    return tuple(row for row in rows if row)


def _smaller_file(case: Case, settings: EngineSettings) -> Alternative | None:
    """The same model in fewer bits, all weights alike, where its working memory leaves room for that."""
    best, share = settings, 0.0
    for found in _whole(case, settings):
        rooms = []
        for device in case.devices(found):
            weights = sum(part.bytes for part in device.parts if part.name in ("weights", "second embedding", "tiles"))
            rooms.append((device.budget_bytes - device.total_bytes + weights) / weights if weights else 1.0)
        if min(rooms) > share:
            best, share = found, min(rooms)
    bits = case.model.bits_per_weight * share
    if not _LEAST_BITS <= bits < case.model.bits_per_weight:
        return None
    size = format_bytes(int(case.model.weights_bytes * share))
    change = f"a file of this model of {size} ({bits:.1f} bits per weight) or less fits"
    return Alternative(
        change=change, context_tokens=settings.slot_context_tokens, settings=best, costs="quality", here=False
    )


def _whole(case: Case, settings: EngineSettings) -> Iterator[EngineSettings]:
    """Without GPUs the settings themselves, else all ways to have every layer on GPUs."""
    if not case.gpus:
        yield settings
    for found in shared_by(case, settings):
        yield case.at(found, settings.slot_context_tokens)


def _more_cards(case: Case, settings: EngineSettings) -> Alternative | None:
    """More of the same card, as many as hold everything."""
    if len(set(case.gpus)) != 1:
        return None
    for count in range(len(case.gpus) + 1, _MOST_CARDS + 1):
        more = replace(case, gpus=case.gpus[:1] * count, weights=weigh(case.model, count))
        for found in _whole(more, settings):
            if more.fits(found):
                change = f"with {count} cards of this kind it fits (split {found.split_mode})"
                context = settings.slot_context_tokens
                return Alternative(change=change, context_tokens=context, settings=found, costs="cards", here=False)
    return None


def _more_main_memory(case: Case, settings: EngineSettings, available: Bytes) -> Alternative | None:
    """So much main memory as is missing, if nothing else is."""
    host = case.devices(settings)[0]
    if host.total_bytes <= available or not replace(case, budget_bytes=host.total_bytes).fits(settings):
        return None
    size = format_bytes(-(-host.total_bytes // MIB) * MIB)
    change = f"with {size} of free main memory it fits"
    context = settings.slot_context_tokens
    return Alternative(change=change, context_tokens=context, settings=settings, costs="memory", here=False)
