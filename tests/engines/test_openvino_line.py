"""Requests wait in front of OpenVINO's pipeline, which answers with nothing those for whom it has no place."""

import queue
from collections.abc import Callable

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.engines.exchange import FAILED
from bercail.engines.openvino.parameters import Parameters
from bercail.engines.openvino.worker import Library
from bercail.engines.question import Question
from fakes.pipeline import Pipeline, Status, genai

pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")

SLOTS = 2
SETTINGS = EngineSettings(
    context_tokens=512, slots=SLOTS, kv_unified=False, batch_tokens=64, ubatch_tokens=64, kv_type_k="f16",
    kv_type_v="f16", flash_attention=True, threads=1, threads_batch=1, mmap=True, repack=False,
)  # fmt: skip
PARAMETERS = Parameters.of(LaunchSpec(model_id="m", model_path="/m", weights_bytes=1, settings=SETTINGS), "")
Heard = queue.Queue[tuple[list[int], str | None]]


def asked(library: Library, most: int) -> tuple[Callable[[], None], Heard]:
    heard: Heard = queue.Queue()
    return library.begin(
        [5, 6], most, Question(prompt="a", ignore_eos=True), lambda new, why: heard.put((new, why))
    ), heard


def whole(heard: Heard) -> tuple[int, str]:
    """How many tokens came, and why no more."""
    count, why = 0, None
    while why is None:
        new, why = heard.get(timeout=10)
        count += len(new)
    return count, why


def test_who_waits_is_answered_in_full_though_all_who_ran_leave_at_once() -> None:
    pipeline = Pipeline(SLOTS)
    library = Library(genai(pipeline), PARAMETERS)
    running = [asked(library, 1000) for _ in range(SLOTS)]
    pipeline.allowed.release(2)
    for _, heard in running:
        assert heard.get(timeout=10)[1] is None
    leaving, unheard = asked(library, 5)
    _, late = asked(library, 3)
    leaving()
    for cancel, _ in running:
        cancel()
    pipeline.allowed.release(1000)
    assert whole(late) == (3, "length")
    assert whole(unheard) == (0, "stop")
    assert pipeline.most_at_once == SLOTS
    assert len(pipeline.added) == SLOTS + 1


def test_what_the_pipeline_ignores_all_the_same_is_told_as_a_failure() -> None:
    pipeline = Pipeline(SLOTS)
    library = Library(genai(pipeline), PARAMETERS)
    _, heard = asked(library, 1000)
    pipeline.allowed.release(1)
    heard.get(timeout=10)
    pipeline.added[0].status = Status.IGNORED
    pipeline.allowed.release(10)
    count, why = whole(heard)
    assert count < 1000
    assert why.startswith(FAILED)
