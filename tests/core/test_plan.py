from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from bercail.core import memory
from bercail.core.begin import usable_threads
from bercail.core.budget import Case
from bercail.core.catalogue import machine_named
from bercail.core.engine import Choice, EngineSettings, Make, Offer
from bercail.core.fit import LEAST_CONTEXT
from bercail.core.machine import Machine
from bercail.core.model import Model, Pooling, Role
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, Verdict, decide
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.units import GIB, MIB
from fakes.models import a_machine, a_model, a_shape, a_tensor, machines, models, wishes

GEMMA = a_shape(12, 4, 2, 128, sliding_window=512, swa_layers=((True,) * 5 + (False,)) * 2)
LARGE = a_shape(32, 32, 8, 128)
PLACES = {"devices", "split_mode", "layer_split", "cpu_experts"}
"""Settings that only machines with GPUs have reasons for."""
ALL = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def fits(machine: Machine, model: Model, **wish: Any) -> Fits:
    verdict = decide(machine, model, EngineOptions(**wish))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def refused(machine: Machine, model: Model, **wish: Any) -> NoFit:
    verdict = decide(machine, model, EngineOptions(**wish))
    assert isinstance(verdict, NoFit)
    return verdict


def because(verdict: Verdict, setting: str) -> str:
    return next(reason.because for reason in verdict.reasons if reason.setting == setting)


def taken(machine: Machine, model: Model, found: EngineSettings, *, projector: bool) -> int:
    working = model.projector_bytes * 14 // 10 if projector else 0
    case = Case(model=model, budget_bytes=machine.memory.available_bytes, projector_bytes=working)
    return case.device(found).total_bytes


@ALL
@given(machines(), models(), wishes)
def test_a_plan_adds_up_and_stays_within_the_budget(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    for device in verdict.devices:
        assert sum(part.bytes for part in device.parts) == device.total_bytes
        assert all(part.bytes > 0 for part in device.parts)
        assert device.budget_bytes <= machine.memory.available_bytes
        assert wish.memory is None or device.budget_bytes <= wish.memory
        if isinstance(verdict, Fits):
            assert device.total_bytes <= device.budget_bytes


@ALL
@given(machines(), models(), wishes)
def test_every_alternative_fits_by_its_own_settings_and_differs(
    machine: Machine, model: Model, wish: EngineOptions
) -> None:
    verdict = decide(machine, model, wish)
    raised = [row for row in verdict.alternatives if row.change.startswith("with memory ")]
    assert all(wish.memory is not None and row.settings == verdict.settings for row in raised)
    elsewhere = [row for row in verdict.alternatives if not row.here]
    assert not elsewhere or isinstance(verdict, NoFit)
    rows = [row for row in verdict.alternatives if row.here and row not in raised]
    contexts = [row.context_tokens for row in rows]
    assert contexts == sorted(set(contexts))
    for row in rows:
        with_projector = wish.vision is not False and "projector" not in row.change
        assert taken(machine, model, row.settings, projector=with_projector) <= verdict.devices[0].budget_bytes
        assert row.settings != verdict.settings
        assert 0 < row.context_tokens == row.settings.slot_context_tokens <= model.context_length
        assert f"{row.context_tokens:,}" in row.change
        assert row.costs
        assert legal(model, row.settings)
        if isinstance(verdict, Fits):
            assert row.context_tokens > verdict.settings.slot_context_tokens


def legal(model: Model, found: EngineSettings) -> bool:
    """What llama.cpp b11549 demands before it makes a context."""
    blocks_k, blocks_v = (TENSOR_TYPES_BY_NAME[name].block_weights for name in (found.kv_type_k, found.kv_type_v))
    shape = model.shape
    if any(shape.swa_layers) and (shape.key_length_swa % blocks_k or shape.value_length_swa % blocks_v):
        return False
    return (
        found.slot_context_tokens <= model.context_length
        and (not shape.mla_compressed or found.kv_type_k == found.kv_type_v)
        and (blocks_v == 1 or found.flash_attention)
        and shape.key_length % blocks_k == shape.value_length % blocks_v == 0
        and found.ubatch_tokens <= found.batch_tokens
    )


@ALL
@given(machines(), models(), wishes)
def test_what_fits_is_legal_and_never_less_than_asked(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    assume(isinstance(verdict, Fits))
    context = verdict.settings.slot_context_tokens
    assert legal(model, verdict.settings)
    assert context % 256 == 0 or context == model.context_length
    if wish.context is not None:
        assert wish.context <= context < wish.context + 256
    else:
        assert context >= min(LEAST_CONTEXT, model.context_length)


KEPT = ("slots", "kv_unified", "kv_type_k", "kv_type_v", "flash_attention", "threads", "threads_batch", "mmap",
        "repack", "embedding", "pooling", "prompt_cache", "batch", "ubatch")  # fmt: skip
UNITS = ("_tokens", "_bytes")


def bare(name: str) -> str:
    for unit in UNITS:
        name = name.removesuffix(unit)
    return name


@ALL
@given(machines(), models(), wishes)
def test_what_the_user_set_is_kept_and_said_to_be_so(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    values = {bare(item.name): getattr(verdict.settings, item.name) for item in fields(EngineSettings)}
    given_reasons = {reason.setting: reason.because for reason in verdict.reasons}
    for name in KEPT:
        asked = getattr(wish, name)
        if asked is None or (verdict.settings.embedding and name in ("batch", "ubatch")):
            continue
        assert values[name] == asked
        if name in given_reasons:
            assert given_reasons[name] == "as asked"


@ALL
@given(machines(), models(), wishes)
def test_every_setting_has_one_reason(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    assume(isinstance(verdict, Fits))
    named = [reason.setting for reason in verdict.reasons]
    settings = sorted(bare(item.name) for item in fields(EngineSettings) if item.name not in PLACES)
    assert sorted(named) == sorted(["engine", *("mtp" if name == "draft" else name for name in settings)])
    assert all(reason.because and reason.value for reason in verdict.reasons)


@ALL
@given(machines(), models(), wishes, st.integers(0, 16 * GIB))
@example(a_machine(GIB), a_model(shape=LARGE, context_length=131072), EngineOptions(), 3 * GIB)
def test_more_memory_never_gives_a_smaller_context(
    machine: Machine, model: Model, wish: EngineOptions, more: int
) -> None:
    room = replace(machine.memory, available_bytes=machine.memory.available_bytes + more)
    before, after = decide(machine, model, wish), decide(replace(machine, memory=room), model, wish)
    if isinstance(before, Fits):
        assert isinstance(after, Fits)
        assert after.settings.slot_context_tokens >= before.settings.slot_context_tokens


def need(model: Model, context: int, **changes: Any) -> int:
    """Exactly the memory for one context without extras."""
    found = fits(a_machine(1024 * GIB), model, context=context, slots=1, prompt_cache=0, **changes)
    return sum(part.bytes for part in replace_checkpoints(model, found).parts)


def replace_checkpoints(model: Model, found: Fits) -> Any:
    case = Case(model=model, budget_bytes=0, projector_bytes=0)
    return case.device(replace(found.settings, checkpoints=0))


@pytest.mark.parametrize("shape", [LARGE, GEMMA], ids=["full", "sliding"])
def test_the_largest_context_is_found_to_the_step(shape: Any) -> None:
    model = a_model(shape=shape, context_length=131072)
    enough = need(model, 31232)
    assert fits(a_machine(enough), model).settings.slot_context_tokens == 31232
    assert fits(a_machine(enough - 1), model).settings.slot_context_tokens == 30976


def test_a_chat_on_a_cpu_gets_no_more_than_it_can_read_in_about_an_hour_unless_it_is_asked_for() -> None:
    model = a_model(context_length=131072)
    plain = fits(a_machine(64 * GIB), model)
    assert plain.settings.slot_context_tokens == 32768
    assert "takes an hour to read more; the model was made for 131,072" in because(plain, "context")
    assert any(row.context_tokens == 131072 for row in plain.alternatives)
    assert fits(a_machine(64 * GIB), model, context=131072).settings.slot_context_tokens == 131072
    assert fits(a_machine(64 * GIB), model, purpose="long-documents").settings.slot_context_tokens == 131072
    assert fits(machine_named("rtx-3090 + 64gib"), model).settings.slot_context_tokens == 131072


def test_a_model_that_holds_under_4096_tokens_by_memory_is_refused() -> None:
    model = a_model(shape=LARGE, context_length=131072)
    enough = need(model, LEAST_CONTEXT)
    assert fits(a_machine(enough), model).settings.slot_context_tokens == LEAST_CONTEXT
    verdict = refused(a_machine(enough - 1), model)
    assert "tiny with context 4,096 needs" in verdict.why
    assert "may be used (all that is available)" in verdict.why
    assert verdict.alternatives[0].change == "context 3,840 fits"
    assert fits(a_machine(enough - 1), model, context=3840).settings.slot_context_tokens == 3840


def test_a_short_model_is_served_whole_or_not_at_all() -> None:
    model = a_model(shape=LARGE, context_length=2000)
    enough = need(model, 2000)
    assert fits(a_machine(enough), model).settings.slot_context_tokens == 2000
    assert refused(a_machine(enough - 1), model).settings.slot_context_tokens == 2000


def test_a_refusal_names_what_asked_for_so_much() -> None:
    verdict = refused(a_machine(GIB), a_model(shape=LARGE, context_length=131072), context=65536, slots=2)
    assert "tiny with context 65,536 in 2 slots needs 1" in verdict.why
    assert [row.costs for row in verdict.alternatives][:2] == ["a shorter conversation", "hardly any quality"]


def test_no_other_settings_fit_where_the_weights_alone_are_too_large() -> None:
    model = a_model(tensors=(a_tensor(rows=8 * 1024 * 1024),))
    assert [row.costs for row in refused(a_machine(GIB), model).alternatives] == ["quality", "memory"]


def test_the_limit_that_binds_is_named() -> None:
    machine = a_machine(64 * MIB)
    caged = replace(machine, memory=replace(machine.memory, limited_by="/docker/abc"))
    assert "(limited by /docker/abc)" in refused(caged, a_model()).why
    assert "64.0 MiB may be used (as asked with memory)" in refused(a_machine(), a_model(), memory=64 * MIB).why


@pytest.mark.parametrize(
    ("asked", "own", "given_tokens", "words"),
    [
        (1000, 8192, 1024, "1,000 as asked, rounded up to a whole step"), (1024, 8192, 1024, "as asked"),
        (300, 310, 310, "300 as asked, rounded up to a whole step"), (8192, 8192, 8192, "as asked"),
        (None, 8192, 8192, "all the model was made for"), (None, 8000, 8000, "all the model was made for"),
    ],
)  # fmt: skip
def test_a_context_is_rounded_up_never_down(asked: int | None, own: int, given_tokens: int, words: str) -> None:
    verdict = fits(a_machine(), a_model(context_length=own), context=asked)
    assert verdict.settings.slot_context_tokens == given_tokens
    assert because(verdict, "context") == words


def test_a_context_cut_by_memory_says_what_the_model_was_made_for() -> None:
    verdict = fits(a_machine(2 * GIB), a_model(shape=LARGE, context_length=131072))
    assert because(verdict, "context") == "the most that fits in 2.00 GiB; the model was made for 131,072"
    changes = [row.change.split(" fits")[0] for row in verdict.alternatives]
    assert changes[0].startswith("with a q8_0 KV cache")
    assert changes[1].startswith("with a q4_0 KV cache")


def test_a_context_shorter_than_possible_is_told_what_more_costs() -> None:
    verdict = fits(a_machine(), a_model(), context=1024)
    assert [(row.context_tokens, row.costs) for row in verdict.alternatives] == [(8192, "memory")]


def test_a_context_beyond_the_models_own_is_refused_with_what_fits() -> None:
    verdict = refused(a_machine(), a_model(), context=10_000)
    assert verdict.why == "context 10,000 is more than the 8,192 tokens the model was trained for"
    assert [row.change for row in verdict.alternatives] == ["context 8,192 fits"]


@pytest.mark.parametrize(
    ("shape", "wish", "why", "way_out"),
    [
        (a_shape(), {"kv_type_v": "q8_0", "flash_attention": False}, "needs flash attention", "with flash attention"),
        (a_shape(4, 4, 2, 80), {"kv_type_k": "q8_0"}, "heads of 80 values", "with an f16 KV cache"),
        (a_shape(4, 4, 2, 80), {"kv_type_v": "iq4_nl"}, "heads of 80 values", "with an f16 KV cache"),
        (
            a_shape(4, 4, 1, 576, value_length=512, kv_lora_rank=512, rope_dimensions=64, mla_compressed=True),
            {"kv_type_k": "q8_0"}, "kv_type_k and kv_type_v must be equal", "with an f16 KV cache",
        ),
        (
            a_shape(2, 4, 2, 64, key_length_swa=40, sliding_window=128, swa_layers=(True, False)),
            {"kv_type_k": "q8_0"}, "heads of 40 values", "with an f16 KV cache",
        ),
        (a_shape(), {"batch": 64, "ubatch": 128}, "ubatch 128 is more than batch 64", "with ubatch 64"),
    ],
)  # fmt: skip
def test_what_the_engine_would_not_start_with_is_refused_with_a_way_out(
    shape: Any, wish: dict[str, Any], why: str, way_out: str
) -> None:
    verdict = refused(a_machine(), a_model(shape=shape), **wish)
    assert why in verdict.why
    assert verdict.alternatives[0].change == f"{way_out} 8,192 fits"


def test_a_quantized_key_cache_needs_no_flash_attention() -> None:
    assert fits(a_machine(), a_model(), kv_type_k="q8_0", flash_attention=False).settings.kv_type_k == "q8_0"


@pytest.mark.parametrize(
    ("cpu", "decode", "prefill"),
    [
        ({}, 4, 4), ({"physical_cores": None}, 8, 8), ({"quota_cpus": 2.9}, 2, 2), ({"quota_cpus": 0.5}, 1, 1),
        ({"quota_cpus": 64.0}, 4, 4), ({"performance_cores": 2}, 2, 4),
        ({"performance_cores": 2, "quota_cpus": 3.0}, 2, 3),
        ({"physical_cores": 1, "logical_cpus": (5,)}, 1, 1),
    ],
)  # fmt: skip
def test_threads_are_physical_fast_cores_within_the_quota(cpu: dict[str, Any], decode: int, prefill: int) -> None:
    machine = a_machine(**cpu)
    found = fits(machine, a_model()).settings
    assert (usable_threads(machine), found.threads, found.threads_batch) == (decode, decode, prefill)


def test_threads_asked_for_hold_for_prefill_too_unless_told_otherwise() -> None:
    both = fits(a_machine(), a_model(), threads=3)
    assert (both.settings.threads, both.settings.threads_batch) == (3, 3)
    assert because(both, "threads_batch") == "as asked for decode"
    apart = fits(a_machine(), a_model(), threads=3, threads_batch=7)
    assert (apart.settings.threads, apart.settings.threads_batch) == (3, 7)


def test_reasons_tell_of_quota_and_hidden_topology() -> None:
    verdict = fits(a_machine(quota_cpus=2.5, physical_cores=None), a_model())
    assert because(verdict, "threads") == "? physical cores behind 8 usable CPUs, quota 2.5 CPUs"


def test_slots_grow_only_within_half_the_budget() -> None:
    model = a_model(shape=LARGE)
    plenty = fits(a_machine(1024 * GIB), model)
    assert plenty.settings.slots == 4
    assert because(plenty, "slots") == "whole context for each, within half of the budget"
    four = decide_bytes(model, plenty.settings)
    exact, less = fits(a_machine(2 * four), model), fits(a_machine(2 * four - 2), model)
    assert (exact.settings.slots, less.settings.slots) == (4, 3)
    assert exact.settings.slot_context_tokens == less.settings.slot_context_tokens == 8192
    tight = fits(a_machine(need(model, 8192)), model)
    assert tight.settings.slots == 1
    assert because(tight, "slots") == "more would take over half of the budget"


def decide_bytes(model: Model, found: EngineSettings) -> int:
    case = Case(model=model, budget_bytes=0, projector_bytes=0)
    return case.device(replace(found, prompt_cache_bytes=0, checkpoints=0)).total_bytes


def test_slots_share_one_pool_if_unified() -> None:
    verdict = fits(a_machine(1024 * GIB), a_model(), kv_unified=True, slots=3, context=4096)
    assert (verdict.settings.context_tokens, verdict.settings.slot_context_tokens) == (4096, 4096)
    split = fits(a_machine(1024 * GIB), a_model(), slots=3, context=4096)
    assert (split.settings.context_tokens, split.settings.slot_context_tokens) == (12288, 4096)


def test_the_prompt_cache_takes_a_quarter_of_the_rest_at_most_a_gibibyte() -> None:
    large = fits(a_machine(1024 * GIB), a_model(shape=LARGE))
    assert large.settings.prompt_cache_bytes == GIB
    plenty = fits(a_machine(1024 * GIB), a_model())
    contexts = 8 * memory.cache_bytes(a_model(), plenty.settings) // plenty.settings.slots
    assert 0 <= contexts - plenty.settings.prompt_cache_bytes < MIB
    small = fits(a_machine(GIB), a_model(), slots=1)
    free = GIB - decide_bytes(a_model(), small.settings)
    assert 0 < small.settings.prompt_cache_bytes <= free // 4
    assert small.settings.prompt_cache_bytes % MIB == 0
    assert fits(a_machine(GIB), a_model(), prompt_cache=0).settings.prompt_cache_bytes == 0


def test_checkpoints_are_kept_for_what_cannot_be_cut_as_far_as_there_is_room() -> None:
    model = a_model(shape=GEMMA)
    assert fits(a_machine(1024 * GIB), model).settings.checkpoints == 8
    assert fits(a_machine(need(model, 8192)), model).settings.checkpoints == 0
    assert fits(a_machine(1024 * GIB), a_model()).settings.checkpoints == 0


@pytest.mark.parametrize(("quarters", "kept"), [(0.9, 0), (1, 1), (1.9, 1), (2, 2), (3.9, 2), (4, 4), (7.9, 4), (8, 8)])
def test_checkpoints_take_a_quarter_of_what_is_left_at_most(quarters: float, kept: int) -> None:
    model = a_model(shape=GEMMA)
    one = memory.checkpoint_bytes(model, fits(a_machine(), model, slots=1).settings)
    machine = a_machine(need(model, 8192) + int(4 * one * quarters))
    assert fits(machine, model, prompt_cache=0).settings.checkpoints == kept


def test_a_margin_of_128_mib_and_a_32nd_of_the_rest_stays_free() -> None:
    parts = {part.name: part.bytes for part in fits(a_machine(), a_model()).devices[0].parts}
    margin = parts.pop("margin")
    assert margin == 128 * MIB + sum(parts.values()) // 32


def test_texts_that_are_embedded_at_once_share_one_pool_where_they_would_be_pooled_in_part() -> None:
    many = EngineOptions(embedding=True, slots=4)
    verdict = decide(a_machine(), a_model(), many)
    assert isinstance(verdict, Fits)
    assert verdict.settings.kv_unified
    assert "pooled in part" in because(verdict, "kv_unified")
    apart = decide(a_machine(), a_model(), replace(many, kv_unified=False))
    assert isinstance(apart, NoFit)
    assert "--no-kv-unified and --slots 4 contradict each other" in apart.why
    for model, wish in (
        (a_model(), replace(many, slots=1)),
        (a_model(), replace(many, pooling="last")),
        (a_model(shape=replace(a_shape(), causal=False), role=Role.EMBED), many),
        (a_model(), EngineOptions(slots=4)),
    ):
        verdict = decide(a_machine(), model, wish)
        assert isinstance(verdict, Fits)
        assert not verdict.settings.kv_unified


@pytest.mark.parametrize("role", [Role.EMBED, Role.RERANK])
def test_embedding_reads_the_whole_text_in_one_batch(role: Role) -> None:
    model = a_model(shape=a_shape(causal=False), role=role, context_length=512, pooling=Pooling.MEAN)
    verdict = fits(a_machine(1024 * GIB), model)
    found = verdict.settings
    assert found.embedding
    assert found.batch_tokens == found.ubatch_tokens == found.context_tokens == 512
    assert (found.slots, found.prompt_cache_bytes, found.checkpoints) == (1, 0, 0)
    assert because(verdict, "batch") == "pooling needs the whole text in one batch"
    assert "KV cache" not in {part.name for part in verdict.devices[0].parts}


def test_a_batch_asked_for_does_not_cut_what_pooling_needs_and_says_so() -> None:
    verdict = fits(a_machine(), a_model(role=Role.EMBED, context_length=512), batch=64)
    assert verdict.settings.batch_tokens == 512
    assert because(verdict, "batch") == "pooling needs the whole text in one batch, so not as asked"


def test_a_text_model_embeds_if_asked_to_and_pools_as_asked() -> None:
    found = fits(a_machine(1024 * GIB), a_model(), embedding=True, pooling="last").settings
    assert (found.embedding, found.pooling, found.batch_tokens) == (True, Pooling.LAST, 8192)
    assert fits(a_machine(), a_model(role=Role.EMBED), embedding=False).settings.embedding is False


@pytest.mark.parametrize(
    ("wish", "batch", "ubatch"),
    [({}, 128, 128), ({"batch": 1024}, 1024, 1024), ({"ubatch": 512}, 512, 512), ({"ubatch": 64}, 128, 64),
     ({"batch": 2048, "ubatch": 512}, 2048, 512)],
)  # fmt: skip
def test_batches_follow_one_another(wish: dict[str, int], batch: int, ubatch: int) -> None:
    found = fits(a_machine(), a_model(), **wish).settings
    assert (found.batch_tokens, found.ubatch_tokens) == (batch, ubatch)


def test_a_projector_counts_with_its_working_memory_unless_vision_is_off() -> None:
    model = a_model(projector="/m/mmproj.gguf", projector_bytes=100 * MIB)
    seeing = fits(a_machine(), model)
    parts = {part.name: part.bytes for part in seeing.devices[0].parts}
    assert (seeing.projector, parts["projector"]) == ("/m/mmproj.gguf", 140 * MIB)
    blind = fits(a_machine(), model, vision=False)
    assert blind.projector is None
    assert "projector" not in {part.name for part in blind.devices[0].parts}


def test_what_fits_only_without_its_projector_says_so() -> None:
    model = a_model(projector="/m/mmproj.gguf", projector_bytes=4 * GIB)
    verdict = refused(a_machine(GIB), model)
    assert [(row.change, row.costs) for row in verdict.alternatives] == [
        ("without the projector 8,192 fits", "no images"),
        ("with 6.01 GiB of free main memory it fits", "memory"),
    ]
    assert fits(a_machine(GIB), model, vision=False).settings.slot_context_tokens == 8192


def test_a_memory_wish_lowers_the_budget_and_never_raises_it() -> None:
    assert fits(a_machine(8 * GIB), a_model(), memory=GIB).devices[0].budget_bytes == GIB
    assert fits(a_machine(GIB), a_model(), memory=8 * GIB).devices[0].budget_bytes == GIB


def test_the_engine_that_will_run_it_is_named() -> None:
    made_here = Choice(
        offer=Offer(name="llama.cpp", id="b1-cpu-native-1", make=Make.NATIVE), because="built for this processor"
    )
    verdict = decide(a_machine(), a_model(), EngineOptions(), engine=made_here)
    assert verdict.engine == "llama.cpp (b1-cpu-native-1)"
    reason = next(row for row in verdict.reasons if row.setting == "engine")
    assert (reason.value, reason.because) == (verdict.engine, "built for this processor")
    assert decide(a_machine(0), a_model(), EngineOptions()).engine == "llama.cpp"


def test_padding_rounds_up() -> None:
    assert [memory.pad(count, 256) for count in (0, 1, 256, 257)] == [0, 256, 256, 512]


def test_a_limit_of_the_users_own_is_told_how_far_to_raise() -> None:
    model = a_model(shape=LARGE)
    machine = a_machine(64 * GIB)
    refused = decide(machine, model, EngineOptions(memory=128 * MIB, context=8192))
    assert isinstance(refused, NoFit)
    assert "(as asked with memory)" in refused.why
    mib = int(refused.alternatives[-1].change.removeprefix("with memory ").removesuffix(" MiB it fits"))
    assert isinstance(decide(machine, model, EngineOptions(memory=mib * MIB, context=8192)), Fits)
    assert isinstance(decide(machine, model, EngineOptions(memory=(mib - 1) * MIB, context=8192)), NoFit)


@pytest.mark.parametrize(
    ("role", "own", "expected"),
    [
        (Role.GENERATE, None, Pooling.MEAN),
        (Role.GENERATE, Pooling.NONE, Pooling.MEAN),
        (Role.GENERATE, Pooling.LAST, None),
        (Role.EMBED, None, None),
    ],
)
def test_a_text_model_that_embeds_pools_by_the_mean_unless_it_names_another(
    role: Role, own: Pooling | None, expected: Pooling | None
) -> None:
    model = replace(a_model(), role=role, pooling=own)
    verdict = fits(a_machine(64 * GIB), model, embedding=True)
    assert verdict.settings.pooling is expected
    assert because(verdict, "pooling") == ("the model names none" if expected else "as the model was made")
