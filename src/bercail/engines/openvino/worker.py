"""The child that hosts OpenVINO GenAI. Nothing else in the package imports ``openvino_genai``.

Source: openvino_genai 2026.4 (``ContinuousBatchingPipeline``, ``SchedulerConfig``, ``GenerationConfig``);
what embeds is in ``embedder``.
"""

import os
import queue
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bercail.core.units import Tokens
from bercail.engines.exchange import FAILED
from bercail.engines.generating import Hears
from bercail.engines.interface import Library as Served
from bercail.engines.openvino.embedder import Embedder
from bercail.engines.openvino.parameters import BLOCK_TOKENS, LACKS, Parameters
from bercail.engines.openvino.stepping import stepper
from bercail.engines.question import Question
from bercail.engines.serving import keep_working, live


@dataclass(slots=True, eq=False)
class _Running:
    """A request, from when it came until it is over."""

    config: Any
    hearer: Hears
    most: Tokens
    ids: list[int]
    handle: Any = None
    count: int = 0
    unwanted: bool = False


@dataclass(slots=True)
class Pool:
    """Which tokens lie in the cache, as far as is certain: as long as nothing had to be thrown out."""

    room: Tokens
    kept: list[list[int]] = field(default_factory=list)
    full: bool = False

    def add(self, ids: list[int]) -> None:
        """Remember a request that was worked on to its end; of its last token nothing is in the cache."""
        if self.full:
            return
        self.kept.append(ids[:-1])
        if sum(map(len, self.kept)) > self.room:
            self.full = True
            self.kept.clear()

    def shared(self, ids: Sequence[int]) -> Tokens:
        """Of ``ids``, the whole blocks at the beginning that are there; the last token is always computed."""
        best = 0
        for other in self.kept:
            most = min(len(other), len(ids) - 1)
            same = next((place for place in range(most) if other[place] != ids[place]), most)
            best = max(best, same)
        return best // BLOCK_TOKENS * BLOCK_TOKENS


class Library:
    """Implements ``generating.Generates`` with a pipeline that batches whatever runs at once."""

    lacks = frozenset(LACKS)

    def __init__(self, genai: Any, parameters: Parameters) -> None:
        self._genai = genai
        self.name = f"OpenVINO GenAI {genai.__version__.partition('-')[0]}"
        self.context_tokens = parameters.context_tokens
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = parameters.blocks
        scheduler.max_num_batched_tokens = parameters.batch_tokens
        scheduler.max_num_seqs = parameters.slots
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        self._pipeline = genai.ContinuousBatchingPipeline(
            parameters.model_path, scheduler, parameters.device, parameters.properties
        )
        self._step_once = stepper(genai, self._pipeline)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._pool = Pool(parameters.blocks * BLOCK_TOKENS)
        # Once, before there are threads: bindings look numpy up when it is first needed, and two threads that both do
        # so have waited for each other for ever.
        self._tensor(self.text_ids(self.text_of(self.text_ids("a"))))
        self._slots = parameters.slots
        self._inbox: queue.SimpleQueue[_Running] = queue.SimpleQueue()
        self._line: deque[_Running] = deque()
        keep_working(self._work, "pipeline")

    def chat_ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation.

        Raises:
            ValueError: the template refuses it.
        """
        try:
            text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        return self.text_ids(text, special=False)

    def text_ids(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text."""
        found = self._tokenizer.encode([text], add_special_tokens=special)
        return [int(number) for number in found.input_ids.data[0]]

    def text_of(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not special)) if ids else ""

    def begin(self, ids: Sequence[int], most: Tokens, question: Question, hearer: Hears) -> Callable[[], None]:
        """Generate; see ``generating.Generates``."""
        running = _Running(config=self._config(most, question), hearer=hearer, most=most, ids=list(ids))
        self._inbox.put(running)

        def cancel() -> None:
            running.unwanted = True

        return cancel

    def _config(self, most: Tokens, question: Question) -> Any:
        config = self._genai.GenerationConfig()
        config.apply_chat_template = False
        config.max_new_tokens = most
        config.ignore_eos = question.ignore_eos
        if not question.ignore_eos:
            config.set_eos_token_id(self._tokenizer.get_eos_token_id())
            config.stop_token_ids = set(self._pipeline.get_config().stop_token_ids) | {config.eos_token_id}
        config.do_sample = question.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p, config.min_p = question.temperature, question.top_p, question.least_p
            if question.top_k > 0:
                config.top_k = question.top_k
            config.rng_seed = question.seed if question.seed is not None else int.from_bytes(os.urandom(4), "big")
        config.presence_penalty = question.presence_penalty
        config.frequency_penalty = question.frequency_penalty
        config.repetition_penalty = question.repeat_penalty
        if question.schema is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(json_schema=question.schema)
        return config

    def _work(self) -> None:
        """Take what comes, step the pipeline as long as there is something to do, and hand out what it made.

        All of it in one thread: what the library allows while another thread steps, it does not say.
        """
        running: list[_Running] = []
        numbers = count(1)
        while True:
            while not (running or self._line) or not self._inbox.empty():
                self._line.append(self._inbox.get())
            while self._line and len(running) < self._slots:
                if self._add(one := self._line.popleft(), next(numbers)):
                    running.append(one)
            self._step()
            over = {one for one in running if self._hand_out(one)}
            running = [one for one in running if one not in over]
            if any(one.unwanted for one in over):
                self._step()

    def _step(self) -> None:
        """Let the pipeline work, once; that is also what takes out of it those that were cancelled before."""
        if self._pipeline.has_non_finished_requests():
            self._step_once()

    def _add(self, one: _Running, number: int) -> bool:
        """Hand a request to the pipeline, which ignores those for whom it has no place: never more than it has slots.

        False if it was not wanted any more.
        """
        if one.unwanted:
            one.hearer.heard([], "stop")
            return False
        one.hearer.begun(self._pool.shared(one.ids))
        one.handle = self._pipeline.add_request(number, self._tensor(one.ids), one.config)
        return True

    def _tensor(self, ids: Sequence[int]) -> Any:
        import numpy
        from openvino import Tensor

        return Tensor(numpy.array([list(ids)], dtype=numpy.int64))

    def _hand_out(self, one: _Running) -> bool:
        """Pass on what is new; True when the request is over."""
        status = one.handle.get_status()
        new: list[int] = []
        while one.handle.can_read():
            for output in one.handle.read().values():
                new += [int(number) for number in output.generated_ids]
        one.count += len(new)
        one.ids += new
        over = one.unwanted or status != self._genai.GenerationStatus.RUNNING
        if one.unwanted:
            one.handle.cancel()
        elif over:
            self._pool.add(one.ids)
        if new or over:
            one.hearer.heard(new, self._ending(one, status) if over else None)
        return over

    def _ending(self, one: _Running, status: Any) -> str:
        """Why it is over; see ``generating.Generates``."""
        if status == self._genai.GenerationStatus.IGNORED:
            return f"{FAILED}the pipeline had no room for it"
        return "length" if one.count >= one.most else "stop"


def without_telemetry() -> None:
    """Whoever wants to import OpenVINO's telemetry from now on cannot."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # this is how an import is forbidden


def load(values: Mapping[str, Any]) -> Served:
    """The library with the model that the parameters name.

    Raises:
        ImportError: it is not installed.
    """
    without_telemetry()
    import openvino_genai as genai

    parameters = Parameters.read(values)
    return Embedder(genai, parameters) if parameters.pooling else Library(genai, parameters)


if __name__ == "__main__":
    live(load)
