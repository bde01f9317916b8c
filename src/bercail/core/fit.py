"""From where a plan begins to settings that fit: the place, the context, and what is spent of the rest."""

from dataclasses import replace

from bercail.core import memory
from bercail.core.budget import Case, most_context
from bercail.core.engine import EngineSettings
from bercail.core.legal import illegal
from bercail.core.nearby import cached_as
from bercail.core.options import EngineOptions, purpose_of
from bercail.core.place import placements
from bercail.core.units import GIB, MIB, Bytes, Tokens

LEAST_CONTEXT: Tokens = 4096
"""A model that can hold fewer tokens than this by memory alone is refused, unless the user asked for so few."""

MOST_PROMPT_CACHE_BYTES: Bytes = GIB
SAVED_PROMPTS = 8
"""As many whole contexts are kept at most."""
CHECKPOINT_STEPS = (8, 4, 2, 1, 0)


def where_it_fits(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """The fastest place with room for a context; if there is none, the one that is nearest to it."""
    tried = []
    for candidate in placements(case, settings, wish):
        found = _with_room(case, candidate, wish)
        if case.fits(found):
            return found
        tried.append(found)
    return min(tried, key=case.filled)


def _with_room(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """The context asked for, or the most that fits; with a smaller cache if the purpose is worth it and that helps."""
    plain = _with_context(case, settings, wish)
    may = wish.kv_type_k is None and wish.kv_type_v is None and settings.flash_attention
    if not (purpose_of(wish).smaller_cache and may) or _is_enough(case, plain, wish):
        return plain
    smaller = _with_context(case, cached_as(settings, "q8_0"), wish)
    if illegal(case, smaller) or not case.fits(smaller):
        return plain
    more = smaller.slot_context_tokens > plain.slot_context_tokens or not case.fits(plain)
    return smaller if more else plain


def _with_context(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    purpose = purpose_of(wish)
    most = purpose.context or case.model.context_length
    if purpose.cpu_context and not case.gpus:
        most = min(most, purpose.cpu_context)
    return _largest_context(case, settings, most) if wish.context is None else case.placed(settings)


def _is_enough(case: Case, settings: EngineSettings, wish: EngineOptions) -> bool:
    """Nothing is left to be wished for."""
    own = case.model.context_length
    return case.fits(settings) and (wish.context is not None or settings.slot_context_tokens >= own)


def _largest_context(case: Case, settings: EngineSettings, most: Tokens) -> EngineSettings:
    """The most context per slot that fits, in whole steps, up to ``most`` and the model's own; else the least."""
    own = min(case.model.context_length, most)
    if case.fits(case.at(settings, own)):
        return case.at(settings, own)
    least = min(LEAST_CONTEXT, own)
    best = most_context(lambda context: case.fits(case.at(settings, context)), own)
    return case.at(settings, max(best, least))


def spend_the_rest(case: Case, settings: EngineSettings, wish: EngineOptions) -> EngineSettings:
    """More slots, checkpoints and a prompt cache, where the machine has plenty left."""
    purpose = purpose_of(wish)
    if wish.slots is None and not settings.embedding:
        for slots in range(purpose.slots, 1, -1):
            more = case.at(replace(settings, slots=slots), settings.slot_context_tokens)
            if case.filled(more) <= purpose.share:
                settings = more
                break
    if not memory.keeps_cache(case.model) or settings.embedding:
        return settings
    one = memory.checkpoint_bytes(case.model, settings) * settings.slots
    if one:
        room = case.free_bytes(settings) // 4
        settings = replace(settings, checkpoints=next(n for n in CHECKPOINT_STEPS if n * one <= room or n == 0))
    if wish.prompt_cache is None:
        prompts = SAVED_PROMPTS * memory.cache_bytes(case.model, settings) // settings.slots
        spare = min(MOST_PROMPT_CACHE_BYTES, prompts, case.free_bytes(settings) // 4) // MIB * MIB
        settings = replace(settings, prompt_cache_bytes=max(0, spare))
    return settings
