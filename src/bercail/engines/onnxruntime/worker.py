"""The child that hosts ONNX Runtime GenAI. Nothing else in the package imports ``onnxruntime_genai``.

Its own engine for many requests batches only models that were exported with paged attention, which those for CPUs are
not; and its other one lets nobody join a batch that runs. So each request has a generator of its own here, and those
that run have their steps in turn: nobody waits for another to end, but two answers at once take twice as long each.

Source: onnxruntime_genai 0.18 (``Generator``, ``GeneratorParams``, ``Config.overlay``).
"""

import json
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bercail.core.units import Tokens
from bercail.engines.exchange import FAILED
from bercail.engines.generating import Hears
from bercail.engines.onnxruntime.parameters import LACKS, Parameters
from bercail.engines.question import Question
from bercail.engines.serving import keep_working, live

_SEEDS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn: a generator is made for one way, and keeps to it.

    Attributes:
        options: of the library's search, by name.
        schema: of the answer, or None.
        alone: no generator that has answered before can do it: its dice, or its place in a schema, have moved on.
    """

    options: tuple[tuple[str, object], ...]
    schema: str | None
    alone: bool


@dataclass(slots=True, eq=False)
class Session:
    """A generator, and the tokens whose keys and values lie in its cache."""

    generator: Any
    sampling: Sampling
    ids: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Job:
    """A request, from when it came until it is over.

    Attributes:
        pending: tokens of the prompt that the generator has not seen.
    """

    ids: list[int]
    most: Tokens
    sampling: Sampling
    hearer: Hears
    session: Session | None = None
    pending: list[int] = field(default_factory=list)
    count: int = 0
    unwanted: bool = False


class Library:
    """Implements ``generating.Generates`` with a generator for each request that runs."""

    lacks = frozenset(LACKS)

    def __init__(self, genai: Any, parameters: Parameters) -> None:
        self._genai = genai
        self.name = f"ONNX Runtime GenAI {genai.__version__}"
        self.context_tokens = parameters.context_tokens
        self._slots = parameters.slots
        self._step_tokens = parameters.step_tokens
        config = genai.Config(parameters.model_path)
        config.overlay(json.dumps(parameters.overlay))
        self._model = genai.Model(config)
        self._tokenizer = genai.Tokenizer(self._model)
        self._marks = marks_in(Path(parameters.model_path))
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._idle: list[Session] = []
        keep_working(self._work, "generators")

    def chat_ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation.

        Raises:
            ValueError: the template refuses it, or there is none.
        """
        try:
            text = self._tokenizer.apply_chat_template(json.dumps(list(messages)), add_generation_prompt=True)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        return self.text_ids(text)

    def text_ids(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text."""
        return [int(number) for number in self._tokenizer.encode(text)]

    def text_of(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids."""
        if not special:
            return self._decoded(list(ids))
        parts = groupby(ids, key=self._marks.get)
        return "".join(mark * len(list(part)) if mark else self._decoded(list(part)) for mark, part in parts)

    def _decoded(self, ids: list[int]) -> str:
        """Its tokenizer leaves marks out, whatever it is told (0.18)."""
        return str(self._tokenizer.decode(ids)) if ids else ""

    def begin(self, ids: Sequence[int], most: Tokens, question: Question, hearer: Hears) -> Callable[[], None]:
        """Generate; see ``generating.Generates``."""
        sampling = sampling_of(question, self.context_tokens)
        job = Job(ids=list(ids), most=most, sampling=sampling, hearer=hearer)
        self._inbox.put(job)

        def cancel() -> None:
            job.unwanted = True

        return cancel

    def _work(self) -> None:
        """Take what comes, up to the slots, and give each a step in turn."""
        running: list[Job] = []
        while True:
            while len(running) < self._slots and not (running and self._inbox.empty()):
                running.append(self._inbox.get())
            running = [job for job in running if not self._tried(job)]

    def _seat(self, job: Job) -> None:
        """A generator for the job: one that rests and has read most of its prompt, else a new one."""
        sampling = job.sampling
        alike = [] if sampling.alone else [session for session in self._idle if session.sampling == sampling]
        best = max(alike, key=lambda session: _shared(session.ids, job.ids), default=None)
        shared = _shared(best.ids, job.ids) if best is not None else 0
        if best is not None and shared:
            self._idle.remove(best)
            best.generator.rewind_to(shared)
            del best.ids[shared:]
        else:
            best = Session(self._generator(sampling), sampling)
        job.session, job.pending = best, job.ids[shared:]
        job.hearer.begun(shared)

    def _generator(self, sampling: Sampling) -> Any:
        """A new generator; of those that rest, the oldest go if there would be more than slots."""
        del self._idle[: max(0, len(self._idle) - self._slots + 1)]
        parameters = self._genai.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self.context_tokens, batch_size=1, **dict(sampling.options))
        if sampling.schema is not None:
            parameters.set_guidance("json_schema", sampling.schema)
        return self._genai.Generator(self._model, parameters)

    def _tried(self, job: Job) -> bool:
        """A step of a job; what goes wrong in it is the end of that job alone."""
        try:
            return self._step(job)
        except Exception as error:  # noqa: BLE001 - whatever the library has against it, the others go on
            job.hearer.heard([], f"{FAILED}{error}")
            return True

    def _step(self, job: Job) -> bool:
        """A part of the prompt, or a token; True when the job is over."""
        if job.session is None:
            self._seat(job)
        session = job.session
        assert session is not None, "a job that runs has been seated"
        if job.unwanted:
            return self._end(job, [], "stop")
        if job.pending:
            part, job.pending = job.pending[: self._step_tokens], job.pending[self._step_tokens :]
            session.generator.append_tokens(part)
            session.ids += part
            return False
        session.generator.generate_next_token()
        token = int(session.generator.get_next_tokens()[0])
        job.count += 1
        ended = session.generator.is_done()
        if ended and token in self._tokenizer.eos_token_ids:
            return self._end(job, [], "stop")
        session.ids.append(token)
        if ended or job.count >= job.most:
            return self._end(job, [token], "length")
        job.hearer.heard([token], None)
        return False

    def _end(self, job: Job, new: list[int], why: str) -> bool:
        session = job.session
        assert session is not None, "a job that runs has been seated"
        if session.ids and not job.sampling.alone:
            session.ids.pop()  # nothing has been computed of the last token
            self._idle.append(session)
        job.hearer.heard(new, why)
        return True


def sampling_of(question: Question, context_tokens: Tokens) -> Sampling:
    """How the answer to a question is drawn."""
    drawn = question.temperature > 0
    options: dict[str, object] = {"do_sample": drawn}
    if drawn:
        options |= {"temperature": question.temperature, "top_p": question.top_p, "top_k": max(question.top_k, 0)}
        if question.seed is not None:
            options["random_seed"] = question.seed % _SEEDS
    if question.repeat_penalty != 1.0:
        options["repetition_penalty"] = question.repeat_penalty
    if question.ignore_eos:
        options["min_length"] = context_tokens
    alone = question.schema is not None or (drawn and question.seed is not None)
    return Sampling(tuple(options.items()), question.schema, alone)


def marks_in(folder: Path) -> Mapping[int, str]:
    """Tokens of a model that mark something and stand for no text, as they are written; none where none are told."""
    try:
        told = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        return {int(one["id"]): str(one["content"]) for one in told if one["special"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _shared(kept: Sequence[int], ids: Sequence[int]) -> Tokens:
    """Of ``ids``, the tokens at the beginning that are in ``kept``; the last one is always computed."""
    most = min(len(kept), len(ids) - 1)
    return next((place for place in range(most) if kept[place] != ids[place]), most)


def load(values: Mapping[str, Any]) -> Library:
    """The library with the model that the parameters name; it tells nobody of it.

    Raises:
        ImportError: it is not installed.
    """
    import onnxruntime_genai as genai

    genai.disable_telemetry_events()
    return Library(genai, Parameters.read(values))


if __name__ == "__main__":
    live(load)
