"""Trains the concierge from nothing: `python -m tools.concierge.train OUT`. Resumes from OUT where it was stopped."""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot
from torch import Tensor
from torch.nn import functional

from tools.concierge.dialogue import HEAR, Corpus, Piece, conversation, read_corpus, subject, turn
from tools.concierge.network import Decoder, Shape
from tools.concierge.tokens import Encoder, Example, train_tokenizer
from tools.concierge.warm import Asked, warm_start

matplotlib.use("svg")
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides the result, besides the corpus and the versions of the libraries.

    Attributes:
        decay: of the weights, apart from the gradient.
        cut: share of the conversations whose words are cut into smaller pieces here and there.
        naming: weight of the token that names the subject; every token of the answer weighs 1.
        warm_questions: how many the warm start sees.
        plain: share of the tokens that are single questions, before conversations and tools come in.
        whole: share of the rows that end with a whole answer; the others end where its subject is named.
        pool: conversations drawn at once and sorted by length, so that a batch wastes little on padding.
    """

    seed: int = 2026
    tokens: int = 9_000_000
    batch_tokens: int = 2048
    rate: float = 0.0007
    warmup: float = 0.02
    decay: float = 0.05
    cut: float = 0.15
    naming: float = 8.0
    warm_questions: int = 120_000
    plain: float = 0.5
    whole: float = 0.4
    pool: int = 1024
    long_every: int = 16
    layers: int = 3
    hidden: int = 768


REFRESH = Recipe(tokens=200_000, rate=0.0001, plain=0.0)
"""For weights that are trained already, where some of the text has changed."""


def rate_at(done: float, recipe: Recipe) -> float:
    """Learning rate after `done` (0 to 1) of the tokens: up, flat, down over the second half."""
    if done < recipe.warmup:
        return recipe.rate * max(done / recipe.warmup, 0.02)
    return recipe.rate * min(1.0, max((1.0 - done) / 0.5, 0.02))


def shorten(example: Example, encoder: Encoder) -> Example:
    """`example` up to the last token that names a subject; whole, if tools are called: what they return is not rote."""
    if encoder.call in example.ids:
        return example
    end = max(index for index, token in enumerate(example.ids) if token in encoder.subjects) + 1
    return Example(example.ids[:end], example.weights[:end])


def pool(corpus: Corpus, encoder: Encoder, index: int, recipe: Recipe, *, plain: bool) -> list[list[Example]]:
    """Pool number `index`, in batches of about `batch_tokens`, in an order of its own.

    A `plain` one has single questions; of the others every 16th is of long rows.
    """
    dice = random.Random(f"{recipe.seed}/{index}")
    drawn = []
    for _ in range(recipe.pool):
        pieces = turn(corpus, dice) if plain else conversation(corpus, dice)
        drawn.append(encoder.encode(pieces, dice if dice.random() < recipe.cut else None))
    if not plain and index % recipe.long_every == recipe.long_every - 1:
        return [[row] for row in joined(drawn[: recipe.pool // 8], Shape(vocabulary=0).context_tokens)]
    rows = [example if dice.random() < recipe.whole else shorten(example, encoder) for example in drawn]
    rows.sort(key=lambda row: len(row.ids))
    batches: list[list[Example]] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * len(row.ids) > recipe.batch_tokens:
            batches.append([])
        batches[-1].append(row)
    dice.shuffle(batches)
    return batches


def joined(examples: Sequence[Example], tokens: int) -> Iterator[Example]:
    """`examples` one after the other, as conversations of at most `tokens`."""
    row = Example([], [])
    for example in examples:
        if len(row.ids) + len(example.ids) > tokens:
            yield row
            row = Example([], [])
        row.ids.extend(example.ids)
        row.weights.extend(example.weights)
    yield row


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as tensors, padded with 0.

    Attributes:
        tokens: (rows, tokens).
        weights: (rows, tokens) of predicting each; 0 on the padding.
    """

    tokens: Tensor
    weights: Tensor


def batch_of(examples: Sequence[Example]) -> Batch:
    """The `examples`, one to a row."""
    length = max(len(example.ids) for example in examples)
    tokens = torch.zeros(len(examples), length, dtype=torch.long)
    weights = torch.zeros(len(examples), length)
    for row, example in enumerate(examples):
        tokens[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, : len(example.ids)] = torch.tensor(example.weights)
    return Batch(tokens, weights)


def losses_of(model: Decoder, batch: Batch, subjects: range) -> tuple[Tensor, Tensor]:
    """Cross-entropies in nats of every token to write and every subject to name; logits are made only there."""
    states = model.hidden(batch.tokens[:, :-1])
    counts = batch.weights[:, 1:] > 0
    targets = batch.tokens[:, 1:][counts]
    losses = functional.cross_entropy(model.logits(states[counts]), targets, reduction="none")
    named = (targets >= subjects.start) & (targets < subjects.stop)
    return losses[~named], losses[named]


class Training:
    """A model with its optimizers, and how far it has come."""

    def __init__(self, model: Decoder, subjects: range, recipe: Recipe) -> None:
        self.model = model
        self.subjects = subjects
        self.recipe = recipe
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.dim() == 2], "weight_decay": recipe.decay},
                {"params": [p for p in self.parameters if p.dim() != 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.pools = 0
        self.tokens = 0
        self.curve: list[tuple[int, float, float]] = []

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One update; the losses before it, as `losses_of` gives them.

        All that is written counts alike, and all that is named: a mean over a batch would favour the few in long rows.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.tokens / self.recipe.tokens, self.recipe)
        written, named = losses_of(self.model, batch, self.subjects)
        ((written.sum() + self.recipe.naming * named.sum()) / self.recipe.batch_tokens).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tokens += batch.tokens.numel()
        return written.detach(), named.detach()

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "recipe": asdict(self.recipe), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "pools": self.pools, "tokens": self.tokens, "curve": self.curve,
        }  # fmt: skip
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from the checkpoint at `path`.

        Raises:
            SystemExit: it is of another recipe.
        """
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{path} is of another recipe: {state['recipe']}; name another folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pools, self.tokens, self.curve = state["pools"], state["tokens"], state["curve"]


def questions(corpus: Corpus, encoder: Encoder, recipe: Recipe) -> list[Asked]:
    """Questions for the warm start, each with the token of its subject."""
    dice = random.Random(f"{recipe.seed}/warm")
    drawn: list[Asked] = []
    for _ in range(recipe.warm_questions):
        ask, about, _ = corpus.question(dice)
        asked = [Piece(ask, HEAR, typed=True)]
        example = encoder.encode(asked, dice if dice.random() < recipe.cut else None)
        drawn.append((example.ids, encoder.exact.token_to_id(subject(about))))
    return drawn


def train(out: Path, recipe: Recipe, *, pools: int | None = None, origin: Path | None = None) -> Training:
    """Train until all tokens of `recipe` are seen, or `pools` more pools; `out` holds all there is.

    It is saved every few pools and at the end, and goes on from what was saved.

    Args:
        out: folder for tokenizer, checkpoint and curve.
        recipe: what decides the result.
        pools: to stop after.
        origin: folder of an earlier training whose weights and tokenizer are taken over, instead of a warm start.
    """
    out.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(HERE)
    if origin is not None:
        (out / "tokenizer.json").write_bytes((origin / "tokenizer.json").read_bytes())
    if not (out / "tokenizer.json").exists():
        train_tokenizer(corpus, seed=recipe.seed).save(str(out / "tokenizer.json"))
    encoder = Encoder(out / "tokenizer.json")
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(mode=True)
    shape = Shape(vocabulary=encoder.exact.get_vocab_size(), layers=recipe.layers, hidden=recipe.hidden)
    training = Training(Decoder(shape), encoder.subjects, recipe)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        print(f"resumed after {training.tokens:,} tokens")
    elif origin is not None:
        training.model.load_state_dict(torch.load(origin / "checkpoint.pt", weights_only=True)["model"])
    else:
        drawn = questions(corpus, encoder, recipe)
        loss = warm_start(training.model, drawn, encoder.subjects, seed=recipe.seed)
        print(f"warm start: loss {loss:.4f}", flush=True)
    began, before = time.monotonic(), training.tokens
    last = training.pools + pools if pools is not None else math.inf
    while training.tokens < recipe.tokens and training.pools < last:
        plain = training.tokens < recipe.plain * recipe.tokens
        batches = pool(corpus, encoder, training.pools, recipe, plain=plain)
        losses = [training.step(batch_of(rows)) for rows in batches]
        training.pools += 1
        writing, naming = (torch.cat(part).mean().item() for part in zip(*losses, strict=True))
        training.curve.append((training.tokens, writing, naming))
        speed = f"{(training.tokens - before) / (time.monotonic() - began):,.0f} tokens/s"
        print(
            f"{training.tokens:>10,} of {recipe.tokens:,} tokens, loss {writing:.4f}, subject {naming:.4f}, {speed}",
            flush=True,
        )
        if training.pools % 10 == 0:
            training.save(checkpoint)
    training.save(checkpoint)
    (out / "curve.json").write_text(json.dumps(training.curve), encoding="utf-8")
    return training


def plot(curve: Sequence[tuple[int, float, float]], path: Path) -> None:
    """Draw the mean losses of each pool over the tokens seen."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    tokens, writing, naming = zip(*curve, strict=True)
    millions = [count / 1e6 for count in tokens]
    axes.plot(millions, writing, linewidth=1, label="writing the answer, per token")
    axes.plot(millions, naming, linewidth=1, label="naming its subject, per answer")
    axes.set(xlabel="tokens seen, millions", ylabel="cross-entropy, nats", yscale="log")
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for tokenizer, checkpoint and curve")
    parser.add_argument(
        "--tokens", type=int, help=f"how many to see; default {Recipe().tokens}, with --from {REFRESH.tokens}"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; default %(default)s")
    parser.add_argument("--layers", type=int, default=Recipe().layers, help="1 for a draft model; default %(default)s")
    parser.add_argument(
        "--from", type=Path, dest="origin", help="folder of a training to go on from, when its text has changed"
    )
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    recipe = REFRESH if given.origin else Recipe()
    recipe = replace(recipe, tokens=given.tokens or recipe.tokens, layers=given.layers)
    training = train(given.out, recipe, origin=given.origin)
    plot(training.curve, given.out / "curve.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
