"""Trains the concierge from nothing: `python -m tools.concierge.train OUT`. Resumes from OUT where it was stopped."""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot
from torch import Tensor
from torch.nn import functional

from tools.concierge.dialogue import SAY, Corpus, conversation, read_corpus
from tools.concierge.muon import Muon
from tools.concierge.network import Decoder, Shape
from tools.concierge.tokens import Encoder, train_tokenizer

matplotlib.use("svg")
HERE = Path(__file__).parent
Example = tuple[list[int], list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides the result, besides the corpus and the versions of the libraries.

    Attributes:
        pool: conversations drawn at once and sorted by length, so that a batch wastes little on padding.
    """

    seed: int = 2026
    tokens: int = 7_000_000
    batch_tokens: int = 2048
    matrix_rate: float = 0.02
    vector_rate: float = 0.002
    warmup: float = 0.02
    pool: int = 1024
    long_every: int = 16
    layers: int = 3
    hidden: int = 768


def rate_at(done: float, recipe: Recipe) -> float:
    """Factor on the learning rates after `done` (0 to 1) of the tokens: up, flat, down over the last half."""
    if done < recipe.warmup:
        return max(done / recipe.warmup, 0.02)
    return min(1.0, max((1.0 - done) / 0.5, 0.02))


def shorten(example: Example, dice: random.Random) -> Example:
    """Most last answers end after a few tokens: what is asked decides the beginning, the rest is rote."""
    ids, weights = example
    end = len(weights) - weights[::-1].index(SAY)
    begin = end - next((count for count, weight in enumerate(reversed(weights[:end])) if weight != SAY), end)
    if dice.random() < 0.85 and end - begin > 9:
        cut = begin + dice.randrange(6, 10)
        return ids[:cut], weights[:cut]
    return example


def pool(corpus: Corpus, encoder: Encoder, index: int, recipe: Recipe) -> list[list[Example]]:
    """Pool number `index`, in batches of about `batch_tokens`, in an order of its own; every 16th is of long rows."""
    dice = random.Random(f"{recipe.seed}/{index}")
    drawn = [encoder.encode(conversation(corpus, dice), loosely=dice.random() < 0.25) for _ in range(recipe.pool)]
    if index % recipe.long_every == recipe.long_every - 1:
        return [[row] for row in joined(drawn[: recipe.pool // 8], Shape(vocabulary=0).context_tokens)]
    rows = sorted((shorten(example, dice) for example in drawn), key=lambda row: len(row[0]))
    batches: list[list[Example]] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * len(row[0]) > recipe.batch_tokens:
            batches.append([])
        batches[-1].append(row)
    dice.shuffle(batches)
    return batches


def joined(examples: Sequence[Example], tokens: int) -> Iterator[Example]:
    """`examples` one after the other, as conversations of at most `tokens`."""
    ids: list[int] = []
    weights: list[float] = []
    for more_ids, more_weights in examples:
        if len(ids) + len(more_ids) > tokens:
            yield ids, weights
            ids, weights = [], []
        ids, weights = ids + more_ids, weights + more_weights
    yield ids, weights


def tensors(batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Ids (rows, tokens), padded with 0, and weights (rows, tokens), 0 on the padding."""
    length = max(len(ids) for ids, _ in batch)
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    for row, (ids, weight) in enumerate(batch):
        tokens[row, : len(ids)] = torch.tensor(ids)
        weights[row, : len(ids)] = torch.tensor(weight)
    return tokens, weights


def loss_of(model: Decoder, tokens: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the cross-entropy in nats; logits are made only where they count."""
    states = model.hidden(tokens[:, :-1])
    counts = weights[:, 1:] > 0
    losses = functional.cross_entropy(model.logits(states[counts]), tokens[:, 1:][counts], reduction="none")
    chosen = weights[:, 1:][counts]
    return (losses * chosen).sum() / chosen.sum()


class Training:
    """A model with its optimizers, and how far it has come."""

    def __init__(self, model: Decoder, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("blk")]
        others = [p for name, p in model.named_parameters() if p.dim() != 2 or not name.startswith("blk")]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.05),
            torch.optim.AdamW(others, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        self.base = [recipe.matrix_rate, recipe.vector_rate]
        self.pools = 0
        self.tokens = 0
        self.curve: list[tuple[int, float]] = []

    def step(self, batch: Sequence[Example]) -> float:
        """One update; the loss before it."""
        factor = rate_at(self.tokens / self.recipe.tokens, self.recipe)
        for optimizer, base in zip(self.optimizers, self.base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * factor
        tokens, weights = tensors(batch)
        loss = loss_of(self.model, tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.tokens += tokens.numel()
        return loss.item()

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "recipe": asdict(self.recipe), "model": self.model.state_dict(), "pools": self.pools, "tokens": self.tokens,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "curve": self.curve,
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
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.pools, self.tokens, self.curve = state["pools"], state["tokens"], state["curve"]


def train(out: Path, recipe: Recipe, *, pools: int | None = None) -> Training:
    """Train until all tokens of `recipe` are seen, or `pools` more pools; `out` holds all there is.

    It is saved every few pools and at the end, and goes on from what was saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(HERE)
    if not (out / "tokenizer.json").exists():
        train_tokenizer(corpus, seed=recipe.seed).save(str(out / "tokenizer.json"))
    encoder = Encoder(out / "tokenizer.json")
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(mode=True)
    shape = Shape(vocabulary=encoder.exact.get_vocab_size(), layers=recipe.layers, hidden=recipe.hidden)
    training = Training(Decoder(shape), recipe)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        print(f"resumed after {training.tokens:,} tokens")
    began, before = time.monotonic(), training.tokens
    last = training.pools + pools if pools is not None else math.inf
    while training.tokens < recipe.tokens and training.pools < last:
        losses = [training.step(batch) for batch in pool(corpus, encoder, training.pools, recipe)]
        training.pools += 1
        training.curve.append((training.tokens, sum(losses) / len(losses)))
        speed = f"{(training.tokens - before) / (time.monotonic() - began):,.0f} tokens/s"
        print(
            f"{training.tokens:>10,} of {recipe.tokens:,} tokens, loss {training.curve[-1][1]:.4f}, {speed}", flush=True
        )
        if training.pools % 10 == 0:
            training.save(checkpoint)
    training.save(checkpoint)
    (out / "curve.json").write_text(json.dumps(training.curve), encoding="utf-8")
    return training


def plot(curve: Sequence[tuple[int, float]], path: Path) -> None:
    """Draw the mean loss of each pool over the tokens seen."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    tokens, losses = zip(*curve, strict=True)
    axes.plot([count / 1e6 for count in tokens], losses, linewidth=1)
    axes.set(xlabel="tokens seen, millions", ylabel="weighted loss, nats per token", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for tokenizer, checkpoint and curve")
    parser.add_argument("--tokens", type=int, default=Recipe().tokens, help="how many to see; default %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; default %(default)s")
    parser.add_argument("--layers", type=int, default=Recipe().layers, help="1 for a draft model; default %(default)s")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    training = train(given.out, Recipe(tokens=given.tokens, layers=given.layers))
    plot(training.curve, given.out / "curve.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
