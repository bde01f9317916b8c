"""Which known names an unknown one may have been meant for; none, rather than one that has little in common with it."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_LEAST_BEGUN = 3
"""Fewer letters than this begin too many names to mean one of them."""
_KEPT = 1024
"""Names that are compared again and again: options, routes, models."""
_LONGEST = 256
"""No name is longer; what is, was not mistyped."""


def alike(name: str, known: Iterable[str], *, most: int = 1) -> tuple[str, ...]:
    """The names of ``known`` that ``name`` may have been meant for, the likeliest first, at most so many.

    Case and punctuation do not count. A name is meant if it is mistyped (one letter in four too many, missing, wrong
    or swapped with its neighbour, and one in any name of three letters), begun and not ended, or made of the same
    words in another order; or if what was written is the name and at most as much again.
    """
    if not 0 < len(name) <= _LONGEST:
        return ()
    ranked = [(rank, one) for one in known if len(one) <= _LONGEST and (rank := _rank(name, one)) is not None]
    return tuple(one for _, one in sorted(ranked, key=lambda pair: pair[0])[:most])


def names_there(name: str, known: Sequence[str]) -> str:
    """All names that there are, as a hint to an unknown one, with the one that may have been meant before them."""
    near = alike(name, known)
    return (f"did you mean {near[0]}? " if near else "") + f"there are: {', '.join(known) or 'none that are listed'}"


def _rank(name: str, known: str) -> tuple[int, int] | None:
    """How far a known name is from what was written, less is nearer; None if it is not meant."""
    written, wanted = _letters(name), _letters(known)
    forgiven = _forgiven(max(len(written), len(wanted)))
    apart = abs(len(written) - len(wanted))
    # To count slips is slow, and anybody may ask for names that are not there: it ends where there are too many.
    slips = apart if apart > forgiven else _slips(written, wanted, forgiven)
    if slips <= forgiven:
        return 0, slips
    if _words(name) == _words(known):
        return 1, 0
    if len(written) >= _LEAST_BEGUN and wanted.startswith(written):
        return 2, slips
    if len(wanted) >= _LEAST_BEGUN and written.startswith(wanted) and len(written) <= 2 * len(wanted):
        return 3, slips
    if _words(known) > _words(name) and len(written) >= _LEAST_BEGUN and len(wanted) <= 2 * len(written):
        return 4, _slips(written, wanted, len(written) + len(wanted))
    return None


@lru_cache(maxsize=_KEPT)
def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


@lru_cache(maxsize=_KEPT)
def _words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(name))


def _forgiven(length: int) -> int:
    """So many slips a name of that length is known by nevertheless."""
    return 0 if length < 3 else max(1, length // 4)


def _slips(written: str, wanted: str, most: int) -> int:
    """Letters to insert, leave out, replace or swap with the next one (optimal string alignment).

    Of more than ``most`` it is only told that they are more.
    """
    before: list[int] = []
    last = list(range(len(wanted) + 1))
    for row, letter in enumerate(written, 1):
        now = [row]
        for column, other in enumerate(wanted, 1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != other))
            if before and column > 1 and letter == wanted[column - 2] and written[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        if min(now) > most and min(last) > most:  # the next row is made of these two
            return most + 1
        before, last = last, now
    return last[-1]
