"""The tokenizer: byte-level BPE as GPT-2 has it, trained on the corpus, and conversations as token ids."""

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.concierge.dialogue import CALL, CALL_END, END, START, Corpus, Piece, conversation, subject

END_OF_TEXT = "<|endoftext|>"
SPECIALS = (END_OF_TEXT, START, END)
"""Control tokens, ids 0 to 2: never shown."""
MARKS = (CALL, CALL_END)
"""Whole tokens that are shown, ids 3 and 4: the engine reads tool calls by them."""
SIZE = 4000


def is_subject(token: str) -> bool:
    """Whether `token` names what an answer is about: a control token, one of those after the marks."""
    return token.startswith("<|") and token not in SPECIALS


def train_tokenizer(corpus: Corpus, *, seed: int, size: int = SIZE) -> Tokenizer:
    """A tokenizer of `size` tokens, those of the subjects among them, from 30,000 conversations drawn with `seed`."""
    tokenizer = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*SPECIALS, *MARKS, *map(subject, corpus.kinds)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus, random.Random(seed)), trainer)
    return tokenizer


def _tokenizer(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _texts(corpus: Corpus, dice: random.Random) -> Iterator[str]:
    whole = re.compile("|".join((r"<\|.+?\|>", *map(re.escape, MARKS))))
    for wording in corpus.wordings:
        yield wording.say
    for _ in range(30_000):
        for piece in conversation(corpus, dice):
            yield from whole.split(piece.text)


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to train on.

    Attributes:
        ids: its tokens.
        weights: of predicting each.
    """

    ids: list[int]
    weights: list[float]


class Encoder:
    """Conversations as ids; what people type is cut into smaller pieces now and then.

    Undoing merges while training lets the model read words it never saw whole, as BPE-dropout does (arXiv:1910.13267);
    the dice are the caller's, so the same seed cuts the same way.
    """

    def __init__(self, path: Path, *, cut: float = 0.06) -> None:
        self.exact = Tokenizer.from_file(str(path))
        self.cut = cut
        vocabulary = self.exact.get_vocab()
        named = sorted(number for token, number in vocabulary.items() if is_subject(token))
        self.call = vocabulary[CALL]
        self.subjects = range(named[0], named[-1] + 1)
        merges = json.loads(path.read_text(encoding="utf-8"))["model"]["merges"]
        self.halves = {vocabulary[left + right]: (vocabulary[left], vocabulary[right]) for left, right in merges}

    def encode(self, pieces: Iterable[Piece], dice: random.Random | None = None) -> Example:
        """`pieces` as tokens; with `dice`, words that were typed are cut."""
        example = Example([], [])
        for piece in pieces:
            found = self.exact.encode(piece.text).ids
            if dice and piece.typed:
                found = [part for token in found for part in self.pieces_of(token, dice)]
            example.ids.extend(found)
            example.weights.extend([piece.weight] * len(found))
        return example

    def pieces_of(self, token: int, dice: random.Random) -> list[int]:
        """`token`, or the two it was merged from, and those cut likewise."""
        if token not in self.halves or dice.random() >= self.cut:
            return [token]
        return [part for half in self.halves[token] for part in self.pieces_of(half, dice)]
