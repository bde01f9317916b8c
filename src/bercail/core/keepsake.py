"""Contexts of models that left memory, kept on disk: what each is called, and which go when room is short."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from bercail.core.launch import LaunchSpec
from bercail.core.units import Bytes, Seconds, Tokens

WORTH_TOKENS: Tokens = 256
"""Fewer are read again sooner than found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One file of a context."""

    name: str
    bytes: Bytes
    used_s: Seconds


def name_of(spec: LaunchSpec, engine: str, modified_s: int, slot: int) -> str:
    """What the context of a slot is called: the same only where the engine can read it back.

    Args:
        spec: what was launched.
        engine: and its build.
        modified_s: when the model's file was last changed.
        slot: counted from 0.
    """
    settings = spec.settings
    facts = (
        spec.model_path, spec.weights_bytes, modified_s, spec.projector_path, spec.draft_path, engine,
        settings.kv_type_k, settings.kv_type_v, settings.flash_attention, settings.slot_context_tokens,
        settings.swa_full, settings.split_mode, settings.layer_split,
    )  # fmt: skip
    return f"{hashlib.sha256(repr(facts).encode('utf-8', 'surrogatepass')).hexdigest()[:24]}-{slot}.slot"


def too_many(kept: Sequence[Kept], most_bytes: Bytes) -> tuple[str, ...]:
    """The names of those that must go so that the rest takes no more than ``most_bytes``, the longest unused first."""
    over = sum(one.bytes for one in kept) - most_bytes
    gone = []
    for one in sorted(kept, key=lambda one: (one.used_s, one.name)):
        if over <= 0:
            break
        gone.append(one.name)
        over -= one.bytes
    return tuple(gone)
