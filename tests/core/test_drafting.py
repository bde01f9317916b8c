"""A drafting head (MTP) or a draft model: what it adds, where it lies, and what contradicts it."""

from dataclasses import replace
from typing import Any

import pytest

from bercail.core import memory
from bercail.core.catalogue import machine_named
from bercail.core.elsewhere import llama_server
from bercail.core.explain import explain
from bercail.core.landing import compare
from bercail.core.launch import Landed
from bercail.core.machine import Machine
from bercail.core.model import Model, Recurrent, Role, Tokenizer
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, Verdict, decide
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.repack import repacked
from bercail.core.units import MIB
from fakes.models import a_machine, a_model, a_shape, a_tensor

BLOCK = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def with_a_head(layers: int = 4, **changes: Any) -> Model:
    more = {"kv_heads": (2,) * (layers + 1), "nextn_layers": 1, **changes}
    shape = replace(a_shape(layers=layers), heads=(4,) * (layers + 1), **more)
    tensors = [a_tensor(f"blk.{block}.{name}.weight", 1024) for block in range(layers + 1) for name in BLOCK]
    return a_model("headed", shape=shape, tensors=(*tensors, a_tensor(f"blk.{layers}.nextn.eh_proj.weight", 512)))


def planned(machine: Machine | None = None, model: Model | None = None, **wish: object) -> Fits:
    verdict: Verdict = decide(machine or a_machine(), model or with_a_head(), EngineOptions(**wish))  # type: ignore[arg-type]
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def parts(plan: Fits, device: int = 0) -> dict[str, int]:
    return {part.name: part.bytes for part in plan.devices[device].parts}


def test_without_guessing_its_weights_stay_in_the_file() -> None:
    plan, model = planned(), with_a_head()
    assert parts(plan)["weights"] == model.weights_bytes - memory.draft_weights(model)
    assert memory.draft_weights(model) == (len(BLOCK) * 1024 + 512) * 256 * 2
    assert not [name for name in parts(plan) if name.startswith("draft")]
    reason = next(row for row in plan.reasons if row.setting == "mtp")
    assert reason.value == "0"
    assert "--mtp 3" in reason.because


def test_guessing_takes_weights_a_cache_and_buffers_of_its_own() -> None:
    plan, model = planned(mtp=3, context=4096, slots=2, kv="q8_0"), with_a_head()
    found = parts(plan)
    assert found["weights"] + found["draft head"] == model.weights_bytes
    assert found["draft cache"] == 2 * 4096 * (64 + 64) * 2 * 2  # f16, whatever the other cache is
    assert found["draft compute"] >= found["compute"]
    assert found["draft output"] == found["output"]
    for name in ("draft head", "draft cache", "draft compute", "draft output", "weights"):
        told = explain(model, plan, name)
        assert sum(term.bytes for term in told.terms if term.counts) == told.part.bytes


def test_one_pool_for_all_slots_is_one_pool_for_the_head() -> None:
    apart, unified = planned(mtp=1, context=4096, slots=2), planned(mtp=1, context=4096, slots=2, kv_unified=True)
    assert parts(apart)["draft cache"] == 2 * parts(unified)["draft cache"]


def test_each_guess_keeps_a_recurrent_state() -> None:
    recurrent = Recurrent(
        layers=(True, True, False, False, False), conv_bytes=1000, state_bytes=MIB, channels=64, inner=64, scan=False
    )
    model = with_a_head(recurrent=recurrent)
    none, three = planned(model=model, slots=2, context=4096), planned(model=model, slots=2, context=4096, mtp=3)
    assert parts(three)["recurrent state"] == 4 * parts(none)["recurrent state"]
    assert parts(three)["compute"] > parts(none)["compute"]
    told = explain(model, three, "recurrent state")
    assert sum(term.bytes for term in told.terms) == told.part.bytes
    one = memory.checkpoint_bytes(model, none.settings)
    assert memory.checkpoint_bytes(model, three.settings) == one
    assert sum(memory.layer_state_bytes(model, three.settings)) == memory.state_bytes(model, three.settings)


def test_latent_attention_keeps_one_row() -> None:
    model = with_a_head(mla_compressed=True, kv_lora_rank=512)
    rows = (512 + model.shape.rope_dimensions) * 2
    assert memory.draft_parts(model, planned(model=model, mtp=1, context=4096, slots=1).settings)["draft cache"] == (
        4096 * rows
    )


def test_on_gpus_it_lies_with_the_last_layers() -> None:
    plan = planned(machine_named("2x rtx-3060-12gb"), mtp=2, split="layer")
    assert [any(name.startswith("draft") for name in parts(plan, device)) for device in range(3)] == [
        False, False, True,
    ]  # fmt: skip
    sliced = planned(machine_named("2x rtx-3060-12gb"), mtp=2, split="tensor")
    assert all("draft cache" in parts(sliced, device) for device in (1, 2))


def test_the_flags_elsewhere_name_it() -> None:
    flags = llama_server("m.gguf", None, planned(mtp=2).settings, drafting_layers=1)
    assert flags[-4:] == ("--spec-type", "draft-mtp", "--spec-draft-n-max", "2")
    assert "--spec-type" not in llama_server("m.gguf", None, planned().settings, drafting_layers=1)


@pytest.mark.parametrize(
    ("model", "wish", "words"),
    [
        (a_model(), {"mtp": 1}, "--mtp 1 needs a drafting head"),
        (with_a_head(), {"mtp": 1, "embedding": True}, "contradict each other"),
        (with_a_head(), {"mtp": 1, "purpose": "embedding"}, "contradict each other"),
    ],
)
def test_what_contradicts_it_is_named(model: Model, wish: dict[str, object], words: str) -> None:
    verdict = decide(a_machine(), model, EngineOptions(**wish))  # type: ignore[arg-type]
    assert isinstance(verdict, NoFit)
    assert words in verdict.why


def with_a_draft(**changes: Any) -> Model:
    draft = a_model("small", tensors=(a_tensor("blk.0.attn_q.weight", 512),), shape=a_shape(layers=1))
    return replace(a_model("large"), draft=replace(draft, **changes))


def test_a_draft_model_takes_what_it_would_take_alone() -> None:
    model = with_a_draft()
    plan, alone = planned(model=model, context=4096, slots=2, kv="q8_0"), planned(model=a_model("large"))
    assert model.draft is not None
    found, own = parts(plan), replace(plan.settings, kv_type_k="f16", kv_type_v="f16", draft_tokens=0)
    assert plan.settings.draft_tokens == 3
    assert plan.draft == model.draft.path
    assert found["weights"] == parts(alone)["weights"]
    assert found["draft model"] == model.draft.weights_bytes == 512 * 256 * 2
    assert found["draft cache"] == memory.cache_bytes(model.draft, own)
    assert found["draft compute"] == memory.compute_bytes(model.draft, own)
    assert found["draft output"] == memory.output_bytes(model.draft, own)
    reason = next(row for row in plan.reasons if row.setting == "draft_tokens")
    assert "small guesses" in reason.because
    assert alone.draft is None
    for name in ("draft model", "draft cache", "draft compute", "draft output"):
        told = explain(model, plan, name)
        assert sum(term.bytes for term in told.terms) == told.part.bytes


def test_a_draft_model_gets_its_weights_in_another_order_too() -> None:
    cpu = replace(a_machine().cpu, instruction_sets=("avx2",))
    tensor = replace(a_tensor("blk.0.attn_q.weight", 512), type=TENSOR_TYPES_BY_NAME["q4_0"])
    model = with_a_draft(tensors=(tensor,))
    assert repacked(model, cpu).copied - repacked(replace(model, draft=None), cpu).copied == tensor.bytes


def test_the_flags_elsewhere_name_the_draft_model() -> None:
    plan = planned(model=with_a_draft(), draft_tokens=5)
    flags = llama_server("m.gguf", None, plan.settings, draft_path=plan.draft)
    assert plan.draft is not None
    assert flags[-6:] == ("--spec-type", "draft-simple", "--spec-draft-model", plan.draft, "--spec-draft-n-max", "5")


def other_words(model: str, tokens: int) -> Model:
    shape = replace(a_shape(layers=1), vocabulary=tokens)
    return with_a_draft(tokenizer=Tokenizer(model=model, pre=None, tokens=tokens), shape=shape)


@pytest.mark.parametrize(
    ("model", "wish", "words"),
    [
        (a_model(), {"draft_tokens": 2}, "--draft-tokens 2 needs --draft-model"),
        (replace(with_a_head(), draft=with_a_draft().draft), {"mtp": 1}, "only one of them guesses"),
        (with_a_draft(role=Role.EMBED), {}, "small generates nothing"),
        (with_a_draft(tensors=(a_tensor(rows=2048),)), {}, "small is no smaller than large"),
        (with_a_draft(), {"embedding": True}, "--draft-model and embedding contradict each other"),
        (replace(with_a_draft(), role=Role.EMBED), {}, "--draft-model and embedding contradict each other"),
        (other_words("bert", a_model().shape.vocabulary), {}, "their vocabularies must agree"),
        (other_words("gpt2", a_model().shape.vocabulary + 129), {}, "their vocabularies must agree"),
    ],
)
def test_what_contradicts_a_draft_model_is_named(model: Model, wish: dict[str, object], words: str) -> None:
    verdict = decide(a_machine(), model, EngineOptions(**wish))  # type: ignore[arg-type]
    assert isinstance(verdict, NoFit)
    assert words in verdict.why


def test_a_few_tokens_more_or_less_agree() -> None:
    tokenizer = a_model().tokenizer.model or ""
    assert planned(model=other_words(tokenizer, a_model().shape.vocabulary + 128)).draft


def test_more_context_without_it_is_offered() -> None:
    model = replace(with_a_head(), context_length=262144)
    small = replace(a_machine(), memory=replace(a_machine().memory, available_bytes=900 * MIB))
    plan = planned(small, model, mtp=4, slots=1)
    offered = next(row for row in plan.alternatives if row.change.startswith("without mtp"))
    assert offered.settings.draft_tokens == 0
    assert offered.context_tokens > plan.settings.slot_context_tokens


def test_working_memory_that_is_made_anew_counts_once() -> None:
    plan = planned(mtp=1, slots=1)
    found = parts(plan)
    landed = [
        Landed(place="CPU", part="weights", bytes=found["weights"] + found["draft head"]),
        Landed(place="CPU", part="output", bytes=found["output"]),
        Landed(place="CPU", part="KV cache", bytes=found["KV cache"]),
        Landed(place="CPU", part="compute", bytes=found["compute"]),
        Landed(place="CPU", part="output", bytes=found["draft output"]),
        Landed(place="CPU", part="KV cache", bytes=found["draft cache"]),
        Landed(place="CPU", part="compute", bytes=found["draft compute"] - 5),
        Landed(place="CPU", part="compute", bytes=found["draft compute"]),
    ]
    outcome = compare(plan, landed)
    assert outcome is not None
    assert outcome.off == 0
    mapped = [replace(landed[0], place="CPU_Mapped"), *landed[1:]]
    again = compare(plan, mapped)
    assert again is not None
    assert again.off == 0
