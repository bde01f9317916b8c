"""What file names tell: ids, parts of a set, and which projector goes with which model."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from bercail.readers.gguf.describe import identity

_WORD = re.compile(r"[a-z0-9]+")
_EMPTY_WORDS = frozenset(("mmproj", "model", "gguf", "proj", "vision", "f16", "fp16", "bf16", "f32", "fp32", "q8", "0"))
_PREFERRED = ("f16", "fp16", "bf16", "q8_0", "f32", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model a search came across.

    Attributes:
        id: from its name; not yet unique.
        path: the (first) file, as found.
        real_path: the same without symbolic links: one model has one.
        owner: what tells it from a namesake: the folder or repository that holds it.
        source: who keeps it there.
        bytes: all parts.
        projector: the ``mmproj`` that goes with it.
    """

    id: str
    path: str
    real_path: str
    owner: str
    source: str
    bytes: int
    projector: str | None = None


def is_projector(name: str) -> bool:
    """Whether a file is a projector by its name."""
    return "mmproj" in name.lower()


def is_imatrix(name: str) -> bool:
    """Whether a file is an importance matrix by its name: GGUF, but no model."""
    return "imatrix" in name.lower()


def choose_projector(model: str, projectors: Sequence[str], models: Iterable[str]) -> str | None:
    """Which of the projectors beside a model goes with it, by their names alone; None if each goes with another.

    A projector whose name says nothing but its type (``mmproj-F16.gguf``) goes with every model of the folder, and so
    does one whose name fits none of them. Of several, the one with most words of the model's beginning wins, then f16.
    """
    others = list(models)
    fitting: list[tuple[int, int, str]] = []
    for projector in projectors:
        words = [word for word in _words(projector) if word not in _EMPTY_WORDS]
        score = _shared_beginning(words, model)
        if score or not words or not any(_shared_beginning(words, other) for other in others):
            fitting.append((-score, _preference(projector), projector))
    return min(fitting)[2] if fitting else None


def unique(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[str]]:
    """The candidates with different ids, and words about those that had to change."""
    found = list(candidates)
    counts = Counter(candidate.id for candidate in found)
    taken = {candidate.id for candidate in found if counts[candidate.id] == 1}
    result: list[Candidate] = []
    words: list[str] = []
    for candidate in found:
        if counts[candidate.id] == 1:
            result.append(candidate)
            continue
        name = _free(f"{candidate.owner}/{candidate.id}" if candidate.owner else candidate.id, taken)
        taken.add(name)
        words.append(f"several models are named {candidate.id}; the one at {candidate.path} is listed as {name}")
        result.append(replace(candidate, id=name))
    return result, words


def model_id(name: str) -> str:
    """The name clients use for a file of this name."""
    return identity(name)


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name}-{number}"
        number += 1
    return free


def _words(name: str) -> list[str]:
    return _WORD.findall(PurePath(name).name.lower())


def _shared_beginning(words: Sequence[str], model: str) -> int:
    """How many words two names begin with in common."""
    count = 0
    for ours, theirs in zip(words, _words(model), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _preference(projector: str) -> int:
    lower = projector.lower()
    # "bf16" holds "f16": the longer word is looked for first.
    if "bf16" in lower:
        return _PREFERRED.index("bf16")
    return next((rank for rank, kind in enumerate(_PREFERRED) if kind in lower), len(_PREFERRED))
