"""Command lines written for older builds of ``llama-server`` -> flags of b11549, each change told. Pure.

What b11549 itself still understands by an older name is left alone.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import assert_never

from bercail.core.errors import UsageError
from bercail.engines.llama_cpp.removed_flags import FATES, Dropped, Fate, Refused, Replaced

_DRAFT_LENGTHS: Mapping[str, str] = {
    "--draft": "max", "--draft-n": "max", "--draft-max": "max", "--draft-min": "min", "--draft-n-min": "min",
}  # fmt: skip
_NGRAMS: Mapping[str, str] = {
    "--spec-ngram-size-n": "size-n", "--spec-ngram-size-m": "size-m", "--spec-ngram-min-hits": "min-hits",
}  # fmt: skip
_NGRAM_TYPES = ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
_NGRAM_MOD = "ngram-mod"
_LOADING = {
    frozenset(("--no-mmap",)): "none",
    frozenset(("--mlock",)): "mmap+mlock",
    frozenset(("--no-mmap", "--mlock")): "mlock",
}
_DIRECT = frozenset(("--direct-io", "-dio"))
_SWITCHES_WITH_A_VALUE_NOW = frozenset(("-fa", "--flash-attn", "--log-colors"))
_SCALED = frozenset(("--lora-scaled", "--control-vector-scaled"))
_SCALE = re.compile(r"-?\d*\.?\d+")
_SCALED_ALREADY = re.compile(rf":{_SCALE.pattern}(?:,|$)")

Words = tuple[str, ...]


def translated(arguments: Sequence[str]) -> tuple[Words, Words]:
    """The same command line for b11549, and what was changed, in words.

    Raises:
        UsageError: it holds a flag that is gone, and without which answers would differ.
    """
    said: list[str] = []
    notices: list[str] = []
    loading: list[str] = []
    kinds = _drafting(arguments)
    rest = tuple(_with_dashes(argument) for argument in arguments)
    while rest:
        first = rest[0]
        taken, words, notice = (1, (), "") if first in ("--no-mmap", "--mlock") else _said_anew(rest, kinds)
        if not words and not notice:
            loading.append(first)
        said += words
        notices += [f"{' '.join(rest[:taken])} of an older build: {notice}"] if notice else []
        rest = rest[taken:]
    if loading:
        mode = _LOADING[frozenset(loading)]
        said += ["--load-mode", mode]
        notices.append(f"{' '.join(dict.fromkeys(loading))} of an older build: --load-mode {mode}")
    return tuple(said), tuple(notices)


def _with_dashes(argument: str) -> str:
    """As llama.cpp reads it: ``--no_mmap`` is ``--no-mmap``."""
    return argument.replace("_", "-") if argument.startswith("--") else argument


def _drafting(arguments: Sequence[str]) -> frozenset[str]:
    """How it is to draft, as far as it tells."""
    named = [value for flag, value in pairwise(arguments) if flag == "--spec-type"]
    return frozenset(kind for value in named for kind in value.split(","))


def _said_anew(rest: Words, kinds: frozenset[str]) -> tuple[int, Words, str]:
    """How many words of ``rest`` are one flag of an older build, what is said instead, and what to tell of it."""
    flag, following = rest[0], rest[1:]
    if (fate := FATES.get(flag)) is not None:
        return _by_fate(flag, following, fate)
    if flag in _SCALED and _has_scale_apart(following):
        return _changed(3, (flag, f"{following[0]}:{following[1]}"))
    if flag in _DIRECT:
        return _changed(1, ("--load-mode", "dio"))
    if flag in _SWITCHES_WITH_A_VALUE_NOW and (not following or following[0].startswith("-")):
        return _changed(1, (flag, "on"))
    if (flag in _DRAFT_LENGTHS or flag in _NGRAMS) and following:
        return _changed(2, _drafted(flag, following[0], kinds))
    return 1, (flag,), ""


def _changed(taken: int, words: Words) -> tuple[int, Words, str]:
    return taken, words, " ".join(words) or "left out, nothing here drafts by it"


def _by_fate(flag: str, following: Words, fate: Fate) -> tuple[int, Words, str]:
    values = following[: fate.values]
    match fate:
        case Replaced():
            if len(values) < fate.values:
                raise UsageError(f"{flag} of llama-server wants a value")
            words = fate.said(*values)
            return 1 + fate.values, words, " ".join(words) or "left out, it is so anyway"
        case Dropped():
            if fate.harmless is not None and not fate.harmless.issuperset(values):
                raise _refusal(flag, fate.instead)
            return 1 + len(values), (), f"left out, {fate.why}"
        case Refused():
            raise _refusal(flag, fate.instead)
        case _:  # pragma: no cover - every fate is above
            assert_never(fate)


def _refusal(flag: str, instead: str) -> UsageError:
    return UsageError(f"{flag} was removed from llama-server, and answers would differ without it", hint=instead)


def _has_scale_apart(following: Words) -> bool:
    return (
        len(following) > 1 and _SCALE.fullmatch(following[1]) is not None and not _SCALED_ALREADY.search(following[0])
    )


def _drafted(flag: str, value: str, kinds: frozenset[str]) -> Words:
    """What one flag for all ways to draft says to those that are asked for."""
    if flag in _DRAFT_LENGTHS:
        bound = _DRAFT_LENGTHS[flag]
        by_model = () if kinds == {_NGRAM_MOD} else (f"--spec-draft-n-{bound}", value)
        return (*by_model, *((f"--spec-ngram-mod-n-{bound}", value) if _NGRAM_MOD in kinds else ()))
    name = _NGRAMS[flag]
    said = [word for kind in _NGRAM_TYPES if kind in kinds for word in (f"--spec-{kind}-{name}", value)]
    if name == "size-n" and _NGRAM_MOD in kinds:
        said += ["--spec-ngram-mod-n-match", value]
    return tuple(said)


_SPLITS = frozenset(("-sm", "--split-mode"))
_NEEDS_GPUS = frozenset(("tensor", "row"))


def without_gpus(arguments: Sequence[str]) -> tuple[Words, Words]:
    """The same command line for an engine on CPUs, which refuses to share a model among GPUs, and what was changed."""
    said: list[str] = []
    notices: list[str] = []
    skipped = False
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if skipped:
            skipped = False
        elif argument in _SPLITS and following in _NEEDS_GPUS:
            skipped = True
            notices.append(f"{argument} {following}: left out, this engine runs on the CPU")
        else:
            said.append(argument)
    return tuple(said), tuple(notices)
