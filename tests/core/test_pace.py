"""What timed answers say of other models: the costs they were made with come back, and predictions follow from them."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bercail.core.catalogue import machine_named
from bercail.core.document import plan_document
from bercail.core.engine import EngineSettings
from bercail.core.lessons import NO_LESSONS, Pace
from bercail.core.model import Model
from bercail.core.options import EngineOptions, Purpose
from bercail.core.pace import (
    LEAST_SPREAD,
    Joint,
    Timing,
    attention_flops,
    decode_s,
    kept_bytes,
    linear_flops,
    main_type,
    pace_of,
    prefill_s,
    usual_s,
    with_joint,
)
from bercail.core.plan import Fits, decide
from bercail.core.report import plan_sections, timing_section
from bercail.core.split import weigh
from fakes.models import a_machine, a_model, a_shape, a_tensor

NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def a_dense_model(layers: int = 8, rows: int = 4096, kind: str = "q8_0") -> Model:
    tensors = [a_tensor(f"blk.{n}.{name}.weight", rows, kind) for n in range(layers) for name in NAMES]
    return a_model("dense", shape=a_shape(layers=layers), tensors=(*tensors, a_tensor("output.weight", 8192, kind)))


def the_settings(model: Model) -> EngineSettings:
    return decide(a_machine(), model, EngineOptions(slots=1)).settings


TRUE = Pace(type="q8_0", weights_s=1e-10, mix_s=3e-11, linear_s=2e-11, attention_s=5e-11, spread=0, runs=0)


def timed(model: Model, depth: int, prompt: int = 512, decode: int = 32, pace: Pace = TRUE) -> Timing:
    """An answer that takes just what ``pace`` says."""
    weights = weigh(model, 0)
    prefill = linear_flops(model) * prompt * pace.linear_s + attention_flops(model, depth, prompt) * pace.attention_s
    middle = depth + prompt + decode // 2
    each = decode_s(model, pace, weights, middle)
    return Timing(
        depth_tokens=depth, prompt_tokens=prompt, prefill_s=prefill, decode_tokens=decode, decode_s=each * decode
    )


@given(
    st.builds(
        Pace,
        type=st.just("q8_0"),
        weights_s=st.floats(1e-11, 1e-9),
        mix_s=st.floats(1e-12, 1e-10),
        linear_s=st.floats(1e-12, 1e-10),
        attention_s=st.floats(1e-12, 1e-10),
        spread=st.just(0.0),
        runs=st.just(0),
    )
)
def test_the_costs_that_answers_were_made_with_come_back(true: Pace) -> None:
    model = a_dense_model()
    answers = [timed(model, 0, pace=true), timed(model, 4096, pace=true)]
    found = pace_of(model, the_settings(model), answers)
    near = answers[0]
    assume(near.decode_tokens * decode_s(model, true, weigh(model, 0), 0) > near.decode_s * 0.51)
    assume(linear_flops(model) * near.prompt_tokens * true.linear_s > near.prefill_s * 0.51)
    for name in ("weights_s", "mix_s", "linear_s", "attention_s"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=1e-3)
    assert (found.type, found.runs, found.spread) == ("q8_0", 2, LEAST_SPREAD)


def test_a_disturbed_answer_promises_no_more_than_twice_what_any_reached() -> None:
    """One that was made deep in a context while the machine was busy makes the beginning look free."""
    model = a_dense_model()
    near, far = timed(model, 0), timed(model, 4096)
    slow = replace(far, decode_s=far.decode_s * 50, prefill_s=far.prefill_s * 50)
    pace = pace_of(model, the_settings(model), [near, slow])
    decode = decode_s(model, pace, weigh(model, 0), 0)
    assert decode == pytest.approx(near.decode_s / near.decode_tokens / 2, rel=0.01)
    assert linear_flops(model) * pace.linear_s == pytest.approx(near.prefill_s / near.prompt_tokens / 2, rel=0.01)


def test_another_model_of_the_type_is_predicted_from_its_shape() -> None:
    small, large = a_dense_model(), a_dense_model(layers=24)
    pace = pace_of(small, the_settings(small), [timed(small, 0), timed(small, 4096)])
    verdict = decide(machine_named("64gib"), large, EngineOptions(), lessons=NO_LESSONS.with_pace(pace))
    assert isinstance(verdict, Fits)
    weights = sum(tensor.bytes for tensor in large.tensors)
    assert verdict.rates[0].tokens_per_s == pytest.approx(1 / (weights * TRUE.weights_s), rel=0.01)
    assert verdict.rates[1].tokens_per_s < verdict.rates[0].tokens_per_s
    assert verdict.prefill[0].tokens_per_s == pytest.approx(1 / (linear_flops(large) * TRUE.linear_s), rel=0.01)
    assert verdict.prefill[1].tokens_per_s < verdict.prefill[0].tokens_per_s
    assert all(rate.calibrated for rate in (*verdict.rates, *verdict.prefill))
    half = (verdict.rates[0].most - verdict.rates[0].least) / 2 / verdict.rates[0].tokens_per_s
    assert half == pytest.approx(LEAST_SPREAD)


@given(st.integers(2, 16), st.floats(0.0, 1e-10))
def test_what_several_at_once_cost_comes_back_and_predicts_other_numbers_of_them(clients: int, joint_s: float) -> None:
    model = a_dense_model()

    def burst(pace: Pace, clients: int, prompt: int, answer: int) -> float:
        purpose = Purpose(slots=16, prompt=prompt, answer=answer, clients=clients)
        seconds = usual_s(model, pace, purpose)
        assert seconds is not None
        return seconds

    true = replace(TRUE, joint_s=joint_s)
    took = burst(true, clients, 32, 24)
    row = Joint(clients=clients, prompt_tokens=32, decode_tokens=24, seconds=took)
    found = with_joint(model, TRUE, (row, row, replace(row, seconds=took * 9)))
    assert found.joint_s == pytest.approx(joint_s, rel=1e-3, abs=1e-14)
    assert burst(found, 5, 256, 128) == pytest.approx(burst(true, 5, 256, 128), rel=1e-3)
    assert burst(found, clients + 1, 256, 128) > burst(found, clients, 256, 128)


def test_several_at_once_are_not_predicted_unless_they_were_timed() -> None:
    model, one = a_dense_model(), Purpose(slots=4, prompt=256, answer=128)
    assert with_joint(model, TRUE, ()) == TRUE
    assert usual_s(model, TRUE, replace(one, clients=2)) is None
    alone = 256 * prefill_s(model, TRUE, 128) + 128 * decode_s(model, TRUE, weigh(model, 0), 320)
    assert usual_s(model, TRUE, one) == pytest.approx(alone)


def test_other_types_gpus_and_embedding_are_not_predicted_from_it() -> None:
    lessons = NO_LESSONS.with_pace(TRUE)

    def prefill(machine: str, model: Model, **wish: object) -> int:
        verdict = decide(machine_named(machine), model, EngineOptions(**wish), lessons=lessons)  # type: ignore[arg-type]
        assert isinstance(verdict, Fits)
        return len(verdict.prefill)

    assert prefill("64gib", a_dense_model()) == 2
    assert prefill("64gib", a_dense_model(kind="q4_0")) == 0
    assert prefill("rtx-3090 + 64gib", a_dense_model()) == 0
    assert prefill("64gib", a_dense_model(), embedding=True) == 0


def test_a_later_pace_takes_the_place_of_an_earlier_one_of_its_type() -> None:
    lessons = NO_LESSONS.with_pace(TRUE).with_pace(replace(TRUE, type="q4_0")).with_pace(replace(TRUE, runs=9))
    assert [(pace.type, pace.runs) for pace in lessons.paces] == [("q4_0", 0), ("q8_0", 9)]


def test_one_depth_or_noise_costs_all_bytes_alike() -> None:
    model = a_dense_model()
    near = timed(model, 0)
    faster = replace(timed(model, 4096), prefill_s=near.prefill_s / 2, decode_s=near.decode_s / 2)
    for timings in ([near], [near, faster]):
        pace = pace_of(model, the_settings(model), timings)
        assert pace.weights_s == pace.mix_s
        assert pace.linear_s == pace.attention_s
        assert pace.weights_s > 0


def test_runs_that_differ_widen_the_range() -> None:
    model = a_dense_model()
    slow = replace(timed(model, 0), decode_s=timed(model, 0).decode_s * 2)
    pace = pace_of(model, the_settings(model), [timed(model, 0), slow])
    assert pace.spread == pytest.approx(1 / 3)


def test_nothing_timed_says_nothing() -> None:
    model = a_dense_model()
    with pytest.raises(ValueError, match="empty"):
        pace_of(model, the_settings(model), ())
    assert main_type(a_model(tensors=())) == ""


def test_work_follows_from_the_shape() -> None:
    model = a_dense_model(layers=2, rows=128)
    assert linear_flops(model) == 2 * 2 * len(NAMES) * 128 * 256  # the output is for the last token alone
    drafting = replace(model, tensors=(*model.tensors, a_tensor("blk.2.ffn_up.weight", 128)))
    assert linear_flops(drafting) == linear_flops(model)
    shape = a_shape(layers=2, experts=8, experts_used=2)
    experts = a_model(shape=shape, tensors=(a_tensor("blk.0.ffn_up_exps.weight", 1024),))
    assert linear_flops(experts) == 2 * 1024 * 256 / 4
    assert prefill_s(model, TRUE, 0) > linear_flops(model) * TRUE.linear_s


def test_a_window_bounds_what_is_attended_to() -> None:
    full = a_model(shape=a_shape(layers=2))
    slides = a_model(shape=a_shape(layers=2, swa_layers=(True, True), sliding_window=128))
    assert attention_flops(slides, 8192, 1) * 60 < attention_flops(full, 8192, 1)
    assert attention_flops(full, 0, 64) == pytest.approx(2 * 2 * 4 * 128 * 32 * 64)


def test_layers_without_keys_attend_to_nothing() -> None:
    model = a_model(shape=a_shape(layers=2, kv_heads=(0, 2)))
    assert attention_flops(model, 100, 1) == attention_flops(a_model(shape=a_shape(layers=1)), 100, 1)


def test_kept_bytes_grow_with_depth() -> None:
    model = a_dense_model()
    assert sum(kept_bytes(model, the_settings(model), 0)) == 0
    assert sum(kept_bytes(model, the_settings(model), 4096)) > sum(kept_bytes(model, the_settings(model), 512))


def test_timed_speeds_are_shown_and_written() -> None:
    model = a_dense_model()
    verdict = decide(machine_named("64gib"), model, EngineOptions(), lessons=NO_LESSONS.with_pace(TRUE))
    title = next(section.title for section in plan_sections(verdict) if section.title.startswith("Speed"))
    assert "answers timed on this machine" in title
    timings = (Timing(depth_tokens=1024, prompt_tokens=100, prefill_s=2.0, decode_tokens=10, decode_s=0.5),)
    assert timing_section(timings).rows == (("1,024", "50.0 tokens/s over 100", "20.0 tokens/s over 10"),)
    document = plan_document(verdict, timings=timings)
    assert document["timed"] == [
        {"depth_tokens": 1024, "prompt_tokens": 100, "prefill_s": 2.0, "decode_tokens": 10, "decode_s": 0.5}
    ]
    prefill = document["prefill"]
    assert isinstance(prefill, list)
    assert len(prefill) == 2
