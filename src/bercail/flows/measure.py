"""``bercail plan MODEL --measure``: load it, time a few short answers, and keep what they teach."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bercail.core import news
from bercail.core.cpulist import cpus_text
from bercail.core.engine import EngineSettings
from bercail.core.errors import EngineError, RefusedError
from bercail.core.landing import compare
from bercail.core.lessons import Pace
from bercail.core.options import purpose_of
from bercail.core.pace import NOISY, Joint, Timing, lies_on, pace_of, with_joint
from bercail.core.rules import work_of
from bercail.core.tuning import Gain, Tuning
from bercail.core.units import Bytes, Seconds, Tokens
from bercail.flows.inspect import allotted, resolve, what_is_meant
from bercail.flows.lessons import keep, recall
from bercail.flows.prepare import Prepared, prepare
from bercail.ports import EngineProcess, House

FIRST_PROMPT: Tokens = 64
LONGEST_PROMPT: Tokens = 1024
PREFILL_S: Seconds = 4.0
"""A prompt is as long as is worked through in about this time."""
DECODE_S: Seconds = 2.0
_DECODED = (8, 64)
_JOINT_DECODED = 24
_ROUNDS = 2
_STOP_GRACE_S: Seconds = 10.0
_PATIENCE_S: Seconds = 300.0
_HEADERS = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """How long what is asked is.

    Attributes:
        prompt_tokens: of a prompt at the beginning of a context, and of what is added to it after that.
        decode_tokens: of each answer.
    """

    prompt_tokens: Tokens
    decode_tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A model as it was loaded and answered.

    Attributes:
        exam: what it was asked.
        joint: answers to requests that came at once; none where the purpose has none, or there are not so many slots.
        pace: what its answers say of models of its type.
        ready_s: from the start of the engine to its readiness.
        resident_bytes: memory that it held when it was ready, or None.
    """

    prepared: Prepared
    exam: Exam
    timings: tuple[Timing, ...]
    joint: tuple[Joint, ...]
    pace: Pace
    ready_s: Seconds
    resident_bytes: Bytes | None


async def measure(house: House, name: str, tell: Callable[[news.News], None]) -> tuple[Timing, ...]:
    """Answers of the model that ``name`` means, as planned, at the beginning and further on in its context.

    What they say of models of its type is kept, in the place of what earlier ones said.

    Raises:
        NotFoundError: ``name`` is no path and no known id.
        ReadError: its file cannot be read or must not be loaded.
        RefusedError: it does not fit, or generates nothing.
        EngineError: it did not start, or broke off.
    """
    meant = what_is_meant(house, name)
    found = await asyncio.to_thread(resolve, house.reader, meant.place, house.settings.library.folders)
    share = await asyncio.to_thread(allotted, house, meant)
    prepared = await prepare(meant.house, replace(found, id=meant.id or found.id), tell, allotment=share)
    timed = await examine(meant.house, prepared, tell)
    remember(house, timed, tell)
    return timed.timings


def remember(
    house: House, timed: Timed, tell: Callable[[news.News], None], gains: tuple[Gain, ...] | None = None
) -> None:
    """Keep what a model's answers say, and the settings that were found faster, beside what else its engine has taught.

    Nothing of what a part of the cores says, nor of a model that lies on GPUs in part. ``gains`` are None where no
    settings were searched: what an earlier search found stays.
    """
    prepared = timed.prepared
    if why := tells_nothing(prepared):
        tell(news.Warned(text=f"{why}, so nothing is kept"))
        return
    place = lies_on(prepared.machine.gpus, prepared.plan.settings, prepared.model.shape.layers) or ""
    lessons = recall(house, prepared.machine, prepared.engine).with_pace(replace(timed.pace, place=place))
    if gains is not None:
        work = work_of(prepared.model, prepared.plan.settings, place, house.settings.engine)
        lessons = lessons.with_tuning(Tuning(work=work, gains=gains))
    keep(house, prepared.machine, prepared.engine, lessons, tell)


def tells_nothing(prepared: Prepared) -> str:
    """Why the speed of this load tells nothing of others; empty if it does."""
    settings, layers = prepared.plan.settings, prepared.model.shape.layers
    if settings.cores and set(settings.cores) != set(prepared.machine.cpu.logical_cpus):
        return f"timed on {cpus_text(settings.cores)} alone, which plans would take for all CPUs"
    if lies_on(prepared.machine.gpus, settings, layers) is None:
        return f"{sum(settings.layer_split)} of {layers} layers were on GPUs"
    return ""


async def examine(
    house: House, prepared: Prepared, tell: Callable[[news.News], None], exam: Exam | None = None
) -> Timed:
    """A model loaded as it was prepared, and its answers timed; nothing is kept.

    Answers that differ much are asked for once more. ``exam`` is what it is asked; None is what takes a few seconds
    each, found out by a first answer.

    Raises:
        RefusedError: it generates nothing.
        EngineError: it did not start, or broke off, or its answers differ too much to say anything.
    """
    name = prepared.spec.model_id
    if prepared.plan.settings.embedding:
        raise RefusedError(f"{name} is planned for embeddings; only what generates is timed")
    started_s = house.clock.monotonic()
    process = await prepared.engine.start(prepared.spec, lambda _: None)
    ready_s = house.clock.monotonic() - started_s
    house.journal.record(process.pid, stop_argv=process.stop_argv)
    try:
        resident_bytes = process.resident_bytes()
        if (outcome := compare(prepared.plan, process.landed())) and outcome.surprises:
            tell(news.Warned(text="; ".join(outcome.surprises)))
        settings, vocabulary = prepared.plan.settings, prepared.model.shape.vocabulary
        exam = await _warmed(house, process, settings, vocabulary, exam)
        timings = await _timed(house, process, exam, vocabulary, 1)
        pace = pace_of(prepared.model, settings, timings)
        if pace.spread > NOISY:
            busy = f"answers differ by {pace.spread:.0%}, so the machine is busy: they are timed once more"
            tell(news.Warned(text=busy))
            timings += await _timed(house, process, exam, vocabulary, 1 + _ROUNDS)
            pace = pace_of(prepared.model, settings, timings)
        joint = await _at_once(house, process, settings, vocabulary, purpose_of(house.settings.engine).clients)
    finally:
        await house.upstream.close()
        await process.stop(_STOP_GRACE_S)
        house.journal.forget(process.pid)
    if pace.spread > NOISY:
        raise EngineError(
            f"answers of {name} differ by {pace.spread:.0%}, which says nothing of its speed; nothing is kept",
            hint="try again when the machine has nothing else to do",
            code="too_noisy",
        )
    pace = with_joint(prepared.model, pace, joint)
    return Timed(
        prepared=prepared,
        exam=exam,
        timings=timings,
        joint=joint,
        pace=pace,
        ready_s=ready_s,
        resident_bytes=resident_bytes,
    )


async def _warmed(
    house: House, process: EngineProcess, settings: EngineSettings, vocabulary: int, exam: Exam | None
) -> Exam:
    """What is asked, after a first answer that does not count."""
    room = settings.slot_context_tokens - _DECODED[1] - 2
    first = await answer(house, process, _prompt(vocabulary, 0, min(FIRST_PROMPT, room // 2)), _DECODED[0])
    length = int(PREFILL_S * first.prompt_tokens / first.prefill_s)
    count = int(DECODE_S * first.decode_tokens / first.decode_s)
    return exam or Exam(
        prompt_tokens=max(min(length, LONGEST_PROMPT, room // 2), 1),
        decode_tokens=max(_DECODED[0], min(_DECODED[1], count)),
    )


async def _timed(house: House, process: EngineProcess, exam: Exam, vocabulary: int, begin: int) -> tuple[Timing, ...]:
    """Timings at two depths, as often as there are rounds, from number ``begin`` on."""
    ask = partial(answer, house, process)
    length, count = exam.prompt_tokens, exam.decode_tokens
    timings = []
    for turn in range(begin, begin + _ROUNDS):
        prompt = _prompt(vocabulary, turn, 2 * length)
        timings.append(await ask(prompt[:length], count))
        timings.append(await ask(prompt, count))
    return tuple(timings)


async def _at_once(
    house: House, process: EngineProcess, settings: EngineSettings, vocabulary: int, clients: int
) -> tuple[Joint, ...]:
    """Short prompts to as many slots at the same time, as often as there are rounds; nothing without so many slots."""
    if not 1 < clients <= settings.slots:
        return ()
    found = []
    for turn in range(_ROUNDS):
        prompts = [
            _prompt(vocabulary, 1000 + turn * clients + slot, min(FIRST_PROMPT, settings.slot_context_tokens // 4))
            for slot in range(clients)
        ]
        started_s = house.clock.monotonic()
        rows = await asyncio.gather(
            *(answer(house, process, prompt, _JOINT_DECODED, slot) for slot, prompt in enumerate(prompts))
        )
        found.append(
            Joint(
                clients=clients,
                prompt_tokens=rows[0].prompt_tokens,
                decode_tokens=rows[0].decode_tokens,
                seconds=house.clock.monotonic() - started_s,
            )
        )
    return tuple(found)


def _prompt(vocabulary: int, turn: int, length: Tokens) -> list[int]:
    """Token ids that no other turn begins with; what they mean does not matter."""
    return [(turn * 7919 + index * 31 + 17) % max(vocabulary, 1) for index in range(length)]


async def answer(house: House, process: EngineProcess, prompt: list[int], count: Tokens, slot: int = 0) -> Timing:
    """An answer of ``count`` tokens to ``prompt``, in a slot of its own, as the engine times it.

    Raises:
        EngineError: none came in time, or it was not timed.
    """
    body = {
        "prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": True,
        "id_slot": slot,
    }  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE_S):
            content = json.dumps(body).encode()
            response = await house.upstream.send(process.address, "POST", "/completion", _HEADERS, content)
            body_said = b"".join([chunk async for chunk in response.chunks()])
    except TimeoutError as error:
        raise EngineError(
            f"no answer to a prompt of {len(prompt)} tokens within {_PATIENCE_S:g} s",
            hint="the machine is too slow for this model, or busy",
        ) from error
    try:
        return _timing(json.loads(body_said)["timings"])
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise EngineError(
            f"the engine did not time its answer: status {response.status}, {body_said[:200].decode(errors='replace')}",
            hint="read the end of its log",
            log_tail=process.log_tail(),
        ) from error


def _timing(said: dict[str, Any]) -> Timing:
    """What an engine said of one answer.

    Raises:
        KeyError, TypeError, ValueError: it said too little, or something else.
    """
    timing = Timing(
        depth_tokens=int(said.get("cache_n", 0)),
        prompt_tokens=int(said["prompt_n"]),
        prefill_s=float(said["prompt_ms"]) / 1000,
        decode_tokens=int(said["predicted_n"]),
        decode_s=float(said["predicted_ms"]) / 1000,
    )
    if min(timing.prompt_tokens, timing.decode_tokens) < 1 or min(timing.prefill_s, timing.decode_s) <= 0:
        raise ValueError(said)
    return timing
