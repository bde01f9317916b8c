"""Plans for machines with GPUs: the fastest place with room, every part of it said, contradictions named."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bercail.core.budget import Case, by_card
from bercail.core.catalogue import machine_named
from bercail.core.elsewhere import llama_server
from bercail.core.engine import Choice, Make, Offer
from bercail.core.explain import explain
from bercail.core.machine import Backend, Gpu, Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.place import shared_by
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.report import plan_line, plan_sections
from bercail.core.split import weigh
from bercail.core.units import GIB, MIB
from fakes.models import a_gpu, a_machine, a_model, a_shape, a_tensor, machines, models, wishes

ALL = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
gpus = st.lists(
    st.builds(
        Gpu,
        name=st.just("card"),
        backend=st.just(Backend.CUDA),
        total_bytes=st.just(24 * GIB),
        available_bytes=st.integers(0, 24 * GIB),
    ),
    min_size=1,
    max_size=4,
).map(tuple)

anywhere = st.builds(
    lambda wish, split, layers: replace(wish, split=split, gpu_layers=layers),
    wishes,
    st.sampled_from([None, None, "none", "layer", "tensor"]),
    st.one_of(st.none(), st.integers(0, 16)),
)


def a_large_model(layers: int = 16, *, each: int = 512, experts: bool = False, **changes: Any) -> Model:
    """Layers of ``each`` MiB; of those with experts all but a sixteenth is experts."""
    shape = a_shape(layers, 32, 8, 128, vocabulary=1000)
    if experts:
        shape = replace(shape, experts=16, experts_used=2, expert_feed_forward=512)
    rows = each * MIB // 512
    kept = rows // 16 if experts else rows
    tensors = [a_tensor("token_embd.weight", 1000), a_tensor("output.weight", 1000)]
    for layer in range(layers):
        tensors.append(a_tensor(f"blk.{layer}.ffn_down.weight", kept))
        if experts:
            tensors.append(a_tensor(f"blk.{layer}.ffn_down_exps.weight", rows - kept))
    return a_model("large", shape, tensors=tuple(tensors), **{"context_length": 32768, **changes})


def planned(on: str, model: Model, **wish: Any) -> Fits:
    verdict = decide(machine_named(on), model, EngineOptions(**wish))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def refused(on: str, model: Model, **wish: Any) -> NoFit:
    verdict = decide(machine_named(on), model, EngineOptions(**wish))
    assert isinstance(verdict, NoFit)
    return verdict


def because(verdict: Fits | NoFit, setting: str) -> str:
    return next(reason.because for reason in verdict.reasons if reason.setting == setting)


@ALL
@given(machines(), gpus, models(), anywhere)
def test_a_plan_with_gpus_adds_up_on_every_device(
    machine: Machine, cards: tuple[Gpu, ...], model: Model, wish: EngineOptions
) -> None:
    verdict = decide(replace(machine, gpus=cards), model, wish)
    budgets = [machine.memory.available_bytes, *(gpu.available_bytes for gpu in cards)]
    assert len(verdict.devices) <= len(budgets)
    for device in verdict.devices:
        assert device.budget_bytes in budgets or device.budget_bytes == wish.memory
        assert all(part.bytes > 0 for part in device.parts)
        assert isinstance(verdict, NoFit) or device.total_bytes <= device.budget_bytes


@ALL
@given(machines(), gpus, models(), anywhere, st.integers(0, 8 * GIB))
def test_more_memory_never_turns_a_fit_into_a_refusal(
    machine: Machine, cards: tuple[Gpu, ...], model: Model, wish: EngineOptions, more: int
) -> None:
    if isinstance(decide(replace(machine, gpus=cards), model, wish), Fits):
        larger = tuple(replace(gpu, available_bytes=gpu.available_bytes + more) for gpu in cards)
        assert isinstance(decide(replace(machine, gpus=larger), model, wish), Fits)


def test_a_model_that_fits_one_card_is_put_on_it_alone() -> None:
    verdict = planned("2x rtx-3090", a_large_model())
    assert (verdict.settings.split_mode, verdict.settings.layer_split) == ("none", (16, 0))
    assert [device.name for device in verdict.devices] == ["cpu", "cuda0"]
    assert because(verdict, "split") == "one GPU holds all that is on GPUs"
    assert because(verdict, "gpu_layers") == "everything but the token embedding"
    assert (verdict.settings.batch_tokens, because(verdict, "ubatch")) == (512, "enough to keep a GPU busy")


def test_a_model_for_two_cards_is_sliced_where_links_allow_and_shared_by_layers_elsewhere() -> None:
    model = a_large_model(each=2048)
    assert planned("2x rtx-3090", model).settings.split_mode == "tensor"
    shared = planned("2x rx-7900-xtx", replace(model, architecture="mamba2"))
    assert (shared.settings.split_mode, shared.settings.layer_split) == ("layer", (8, 8))
    assert planned("2x arc-pro-b60", model).settings.split_mode == "layer"
    assert planned("2x arc-pro-b60", model, split="tensor").settings.split_mode == "tensor"
    assert because(shared, "layer_split") == "the fullest GPU is as empty as can be"


def test_more_layers_go_where_there_is_more_room() -> None:
    verdict = planned("rtx-3090 + rtx-3060-12gb", a_large_model(each=1536), split="layer")
    large, small = verdict.settings.layer_split
    assert large + small == 16
    assert large > small
    assert because(verdict, "split") == "as asked"


def test_experts_leave_the_gpu_before_layers_do() -> None:
    verdict = planned("rtx-3060-12gb + 64gib", a_large_model(each=1536, experts=True))
    assert sum(verdict.settings.layer_split) == 16
    assert 0 < verdict.settings.cpu_experts < 16
    assert verdict.settings.slot_context_tokens >= 16384
    assert because(verdict, "cpu_experts").startswith("an expert is used for few tokens")
    assert "--n-cpu-moe" in llama_server("/m.gguf", None, verdict.settings)


def test_layers_leave_the_gpu_one_by_one_and_the_rest_of_the_memory_is_context() -> None:
    verdict = planned("rtx-3060-12gb + 64gib", a_large_model(each=1536))
    assert 0 < sum(verdict.settings.layer_split) < 16
    assert because(verdict, "gpu_layers") == "the others do not fit"
    host, gpu = verdict.devices
    assert host.parts[0].bytes > 8 * GIB
    assert gpu.budget_bytes - gpu.total_bytes < 1536 * MIB


def test_layers_are_shared_where_neither_main_memory_nor_the_gpus_could_hold_all_of_them() -> None:
    model = a_large_model(layers=32, each=2048)
    verdict = planned("rtx-3090 + 48gib", model)
    assert verdict.devices[0].total_bytes + verdict.devices[1].total_bytes > 64 * GIB
    assert sum(verdict.settings.layer_split) >= 10
    assert "fits in 46.0 GiB of cpu; " in because(verdict, "context")


def test_a_card_that_holds_no_layer_is_left_alone() -> None:
    verdict = planned("rtx-3060-8gb + 128gib", a_large_model(layers=4, each=12288))
    assert verdict.settings.layer_split == ()
    assert [device.name for device in verdict.devices] == ["cpu"]
    assert because(verdict, "gpu_layers") == "not one layer fits"


@pytest.mark.parametrize(("asked", "found"), [(0, ()), (5, (5,)), (99, (16,))])
def test_the_user_may_say_how_many_layers(asked: int, found: tuple[int, ...]) -> None:
    verdict = planned("rtx-3090", a_large_model(), gpu_layers=asked)
    assert verdict.settings.layer_split == found
    assert because(verdict, "gpu_layers") == "as asked"


def test_what_fits_nowhere_is_refused_with_every_device_that_is_too_small() -> None:
    verdict = refused("2x rtx-3060-8gb + 4gib", a_large_model(each=4096), context=32768)
    assert "of cuda0" in verdict.why
    assert "of cuda1" in verdict.why
    assert verdict.why.startswith("large with context 32,768 needs ")


def test_more_main_memory_is_not_offered_where_a_gpu_is_too_small() -> None:
    wish = {"context": 32768, "memory": 2 * GIB, "gpu_layers": 99}
    verdict = refused("rtx-3060-8gb + 64gib", a_large_model(each=4096), **wish)
    assert not [row for row in verdict.alternatives if row.change.startswith("with memory")]


def test_other_ways_to_share_leave_no_experts_behind() -> None:
    model = a_large_model(layers=16, each=2048, experts=True)
    verdict = planned("2x rtx-3060-12gb + 64gib", model)
    assert verdict.settings.cpu_experts
    whole = [row.settings for row in verdict.alternatives if row.change.startswith("with split")]
    assert all(row.cpu_experts == 0 for row in whole)
    cards = machine_named("2x rtx-3060-12gb").gpus
    case = Case(model=model, budget_bytes=64 * GIB, projector_bytes=0, gpus=cards, weights=weigh(model, 2))
    assert [found.cpu_experts for found in shared_by(case, verdict.settings)] == [0, 0, 0]


def test_another_way_to_share_is_offered_where_it_gives_more_context() -> None:
    model = a_large_model(layers=12, each=1850, context_length=131072)
    verdict = planned("rtx-3090 + rtx-3060-12gb", model, split="none")
    assert any(row.change.startswith("with split layer") for row in verdict.alternatives)


@pytest.mark.parametrize(
    ("on", "wish", "words"),
    [
        ("64gib", {"split": "layer"}, "--split needs a GPU"),
        ("64gib", {"gpu_layers": 4}, "--gpu-layers needs a GPU"),
        ("rtx-3090", {"split": "layer"}, "two GPUs at least, and there is one"),
        ("2x rtx-3090", {"split": "tensor", "flash_attention": False}, "--no-flash-attention contradict"),
        ("2x rtx-3090", {"split": "tensor", "gpu_layers": 3}, "--gpu-layers 3 contradict"),
        ("2x rtx-3090", {"split": "row"}, "row and cuda contradict each other: llama.cpp b11549 has it for SYCL"),
        ("2x arc-pro-b60", {"split": "row"}, "row is not planned for on sycl: use --split layer"),
        ("rtx-3090", {"kv_type_k": "iq4_nl"}, "no kernel for an iq4_nl cache"),
    ],
)
def test_wishes_that_contradict_the_machine_or_one_another_are_named(on: str, wish: Any, words: str) -> None:
    verdict = refused(on, a_large_model(), **wish)
    assert words in verdict.why
    assert not verdict.alternatives or "kernel" in words


def test_an_architecture_that_cannot_be_sliced_is_named() -> None:
    model = a_large_model(architecture="deepseek2")
    assert "--split tensor and the architecture deepseek2" in refused("2x rtx-3090", model, split="tensor").why


@pytest.mark.parametrize(
    ("backend", "key", "value", "legal"),
    [
        (Backend.METAL, "q8_0", "q4_0", False),
        (Backend.METAL, "q8_0", "q8_0", True),
        (Backend.VULKAN, "bf16", "q8_0", False),
        (Backend.VULKAN, "bf16", "bf16", True),
        (Backend.SYCL, "q8_0", "q4_0", True),
    ],
)
def test_cache_types_are_those_of_the_backend(backend: Backend, key: str, value: str, *, legal: bool) -> None:
    card = Gpu(name="card", backend=backend, total_bytes=24 * GIB, available_bytes=24 * GIB)
    wish = EngineOptions(kv_type_k=key, kv_type_v=value)
    verdict = decide(replace(a_machine(32 * GIB), gpus=(card,)), a_large_model(), wish)
    assert isinstance(verdict, Fits) is legal


def test_the_report_names_every_device_and_what_is_only_estimated() -> None:
    verdict = planned("2x rtx-3090", a_large_model(each=2048))
    assert " of 62.0 GiB, cuda0 " in plan_line(verdict)
    titles = [section.title for section in plan_sections(verdict)]
    assert titles[:3] == ["Memory (cpu)", *(f"Memory (cuda{n}, compute and driver estimated)" for n in (0, 1))]


def test_a_part_is_explained_device_by_device() -> None:
    model = a_large_model(each=2048)
    verdict = planned("2x rtx-3090", model)
    explained = explain(model, verdict, "kv cache")
    assert [term.what for term in explained.terms] == ["cuda0", "cuda1"]
    assert sum(term.bytes for term in explained.terms) == explained.part.bytes


def test_flags_for_llama_server_count_what_comes_after_the_last_layer() -> None:
    model = a_large_model(each=2048)
    sliced = llama_server("/m.gguf", None, planned("2x rtx-3090", model).settings)
    assert sliced[sliced.index("--split-mode") + 1] == "tensor"
    shared = llama_server("/m.gguf", None, planned("2x rtx-3090", model, split="layer").settings, drafting_layers=1)
    assert shared[shared.index("--gpu-layers") + 1] == "18"
    assert shared[shared.index("--tensor-split") + 1] == "8,10"
    alone = llama_server("/m.gguf", None, planned("2x rtx-3090", a_large_model()).settings)
    assert alone[alone.index("--main-gpu") + 1] == "0"
    assert "--no-kv-offload" not in alone


def with_gpus(*cards: Gpu, offered: tuple[Gpu, ...] | None = None, **wish: Any) -> Fits:
    """A plan for a machine of this house, with an engine that sees these cards or the ones offered."""
    offer = Offer(name="llama.cpp", id="b1", make=Make.PORTABLE, gpus=cards if offered is None else offered)
    machine = replace(a_machine(16 * GIB), gpus=cards)
    verdict = decide(machine, a_large_model(8), EngineOptions(**wish), engine=Choice(offer=offer, because="x"))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


CARD = a_gpu("CUDA0", available_bytes=8 * GIB)


def test_the_devices_that_hold_something_are_named() -> None:
    both = with_gpus(CARD, replace(CARD, device="CUDA2"), split="layer")
    assert both.settings.devices == ("CUDA0", "CUDA2")
    assert [device.name for device in both.devices] == ["cpu", "cuda0", "cuda2"]
    assert because(both, "gpus") == "of those that this engine sees"
    assert because(with_gpus(CARD, gpus="0"), "gpus") == "as asked"


def test_an_engine_that_sees_gpus_is_kept_off_them_where_nothing_is_put_there() -> None:
    assert with_gpus(CARD, gpu_layers=0).settings.devices == ("none",)
    assert with_gpus(offered=(CARD,), gpus="none").settings.devices == ("none",)
    assert with_gpus().settings.devices == ()
    assert planned("rtx-3090", a_large_model(4)).settings.devices == ()  # nobody knows their names there


def test_the_fastest_card_that_holds_all_is_taken_and_of_equals_the_one_with_most_room() -> None:
    small = replace(CARD, available_bytes=3 * GIB)
    assert with_gpus(small, replace(CARD, device="CUDA1")).settings.layer_split == (0, 8)
    fast = replace(CARD, device="CUDA1", bandwidth_bytes_per_s=1e12, available_bytes=6 * GIB)
    assert with_gpus(CARD, fast).settings.layer_split == (0, 8)
    assert with_gpus(CARD, replace(CARD, device="CUDA1")).settings.layer_split == (8, 0)
    parted = with_gpus(small, replace(small, device="CUDA1", bandwidth_bytes_per_s=1e12), split="none")
    assert parted.settings.layer_split[0] == 0
    assert 0 < parted.settings.layer_split[1] < 8


def test_gpus_of_several_makers_are_warned_about() -> None:
    mixed = (replace(CARD, name="NVIDIA X"), replace(CARD, name="AMD Radeon RX 6800", device="CUDA1"))
    words = "; GPUs of NVIDIA and AMD together are not tried yet, and go at the pace of the slowest"
    assert because(with_gpus(*mixed, split="layer"), "gpus") == f"of those that this engine sees{words}"


def test_a_gpu_that_shares_the_main_memory_takes_no_mapping() -> None:
    shared = replace(CARD, shared=True, card="cpu")
    plan = with_gpus(shared)
    assert not plan.settings.mmap
    assert because(plan, "mmap") == "the GPU shares this memory and cannot map files"
    assert with_gpus(shared, mmap=True).settings.mmap
    taken, budget = by_card(plan.devices)
    assert taken == {"cpu": sum(device.total_bytes for device in plan.devices)}
    assert budget == {"cpu": 24 * GIB}


def test_gpus_that_are_asked_for_must_be_there() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(gpus="0"))
    assert isinstance(verdict, NoFit)
    assert (verdict.why, verdict.contradiction) == ("--gpus needs a GPU, and there is none that can be used here", True)
    assert isinstance(decide(a_machine(), a_model(), EngineOptions(gpus=" None ")), Fits)


@pytest.mark.parametrize("context", [None, 4096])
def test_layers_are_shared_out_whoever_chose_the_context(context: int | None) -> None:
    split = planned("2x rtx-3090", a_large_model(8), split="layer", context=context).settings.layer_split
    assert split == (4, 4)
