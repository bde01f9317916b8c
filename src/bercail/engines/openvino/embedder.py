"""Embeddings by OpenVINO GenAI: texts that wait go through the model together, as many as a batch holds.

Source: openvino_genai 2026.4 (``TextEmbeddingPipeline``): it takes texts alone, pools in the graph, cuts nothing by
itself, and says nothing of texts that are longer than the table of positions; so they are counted before.
"""

import queue
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bercail.core.units import Tokens
from bercail.engines.embedding import Hear, Vector
from bercail.engines.openvino.parameters import Parameters
from bercail.engines.serving import keep_working


@dataclass(slots=True, eq=False)
class Job:
    """A request, from when it came until it is over.

    Attributes:
        left: places of texts that have no vector yet, the longest last.
        made: the vectors by place.
    """

    texts: Sequence[str]
    counts: Sequence[Tokens]
    hear: Hear
    left: list[int]
    made: dict[int, Vector] = field(default_factory=dict)
    unwanted: bool = False


def together(waiting: Sequence[Job], most: Tokens) -> list[tuple[Job, int]]:
    """Texts for the next batch, taken from those who wait in turn; one at least, however long it is.

    They are filled up to the longest of them, which counts as well.
    """
    batch: list[tuple[Job, int]] = []
    longest = 0
    taking = True
    while taking:
        taking = False
        for job in waiting:
            if not job.left:
                continue
            length = max(longest, job.counts[job.left[-1]])
            if not batch or length * (len(batch) + 1) <= most:
                batch.append((job, job.left.pop()))
                longest, taking = length, True
    return batch


class Embedder:
    """Implements ``embedding.Embeds``."""

    lacks = frozenset(("token ids",))

    def __init__(self, genai: Any, parameters: Parameters) -> None:
        self.name = f"OpenVINO GenAI {genai.__version__.partition('-')[0]}"
        self._batch_tokens = parameters.batch_tokens
        pipeline = genai.TextEmbeddingPipeline
        config = pipeline.Config()
        kinds = pipeline.PoolingType
        config.pooling_type = {"mean": kinds.MEAN, "cls": kinds.CLS, "last": kinds.LAST_TOKEN}[parameters.pooling]
        config.normalize = False  # what a client asks for is done to what the model made
        self._pipeline = pipeline(parameters.model_path, parameters.device, config, **parameters.properties)
        self._tokenizer = genai.Tokenizer(parameters.model_path)
        self.context_tokens = self._uncut(parameters.context_tokens)
        # Once, before there are threads: bindings look numpy up when it is first needed, and two threads that both do
        # so have waited for each other for ever.
        self.width = len(self._pipeline.embed_documents(["a"])[0])
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        keep_working(self._work, "pipeline")

    def counts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text."""
        return [int(self._tokenizer.encode([text]).input_ids.shape[1]) for text in texts]

    def embed(self, texts: Sequence[str], counts: Sequence[Tokens], hear: Hear) -> Callable[[], None]:
        """Make a vector of each text; see ``embedding.Embeds``."""
        job = Job(texts, counts, hear, left=sorted(range(len(texts)), key=lambda place: counts[place]))
        self._inbox.put(job)

        def cancel() -> None:
            job.unwanted = True

        return cancel

    def _uncut(self, context: Tokens) -> Tokens:
        """The context, or less: the tokenizer of a folder may cut texts, and then nobody can tell which it has cut."""
        (longest,) = self.counts(["a " * 2 * context])
        if longest > context:
            return context
        sys.stderr.write(f"its tokenizer cuts texts at {longest} tokens: from that many on they are refused\n")
        return longest - 1

    def _work(self) -> None:
        """Take what comes, make a batch of it, and go on with those who are not through."""
        waiting: list[Job] = []
        while True:
            while not waiting or not self._inbox.empty():
                waiting.append(self._inbox.get())
            waiting = [job for job in waiting if not job.unwanted]
            batch = together(waiting, self._batch_tokens)
            if batch:
                self._run(batch)
            # Whoever was first is last now, so that long lists do not keep short ones waiting.
            waiting = [job for job in (*waiting[1:], *waiting[:1]) if not self._over(job)]

    def _run(self, batch: Sequence[tuple[Job, int]]) -> None:
        """One batch; what goes wrong in it is the end of those who are in it, and the others go on."""
        try:
            vectors = self._pipeline.embed_documents([job.texts[place] for job, place in batch])
        except Exception as error:  # noqa: BLE001 - whatever the library has against it
            for job in {id(job): job for job, _ in batch}.values():
                job.unwanted = True
                job.hear(str(error))
            return
        for (job, place), vector in zip(batch, vectors, strict=True):
            job.made[place] = vector

    def _over(self, job: Job) -> bool:
        """Hand out what is complete; True when the request is over."""
        if not job.unwanted and not job.left:
            job.hear([job.made[place] for place in range(len(job.texts))])
        return job.unwanted or not job.left
