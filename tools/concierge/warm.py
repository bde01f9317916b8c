"""Where the training begins: embeddings that already tell what a question is about, and a layer that gathers them.

A decoder that starts from noise spends most of a short training on finding out which words matter. A linear classifier
of the mean embedding (fastText, arXiv:1607.01759) finds that out in a minute; the decoder begins with its embeddings.
"""

import random
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from tools.concierge.network import Decoder

BATCH = 512
EPOCHS = 3
RATE = 0.01
SHARPNESS = 32.0
"""Factor on the mean of unit vectors: more of it makes the classifier surer at the same length of its weights."""
DROPPED = 0.2
"""Share of the mean embedding's values that are left out while learning."""
SPREAD = 0.08
"""Standard deviation of the embeddings at the start: smaller ones are soon overwritten, larger ones learn slowly."""
SURENESS = 0.2
"""Standard deviation of the embeddings of subjects at the start: as sure as they are right."""


Asked = tuple[list[int], int]
"""A question as token ids, and the token of its subject."""


def warm_start(model: Decoder, questions: Sequence[Asked], subjects: range, *, seed: int) -> float:
    """Set embeddings of `model`, those of the `subjects` too, and its first attention by a classifier of `questions`.

    Returns:
        Mean cross-entropy in nats of the classifier in its last round.

    Raises:
        ValueError: the questions do not fill one batch.
    """
    if len(questions) < BATCH:
        raise ValueError(f"a warm start needs {BATCH} questions at least, not {len(questions)}")
    embedding = nn.Embedding(*model.token_embd.weight.shape)
    head = nn.Linear(embedding.embedding_dim, len(subjects))
    nn.init.normal_(embedding.weight, std=0.1)
    numbered = [(ids, subject - subjects.start) for ids, subject in questions]
    loss = classify(embedding, head, numbered, random.Random(seed))
    seen = torch.zeros(embedding.num_embeddings, 1, dtype=torch.bool)
    seen[torch.tensor(sorted({token for ids, _ in questions for token in ids}))] = True
    with torch.no_grad():
        scaled = functional.normalize(embedding.weight) * SPREAD * embedding.embedding_dim**0.5
        model.token_embd.weight.copy_(torch.where(seen, scaled, 0.01 * model.token_embd.weight))
        model.token_embd.weight[subjects.start : subjects.stop] = head.weight * (SURENESS / head.weight.std())
        gather(model)
    return loss


def classify(embedding: nn.Embedding, head: nn.Linear, questions: Sequence[Asked], dice: random.Random) -> float:
    """Teach `embedding` and `head` to name the subjects of `questions`, numbered from 0.

    Returns:
        Mean cross-entropy in nats of the last round.

    What is averaged are unit vectors, for the decoder norms what it attends to.
    """
    optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()])
    order = list(questions)
    batches = len(order) // BATCH
    losses: list[float] = []
    for epoch in range(EPOCHS):
        dice.shuffle(order)
        losses = []
        for index in range(batches):
            rows = order[index * BATCH : (index + 1) * BATCH]
            optimizer.param_groups[0]["lr"] = RATE * (1 - (epoch * batches + index) / (EPOCHS * batches))
            begins = torch.tensor([0, *(len(ids) for ids, _ in rows[:-1])]).cumsum(0)
            tokens = torch.tensor([token for ids, _ in rows for token in ids])
            mean = functional.embedding_bag(tokens, functional.normalize(embedding.weight), begins, mode="mean")
            logits = head(functional.dropout(SHARPNESS * mean, DROPPED))
            loss = functional.cross_entropy(logits, torch.tensor([subject for _, subject in rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


def gather(model: Decoder) -> None:
    """Let the first attention begin as a mean over what was read: values taken over some directions, then put back."""
    block, shape = model.blk[0], model.shape
    copies = shape.heads // shape.kv_heads
    directions = torch.linalg.qr(torch.randn(shape.width, shape.width))[0]
    block.attn_v.weight.copy_(directions[: shape.kv_heads * shape.head])
    for head in range(shape.heads):
        taken = slice(head // copies * shape.head, (head // copies + 1) * shape.head)
        block.attn_output.weight[:, head * shape.head : (head + 1) * shape.head] = directions[taken].T / copies
    block.attn_q.weight.mul_(0.1)
