"""The tokenizer: byte-level BPE as GPT-2 has it, trained on the corpus, and conversations as token ids."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.concierge.dialogue import CALL, CALL_END, END, START, Corpus, Piece, conversation

END_OF_TEXT = "<|endoftext|>"
SPECIALS = (END_OF_TEXT, START, END)
"""Control tokens, ids 0 to 2: never shown."""
MARKS = (CALL, CALL_END)
"""Whole tokens that are shown, ids 3 and 4: the engine reads tool calls by them."""
SIZE = 4000


def train_tokenizer(corpus: Corpus, *, seed: int, size: int = SIZE) -> Tokenizer:
    """A tokenizer of `size` tokens from 30,000 conversations drawn with `seed`."""
    tokenizer = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*SPECIALS, *MARKS],
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
    for wording in corpus.wordings:
        yield wording.say
    for _ in range(30_000):
        for piece in conversation(corpus, dice):
            yield piece.text


class Encoder:
    """Conversations as ids with loss weights; what people say is cut into smaller pieces now and then.

    Dropping merges while training (BPE-dropout, arXiv:1910.13267) lets the model read words it never saw whole.
    """

    def __init__(self, path: Path, *, dropout: float = 0.06) -> None:
        self.exact = Tokenizer.from_file(str(path))
        self.loose = Tokenizer.from_file(str(path))
        self.loose.model.dropout = dropout

    def encode(self, pieces: Iterable[Piece], *, loosely: bool) -> tuple[list[int], list[float]]:
        """Ids of `pieces` and the weight of predicting each."""
        ids: list[int] = []
        weights: list[float] = []
        for piece in pieces:
            tokenizer = self.loose if loosely and piece.typed else self.exact
            found = tokenizer.encode(piece.text).ids
            ids += found
            weights += [piece.weight] * len(found)
        return ids, weights
