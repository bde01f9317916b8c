"""Every engine that can run a model, measured; what is measured decides from then on."""

from dataclasses import replace
from typing import Any

import pytest

from bercail.core.engine import Make, Offer
from bercail.core.errors import EngineError, NotFoundError
from bercail.core.model import Format, Stored
from bercail.core.options import EngineOptions, Settings
from bercail.core.trial import Trial
from bercail.flows import compare
from bercail.flows.choose import chosen
from bercail.flows.machine import Here
from fakes.house import ClosingUpstream, FakeEngine, Fakes, run
from fakes.models import a_gpu, a_machine, a_model, a_tensor
from flows.test_measure import said

OTHER = Offer(name="fake", id="b1-cpu-portable-1", make=Make.PORTABLE)
FOUND = Offer(name="fake", id="/usr/bin/llama-server", make=Make.FOUND)


def answers(prompt_ms: float, decoded_ms: float) -> list[Any]:
    """One that does not count and two rounds at two depths."""
    first, near, far = (
        said(depth, prompt, prompt_ms=prompt_ms, decoded_ms=decoded_ms)
        for depth, prompt in ((0, 64), (0, 512), (512, 512))
    )
    return [first, near, far, near, far]


def bench(*scripts: list[Any], **wish: Any) -> Fakes:
    others = []
    for offer in (OTHER, FOUND):
        engine = FakeEngine(offer)
        engine.build = offer.id
        others.append(engine)
    fakes = Fakes(others=tuple(others), settings=Settings(engine=EngineOptions(**wish)))
    fakes.add("a")
    fakes.reader.models["/m/a.gguf"] = a_model("a", tensors=(a_tensor("blk.0.ffn_up.weight", 4096, "q8_0"),))
    fakes.upstream = ClosingUpstream(*(answer for script in scripts for answer in script))
    return fakes


def compared(fakes: Fakes) -> tuple[Trial, ...]:
    return run(lambda: compare(fakes.house(), "a", lambda _: None)).trials


def test_each_engine_is_tried_with_each_order_of_weights_and_the_best_is_taken_from_then_on() -> None:
    fakes = bench(answers(100, 400), answers(50, 400), answers(25, 400), answers(100, 100))
    trials = compared(fakes)
    assert [(trial.offer.id, trial.repack) for trial in trials] == [
        (OTHER.id, False), (OTHER.id, True), ("embedded", False), ("embedded", True),
    ]  # fmt: skip
    assert all(trial.resident_bytes == 123 and trial.planned_bytes for trial in trials)
    here = Here(machine=a_machine(), offers=tuple(engine.offer for engine in fakes.house().engines))
    found = chosen(fakes.house(), here, a_model("a", tensors=(a_tensor("blk.0.ffn_up.weight", 512, "q8_0"),)))
    assert found.choice.offer == OTHER
    assert len(found.lessons.paces) == 2


def test_what_was_asked_for_is_compared_too_and_an_order_is_kept() -> None:
    fakes = bench(answers(100, 400), answers(50, 400), answers(25, 400), engine=FOUND.id, repack=True)
    trials = compared(fakes)
    assert {trial.offer.id for trial in trials} == {"embedded", OTHER.id, FOUND.id}
    assert all(trial.repack for trial in trials)


def test_an_engine_that_fails_is_told_of_and_the_others_go_on() -> None:
    fakes = bench(answers(100, 400))
    fakes.engine.outcomes = [EngineError("no such kernel"), None]
    fakes.others[0].outcomes = [EngineError("illegal instruction"), EngineError("illegal instruction")]
    trials = compared(fakes)
    assert [trial.failure for trial in trials] == ["", "no such kernel", "illegal instruction", "illegal instruction"]


def test_an_engine_with_fewer_slots_than_the_work_has_requests_says_so() -> None:
    fakes = bench(answers(100, 400), engine=OTHER.id, repack=True, purpose="batch", slots=2)
    with pytest.raises(EngineError, match="2 slots, and the work comes 8 at once: see --slots"):
        compared(fakes)
    assert not [kind for kind, _ in fakes.cache.facts if kind == "load"]


def test_half_a_comparison_teaches_nothing() -> None:
    fakes = bench(answers(100, 400), answers(50, 400), answers(25, 400))
    fakes.others[0].outcomes = [None, RuntimeError("somebody pulled the plug")]
    with pytest.raises(RuntimeError):
        compared(fakes)
    assert not [kind for kind, _ in fakes.cache.facts if kind == "load"]


def test_if_none_can_run_it_that_is_an_error() -> None:
    fakes = bench()
    for engine in (fakes.engine, fakes.others[0]):
        engine.outcomes = [EngineError("no such kernel")] * 2
    with pytest.raises(EngineError, match="no engine could run a: no such kernel"):
        compared(fakes)


ONNX = Offer(name="onnxruntime", id="onnxruntime", make=Make.LIBRARY, reads=(Format.ONNX,))


def test_only_engines_that_read_the_model_are_compared() -> None:
    fakes = bench(answers(100, 400))
    export = a_model("a", tensors=(), format=Format.ONNX, stored=Stored(bytes=9_000, weights=9_000))
    fakes.reader.models["/m/a.gguf"] = export
    with pytest.raises(NotFoundError, match="no engine here reads onnx"):
        compared(fakes)
    fakes.others = (*fakes.others, FakeEngine(ONNX))
    (trial,) = compared(fakes)
    assert (trial.offer, trial.repack, trial.failure) == (ONNX, False, "")


def test_a_build_that_sees_a_gpu_is_measured_once_on_it() -> None:
    fakes = bench(answers(50, 400), answers(100, 400), answers(100, 300))
    build = FakeEngine(Offer(name="fake", id="b1-cuda", make=Make.PORTABLE, target="cuda"))
    build.seen = replace(build.offer, gpus=(a_gpu(),))
    fakes.others = (build,)
    trials = compared(fakes)
    assert [trial.offer.id for trial in trials].count("b1-cuda") == 1
    assert build.starts[0].settings.devices == ("CUDA0",)
