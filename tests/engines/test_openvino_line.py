"""Requests wait in front of OpenVINO's pipeline, which answers with nothing those for whom it has no place."""

from collections.abc import Callable, Sequence

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.engines.exchange import FAILED
from bercail.engines.openvino.parameters import BLOCK_TOKENS, Parameters
from bercail.engines.openvino.worker import Library
from bercail.engines.question import Question
from fakes.hearer import Hearer
from fakes.pipeline import Pipeline, Status, genai

pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")

SLOTS = 2
SETTINGS = EngineSettings(
    context_tokens=512, slots=SLOTS, kv_unified=False, batch_tokens=64, ubatch_tokens=64, kv_type_k="f16",
    kv_type_v="f16", flash_attention=True, threads=1, threads_batch=1, mmap=True, repack=False,
)  # fmt: skip
PARAMETERS = Parameters.of(LaunchSpec(model_id="m", model_path="/m", weights_bytes=1, settings=SETTINGS), "")


def asked(library: Library, most: int, ids: Sequence[int] = (5, 6)) -> tuple[Callable[[], None], Hearer]:
    hearer = Hearer()
    return library.begin(ids, most, Question(prompt="a", ignore_eos=True), hearer), hearer


def test_who_waits_is_answered_in_full_though_all_who_ran_leave_at_once() -> None:
    pipeline = Pipeline(SLOTS)
    library = Library(genai(pipeline), PARAMETERS)
    running = [asked(library, 1000) for _ in range(SLOTS)]
    pipeline.allowed.release(2)
    for _, heard in running:
        assert heard.next()[1] is None
    leaving, unheard = asked(library, 5)
    _, late = asked(library, 3)
    leaving()
    for cancel, _ in running:
        cancel()
    pipeline.allowed.release(1000)
    assert late.whole() == (3, "length")
    assert unheard.whole() == (0, "stop")
    assert pipeline.most_at_once == SLOTS
    assert len(pipeline.added) == SLOTS + 1


def test_what_the_pipeline_ignores_all_the_same_is_told_as_a_failure() -> None:
    pipeline = Pipeline(SLOTS)
    library = Library(genai(pipeline), PARAMETERS)
    _, heard = asked(library, 1000)
    pipeline.allowed.release(1)
    heard.next()
    pipeline.added[0].status = Status.IGNORED
    pipeline.allowed.release(10)
    count, why = heard.whole()
    assert count < 1000
    assert why.startswith(FAILED)


def test_what_an_answer_left_in_the_cache_is_there_as_soon_as_its_end_is_heard() -> None:
    pipeline = Pipeline(SLOTS)
    library = Library(genai(pipeline), PARAMETERS)
    pipeline.allowed.release(1000)
    prompt = range(2 * BLOCK_TOKENS + 1)
    for reused in (0, 2 * BLOCK_TOKENS):
        _, heard = asked(library, 3, prompt)
        assert heard.whole() == (3, "length")
        assert heard.reused == reused
