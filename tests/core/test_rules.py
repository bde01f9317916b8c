"""What is chosen by measurement, or by a rule before that."""

from dataclasses import replace

import pytest

from bercail.core.engine import Choice, Make, Offer
from bercail.core.lessons import NO_LESSONS, Lessons, Pace
from bercail.core.model import Model
from bercail.core.options import PURPOSES, EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.rules import least_s, repack
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
