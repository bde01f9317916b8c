"""What is chosen by measurement, or by a rule before that."""

import json
from dataclasses import replace

import pytest

from bercail.core.engine import Choice, Make, Offer
from bercail.core.lessons import NO_LESSONS, Lessons, Pace, lessons_document, lessons_of
from bercail.core.model import Model
from bercail.core.options import PURPOSES, EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.rules import least_s, repack
from bercail.core.tuning import Gain, Setting, Tuning, Work
from fakes.models import a_machine, a_model, a_tensor


def a_mix(kind: str) -> Model:
    return a_model(tensors=(a_tensor("blk.0.ffn_up.weight", 4096, kind),))


def pace(*, repack: bool, decode: float, prefill: float, kind: str = "q4_k") -> Pace:
    return Pace(
        type=kind, weights_s=decode, mix_s=0, linear_s=prefill, attention_s=0, spread=0.1, runs=4, repack=repack
    )


CPU = a_machine().cpu
BOTH = NO_LESSONS.with_pace(pace(repack=True, decode=1e-7, prefill=2e-8)).with_pace(
    pace(repack=False, decode=2e-7, prefill=1e-8)
)


@pytest.mark.parametrize(
    ("kind", "purpose", "order"),
    [("q4_k", "chat", True), ("q4_k", "coding-agent", False), ("q4_0", "coding-agent", True), ("f16", "batch", True),
     ("q6_k", "embedding", False)],
)  # fmt: skip
def test_by_rule_types_that_are_read_faster_as_they_are_stay_so_for_long_prompts(
    kind: str, purpose: str, order: bool
) -> None:
    found, because = repack(a_mix(kind), PURPOSES[purpose], NO_LESSONS, Make.NATIVE, CPU)
    assert found is order
    assert bool(because) is not order
    assert repack(a_mix(kind), PURPOSES[purpose], NO_LESSONS, Make.EMBEDDED, CPU) == (True, "")


def test_by_rule_long_prompts_go_through_amx_which_wants_weights_in_its_own_order() -> None:
    cpu = replace(CPU, instruction_sets=("avx2", "avx512f", "amx_int8"))
    for kind in ("q4_k", "q8_0"):
        order, because = repack(a_mix(kind), PURPOSES["coding-agent"], NO_LESSONS, Make.NATIVE, cpu)
        assert order
        assert "AMX" in because
    assert repack(a_mix("q4_k"), PURPOSES["coding-agent"], NO_LESSONS, Make.LIBRARY, cpu)[0] is False


@pytest.mark.parametrize(("purpose", "order"), [("chat", True), ("coding-agent", False)])
def test_measured_orders_decide_by_the_shape_of_the_work(purpose: str, order: bool) -> None:
    found, because = repack(a_mix("q4_k"), PURPOSES[purpose], BOTH, Make.EMBEDDED, CPU)
    assert found is order
    assert because.startswith("measured: ")
    assert repack(a_mix("q4_0"), PURPOSES[purpose], BOTH, Make.EMBEDDED, CPU) == (True, "")


@pytest.mark.parametrize(
    ("times", "order", "words"), [(1.02, True, "too small a difference"), (1.04, False, "measured: ")]
)
def test_an_order_that_is_hardly_faster_does_not_count(times: float, order: bool, words: str) -> None:
    rearranged, plain = pace(repack=True, decode=1e-7 * times, prefill=1e-8 * times), BOTH.paces[1]
    nearly = Lessons(paces=(rearranged, replace(plain, weights_s=1e-7)))
    found, because = repack(a_mix("q4_k"), PURPOSES["chat"], nearly, Make.EMBEDDED, CPU)
    assert found is order
    assert words in because


def test_the_better_order_counts() -> None:
    model, chat = a_mix("q4_k"), PURPOSES["chat"]
    both, alone = least_s(model, chat, BOTH), least_s(model, chat, Lessons(paces=BOTH.paces[1:]))
    assert both is not None
    assert alone is not None
    assert both < alone
    assert least_s(a_mix("q4_0"), chat, BOTH) is None


def test_work_that_comes_at_once_is_judged_by_what_was_timed_so() -> None:
    model, batch = a_mix("q4_k"), PURPOSES["batch"]
    assert repack(model, batch, BOTH, Make.NATIVE, CPU) == (True, "")
    assert least_s(model, batch, BOTH) is None
    rearranged, plain = (replace(row, joint_s=cost) for row, cost in zip(BOTH.paces, (9e-7, 1e-9), strict=True))
    together = Lessons(paces=(rearranged, plain))
    found, because = repack(model, batch, together, Make.NATIVE, CPU)
    assert not found
    assert because.startswith("measured: ")
    assert repack(model, replace(batch, clients=1), together, Make.NATIVE, CPU)[0]


def planned(lessons: Lessons = NO_LESSONS, **wish: object) -> Fits:
    model = replace(a_mix("q4_k"), context_length=65536)
    offer = Offer(name="llama.cpp", id="b1-cpu-native-1", make=Make.NATIVE)
    engine = Choice(offer=offer, because="built for this processor")
    verdict = decide(a_machine(), model, EngineOptions(**wish), lessons=lessons, engine=engine)  # type: ignore[arg-type]
    assert isinstance(verdict, Fits)
    return verdict


def reason(plan: Fits) -> str:
    return next(row.because for row in plan.reasons if row.setting == "repack")


def a_gain(setting: Setting, value: int, instead: int) -> Gain:
    return Gain(setting=setting, value=value, instead=instead, ratio=1.25)


def taught(*gains: Gain, purpose: str = "chat", repack: bool = True, times: float = 1.0) -> Lessons:
    size = round(a_mix("q4_k").weights_bytes * times)
    work = Work(type="q4_k", repack=repack, place="", purpose=purpose, weights_bytes=size)
    return NO_LESSONS.with_tuning(Tuning(work=work, gains=gains))


ALL = (a_gain(Setting.THREADS, 3, 4), a_gain(Setting.THREADS_BATCH, 8, 4), a_gain(Setting.UBATCH, 512, 128))


def because(plan: Fits) -> dict[str, str]:
    return {row.setting: row.because for row in plan.reasons}


def test_settings_that_were_measured_to_be_faster_are_planned_with_the_reason() -> None:
    plan = planned(taught(*ALL))
    settings = plan.settings
    assert (settings.threads, settings.threads_batch) == (3, 8)
    assert (settings.ubatch_tokens, settings.batch_tokens) == (512, 512)
    found = because(plan)
    assert found["threads"] == "measured: 1.25 times as fast as 4 for chat"
    assert found["ubatch"] == "measured: 1.25 times as fast as 128 for chat"
    assert found["batch"] == "goes with the ubatch that was measured"
    large = planned(taught(a_gain(Setting.UBATCH, 64, 128)))
    assert (large.settings.ubatch_tokens, large.settings.batch_tokens) == (64, 128)
    assert because(large)["batch"] == "a lost client is noticed once per batch"


def test_a_wish_comes_before_what_was_measured() -> None:
    asked = planned(taught(*ALL), threads=2, batch=64)
    assert (asked.settings.threads, asked.settings.threads_batch, asked.settings.ubatch_tokens) == (2, 2, 64)
    assert "measured" not in " ".join(because(asked).values())
    partly = planned(taught(*ALL), threads_batch=1)
    assert (partly.settings.threads, partly.settings.threads_batch) == (3, 1)


@pytest.mark.parametrize(
    "lessons",
    [
        taught(*ALL, purpose="batch"), taught(*ALL, repack=False), taught(*ALL, times=5), taught(*ALL, times=0.2),
        taught(a_gain(Setting.THREADS, 3, 5)), taught(*ALL).with_tuning(taught(times=1.1).tunings[0]), taught(),
    ],
)  # fmt: skip
def test_what_was_measured_of_other_work_or_beside_another_rule_counts_for_nothing(lessons: Lessons) -> None:
    assert planned(lessons).settings == planned().settings
    assert because(planned(lessons)) == because(planned())


def test_models_of_nearly_the_same_size_share_what_was_measured() -> None:
    assert planned(taught(*ALL, times=3.9)).settings.threads == 3
    nearer = taught(*ALL, times=3).with_tuning(taught(a_gain(Setting.THREADS, 2, 4), times=0.3).tunings[0])
    assert len(nearer.tunings) == 2
    assert planned(nearer).settings.threads == 3


def test_a_measured_setting_that_does_not_fit_is_left_and_told() -> None:
    plain = planned(context=65536, prompt_cache=0, slots=1)
    model = replace(a_mix("q4_k"), context_length=65536)
    tight = a_machine(plain.devices[0].total_bytes + 1)
    lessons = taught(a_gain(Setting.UBATCH, 16384, 128))
    wish = EngineOptions(context=65536, prompt_cache=0, slots=1)
    plan = decide(tight, model, wish, lessons=lessons)
    assert isinstance(plan, Fits)
    assert plan.settings.ubatch_tokens == 128
    assert because(plan)["ubatch"] == "measured: 16384 is 1.25 times as fast as 128 for chat, and does not fit"


def test_what_all_cores_were_measured_with_says_nothing_of_some() -> None:
    few = planned(taught(a_gain(Setting.THREADS, 1, 2)), cores="0-1")
    assert "measured" not in because(few)["threads"]
    embedding = planned(taught(*ALL), embedding=True)
    assert embedding.settings.threads == 4


def test_a_library_takes_its_measured_threads_for_both() -> None:
    engine = Choice(offer=Offer(name="openvino", id="openvino", make=Make.LIBRARY), because="as asked")
    lessons = taught(a_gain(Setting.THREADS_BATCH, 3, 4), repack=False)
    plan = decide(a_machine(), replace(a_mix("q4_k"), context_length=4096), EngineOptions(), engine=engine,
                  lessons=lessons)  # fmt: skip
    assert isinstance(plan, Fits)
    assert (plan.settings.threads, plan.settings.threads_batch) == (3, 3)
    assert because(plan)["threads"] == "the same as for prefill"
    assert because(plan)["threads_batch"].startswith("measured: ")


def test_lessons_of_settings_are_kept_and_read_again() -> None:
    lessons = taught(*ALL)
    kept = json.loads(json.dumps(lessons_document(lessons)))
    assert lessons_of(kept) == lessons
    (row,) = kept["tunings"]
    for broken in (
        None, "x", {}, {**row, "work": None}, {**row, "gains": None}, {**row, "work": {**row["work"], "repack": 1}},
        {**row, "work": {**row["work"], "place": None}},
    ):  # fmt: skip
        assert lessons_of({**kept, "tunings": [broken]}).tunings == ()
    (gain, *_) = row["gains"]
    wrong = [None, {}, {**gain, "setting": "x"}, {**gain, "value": 0}, {**gain, "value": "1"}]
    assert lessons_of({**kept, "tunings": [{**row, "gains": wrong}]}).tunings[0].gains == ()
    assert lessons_of({**kept, "tunings": None}).tunings == ()


def test_without_weights_nothing_is_near() -> None:
    (tuning,) = taught(times=0).tunings
    assert tuning.work.apart(tuning.work) is None


def test_a_library_has_an_order_of_its_own() -> None:
    offer = Offer(name="openvino", id="openvino", make=Make.LIBRARY)
    model = replace(a_mix("q4_0"), context_length=65536)
    plan = decide(a_machine(), model, EngineOptions(), engine=Choice(offer=offer, because="as asked"))
    assert isinstance(plan, Fits)
    assert not plan.settings.repack
    assert reason(plan) == "this engine does it its own way"
    assert plan.engine == "openvino"


def test_the_plan_follows_and_says_so_unless_it_was_asked_for() -> None:
    reading = planned(purpose="coding-agent")
    assert not reading.settings.repack
    assert "read faster as it is" in reason(reading)
    assert reading.copied_bytes == 0
    asked = planned(purpose="coding-agent", repack=True)
    assert asked.settings.repack
    assert reason(asked) == "as asked"
    measured = planned(BOTH)
    assert measured.settings.repack
    assert "measured: " in reason(measured)
    assert "of the weights are copied" in reason(measured)
    assert planned(BOTH, repack=False).rates[0].tokens_per_s < measured.rates[0].tokens_per_s
