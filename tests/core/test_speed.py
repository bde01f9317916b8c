"""Decode is bounded by what is read for a token: predictions follow bytes and bandwidth, and always have a range."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bercail.core import memory
from bercail.core.catalogue import machine_named
from bercail.core.document import plan_document
from bercail.core.lessons import Lessons, Pace
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.pace import lies_on, main_type, weights_read
from bercail.core.plan import Fits, decide
from bercail.core.report import machine_lines, plan_sections
from bercail.core.speed import CPU_SHARES, GPU_SHARES, SLICED_SHARES, TOKEN_S
from bercail.core.split import weigh
from bercail.core.units import GIB, MIB
from fakes.models import a_machine, a_model, a_shape, a_tensor, machines, models, wishes

ALL = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def reading(machine: Machine, bytes_per_s: float = 20e9) -> Machine:
    return replace(machine, memory=replace(machine.memory, bandwidth_bytes_per_s=bytes_per_s))


def a_model_of(layers: int = 8, *, each: int = 256, experts: bool = False) -> Model:
    """Layers of ``each`` MiB and a head of 64 MiB; with experts, half of a layer is 8 of them, 2 in use."""
    shape = a_shape(layers, 32, 8, 128, vocabulary=1000)
    rows = each * MIB // 512
    tensors = [a_tensor("token_embd.weight", 1024), a_tensor("output.weight", 64 * MIB // 512)]
    for layer in range(layers):
        kept = rows // 2 if experts else rows
        tensors.append(a_tensor(f"blk.{layer}.ffn_down.weight", kept))
        if experts:
            tensors.append(a_tensor(f"blk.{layer}.ffn_down_exps.weight", rows - kept))
    if experts:
        shape = replace(shape, experts=8, experts_used=2, expert_feed_forward=512)
    return a_model(shape=shape, tensors=tuple(tensors), context_length=32768)


def planned(machine: Machine, model: Model, **wish: Any) -> Fits:
    verdict = decide(machine, model, EngineOptions(**wish))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def seconds(*reads: tuple[float, float, tuple[float, float, float]]) -> list[float]:
    return [TOKEN_S[end] + sum(size / (speed * shares[end]) for size, speed, shares in reads) for end in range(3)]


def test_an_empty_context_costs_the_weights_and_a_full_one_its_cache_as_well() -> None:
    model = a_model_of()
    verdict = planned(reading(a_machine(16 * GIB)), model, slots=1, context=8192)
    weights = model.weights_bytes - 1024 * 512
    cache = memory.cache_bytes(model, verdict.settings)
    empty, full = verdict.rates
    for rate, size in ((empty, weights), (full, weights + cache)):
        slowest, usual, fastest = seconds((size, 20e9, CPU_SHARES))
        assert (rate.least, rate.tokens_per_s, rate.most) == pytest.approx((1 / slowest, 1 / usual, 1 / fastest))
    assert (empty.depth_tokens, full.depth_tokens) == (0, 8192)


def test_a_small_model_is_predicted_widely_and_that_is_told() -> None:
    tiny = planned(reading(a_machine(16 * GIB)), a_model())
    rate = tiny.rates[0]
    assert rate.small
    assert rate.least < 700 < rate.tokens_per_s < rate.most
    assert any("for so small a model" in section.title for section in plan_sections(tiny))
    large = planned(reading(a_machine(16 * GIB)), a_model_of())
    assert not large.rates[0].small
    assert not any("so small a model" in section.title for section in plan_sections(large))


def test_of_experts_only_those_in_use_are_read() -> None:
    model = a_model_of(experts=True)
    rate = planned(reading(a_machine(16 * GIB)), model).rates[0]
    size = 8 * (128 * MIB + 128 * MIB / 4) + 64 * MIB
    assert 1 / rate.tokens_per_s == pytest.approx(size / (20e9 * CPU_SHARES[1]) + TOKEN_S[1])


def test_layers_on_several_devices_are_read_one_after_the_other() -> None:
    machine = reading(machine_named("rtx-3060-12gb + 64gib"), 40e9)
    model = a_model_of(16, each=1024)
    verdict = planned(machine, model)
    on_gpu = sum(verdict.settings.layer_split)
    assert 0 < on_gpu < 16
    slowest, usual, fastest = seconds(
        ((16 - on_gpu) * GIB, 40e9, CPU_SHARES), (on_gpu * GIB + 64 * MIB, 360e9, GPU_SHARES)
    )
    rate = verdict.rates[0]
    assert (rate.least, rate.tokens_per_s, rate.most) == pytest.approx((1 / slowest, 1 / usual, 1 / fastest))


def test_experts_in_main_memory_are_read_from_there() -> None:
    machine = reading(machine_named("rtx-3060-12gb + 64gib"), 40e9)
    plain = planned(machine, a_model_of(16, each=512, experts=True)).rates[0]
    moved = planned(machine, a_model_of(16, each=1024, experts=True))
    assert moved.settings.cpu_experts
    assert moved.rates[0].tokens_per_s < plain.tokens_per_s / 2


def test_slices_are_read_side_by_side() -> None:
    model = a_model_of(16, each=2048)
    verdict = planned(machine_named("2x rtx-3090 + 64gib"), model)
    assert verdict.settings.split_mode == "tensor"
    size = (model.weights_bytes - 1024 * 512) / 2
    assert 1 / verdict.rates[0].tokens_per_s == pytest.approx(size / (936e9 * SLICED_SHARES[1]) + TOKEN_S[1], rel=0.01)


def test_nothing_is_predicted_where_a_speed_is_unknown_or_nothing_is_generated() -> None:
    model = a_model_of(16, each=1024)
    assert planned(a_machine(32 * GIB), model).rates == ()
    assert planned(machine_named("rtx-3060-12gb + 64gib"), model).rates == ()
    assert planned(machine_named("rtx-3090 + 64gib"), model).rates
    assert planned(reading(a_machine(32 * GIB)), model, embedding=True).rates == ()


def test_nothing_to_read_is_no_speed() -> None:
    rates = planned(reading(a_machine()), a_model(tensors=())).rates
    assert [rate.depth_tokens for rate in rates] == [8192]


@ALL
@given(machines(), models(), wishes)
def test_every_rate_lies_in_its_range_and_falls_with_depth(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(reading(machine), model, wish)
    if isinstance(verdict, Fits) and verdict.rates:
        assert all(0 < rate.least <= rate.tokens_per_s <= rate.most for rate in verdict.rates)
        assert verdict.rates[-1].tokens_per_s <= verdict.rates[0].tokens_per_s


def test_rates_are_shown_and_written_with_their_range() -> None:
    verdict = planned(reading(a_machine(16 * GIB)), a_model_of(), slots=1, context=8192)
    section = next(section for section in plan_sections(verdict) if section.title.startswith("Speed"))
    assert section.title.startswith("Speed (predicted; one request alone")
    assert section.rows[1][0] == "decode, 8,192 tokens of context filled"
    fast = replace(verdict, rates=(replace(verdict.rates[0], most=4361.2),))
    assert any("to 4,361" in row[2] for section in plan_sections(fast) for row in section.rows if len(row) > 2)
    unknown = plan_sections(replace(verdict, rates=()))
    assert ("decode", "not predicted") in [row[:2] for section in unknown for row in section.rows]
    assert plan_document(verdict)["decode"] == [
        {
            "depth_tokens": rate.depth_tokens,
            "tokens_per_s": rate.tokens_per_s,
            "least": rate.least,
            "most": rate.most,
            "calibrated": False,
            "doubt": "",
            "small": False,
        }
        for rate in verdict.rates
    ]


def test_a_prediction_says_when_it_rests_upon_a_doubtful_measurement() -> None:
    machine = reading(a_machine(16 * GIB))
    doubtful = replace(machine, memory=replace(machine.memory, bandwidth_doubt="others were busy"))
    plan = planned(doubtful, a_model(), min_speed=1)
    assert {rate.doubt for rate in plan.rates} == {"others were busy"}
    titles = [section.title for section in plan_sections(plan)]
    assert any("from a reading speed that is in doubt: others were busy" in title for title in titles)
    (because,) = [reason.because for reason in plan.reasons if reason.setting == "min_speed"]
    assert because.endswith("predicted, from a reading speed that is in doubt (others were busy)")
    assert machine_lines(doubtful)[1].endswith("reads 20.0 GB/s at least (others were busy)")


def on(machine: Machine, *paces: Pace, **wish: Any) -> Fits:
    verdict = decide(machine, a_model_of(), EngineOptions(slots=1, context=8192, **wish), lessons=Lessons(paces=paces))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def a_pace(place: str, weights_s: float) -> Pace:
    kind = main_type(a_model_of())
    return Pace(type=kind, weights_s=weights_s, mix_s=0, linear_s=1e-13, attention_s=0, spread=0.2, runs=4, place=place)


def test_a_plan_on_a_gpu_follows_what_was_timed_on_such_a_gpu_and_never_what_a_cpu_took() -> None:
    machine = machine_named("rtx-3090 + 64gib@40gb/s")
    name = machine.gpus[0].name
    cpu, gpu, other = a_pace("", 1e-9), a_pace(name, 2e-12), a_pace("another card", 1e-12)
    by_sheet = on(machine, cpu, other)
    assert not any(rate.calibrated for rate in by_sheet.rates)
    assert by_sheet.prefill == ()
    assert by_sheet.rates == on(machine).rates, "the card's data sheet, whatever a CPU took"
    timed = on(machine, cpu, gpu, other)
    assert [rate.calibrated for rate in (*timed.rates, *timed.prefill)] == [True] * 4
    weights = weights_read(a_model_of(), weigh(a_model_of(), 0))
    assert timed.rates[0].tokens_per_s == pytest.approx(1 / (weights * 2e-12))
    alone = on(machine_named("64gib@40gb/s"), cpu, gpu)
    assert alone.rates[0].tokens_per_s == pytest.approx(1 / (weights * 1e-9))


@pytest.mark.parametrize("wish", [{"gpu_layers": 4}, {"gpu_layers": 0}])
def test_a_model_that_lies_in_part_on_a_gpu_is_told_by_bandwidths_alone(wish: dict[str, int]) -> None:
    machine = machine_named("rtx-3090 + 64gib@40gb/s")
    found = on(machine, a_pace("", 1e-9), a_pace(machine.gpus[0].name, 2e-12), **wish)
    assert not any(rate.calibrated for rate in found.rates)
    assert found.prefill == ()


@pytest.mark.parametrize(
    ("split", "place"),
    [("layer", "layer of NVIDIA GeForce RTX 3090, NVIDIA GeForce RTX 3090"), ("tensor", "tensor of")],
)
def test_cards_that_share_a_model_are_another_place_for_each_way_to_share(split: str, place: str) -> None:
    machine = machine_named("2x rtx-3090 + 64gib@40gb/s")
    found = on(machine, split=split)
    told = lies_on(machine.gpus, found.settings, 8)
    assert told is not None
    assert told.startswith(place.partition(" of")[0])
    assert on(machine, a_pace(told, 2e-12), split=split).rates[0].calibrated


def test_a_card_whose_speed_is_not_known_is_named_and_no_cpu_stands_in_for_it() -> None:
    machine = machine_named("rtx-3090 + 64gib@40gb/s")
    unknown = replace(machine, gpus=(replace(machine.gpus[0], name="Odd Card", bandwidth_bytes_per_s=None),))
    found = on(unknown, a_pace("", 1e-9))
    assert (found.rates, found.prefill, found.unread) == ((), (), ("Odd Card",))
    rows = [row for section in plan_sections(found) for row in section.rows if row[0] == "decode"]
    assert rows == [("decode", "not predicted", "how fast Odd Card is read is not known: --measure times it")]
    dark = replace(machine.memory, bandwidth_bytes_per_s=None)
    assert on(replace(machine, gpus=(), memory=dark)).unread == ("main memory",)
