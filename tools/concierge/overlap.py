"""How much of the held-out questions' wording the training text has seen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from tools.concierge.dialogue import Corpus
from tools.concierge.judge import Question
from tools.concierge.text import Choice, without_accents

LENGTHS = (1, 2, 3, 4, 5)


def sentences(choice: Choice) -> Iterator[str]:
    """All sentences that `choice` stands for."""
    for option in choice.options:
        parts = [list(sentences(part)) if isinstance(part, Choice) else [part] for part in option]
        for chosen in product(*parts):
            yield "".join(chosen)


def words(text: str) -> tuple[str, ...]:
    """The words of `text`, without case, accents and punctuation."""
    return tuple(re.findall(r"\w+", without_accents(text).lower()))


def grams(found: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """All runs of `length` words."""
    return {tuple(found[at : at + length]) for at in range(len(found) - length + 1)}


def overlap(questions: Sequence[Question], corpus: Corpus) -> Mapping[str, Mapping[str, object]]:
    """By kind of question: how many are word for word in the training text, and what share of their n-grams occurs.

    Every sentence that the patterns of the corpus stand for counts as seen, whether training drew it or not; what
    `manner.yaml` makes of them (synonyms, openings, slips) is not counted.
    """
    whole: set[tuple[str, ...]] = set()
    seen: dict[int, set[tuple[str, ...]]] = {length: set() for length in LENGTHS}
    for choice in _patterns(corpus):
        for sentence in sentences(choice):
            found = words(sentence)
            whole.add(found)
            for length in LENGTHS:
                seen[length] |= grams(found, length)
    return {kind: _of([q for q in questions if q.kind == kind], whole, seen) for kind in ("known", "unknown", "tools")}


def _patterns(corpus: Corpus) -> Iterator[Choice]:
    for wording in corpus.wordings:
        yield from wording.asks
    for choices in (*corpus.refusals.values(), *corpus.calls.values()):
        yield from choices


def _of(
    questions: Sequence[Question], whole: set[tuple[str, ...]], seen: Mapping[int, set[tuple[str, ...]]]
) -> Mapping[str, object]:
    asked = [words(question.ask) for question in questions]
    shares = {}
    for length in LENGTHS:
        found = [gram for one in asked for gram in grams(one, length)]
        shares[str(length)] = round(sum(gram in seen[length] for gram in found) / max(len(found), 1), 3)
    return {"questions": len(asked), "word_for_word": sum(one in whole for one in asked), "ngrams_seen": shares}
