"""Engines of other projects: what they cannot be told, and what the plan says of their own ways."""

from dataclasses import replace

import pytest

from bercail.core.catalogue import machine_named
from bercail.core.engine import IN_THE_BOX, Choice, Make, Offer
from bercail.core.explain import explain
from bercail.core.model import Format, Model, ModelFile, Pooling, Role, Stored
from bercail.core.options import EngineOptions
from bercail.core.pace import linear_flops, main_type
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.units import MIB
from fakes.models import a_machine, a_model, a_shape

LIBRARY = Choice(
    offer=Offer(name="onnxruntime", id="onnxruntime", make=Make.LIBRARY, reads=(Format.ONNX,)), because="reads ONNX"
)


def exported(cache: str | None = "f32") -> Model:
    return a_model(
        tensors=(),
        format=Format.ONNX,
        path="/m/phi",
        files=(ModelFile(path="/m/phi/model.onnx", bytes=600 * MIB, data_offset=0),),
        stored=Stored(bytes=600 * MIB, weights=1_000_000_000, cache_type=cache),
        shape=a_shape(),
        quantization="int4",
    )


def planned(wish: EngineOptions | None = None, model: Model | None = None) -> Fits:
    verdict = decide(a_machine(), model or exported(), wish or EngineOptions(), engine=LIBRARY)
    assert isinstance(verdict, Fits), verdict
    return verdict


def test_its_own_ways_are_told_as_such_and_cost_nothing_here() -> None:
    plan = planned()
    settings = plan.settings
    assert (settings.repack, settings.mmap, settings.prompt_cache_bytes, settings.checkpoints) == (False, False, 0, 0)
    assert (settings.kv_type_k, settings.kv_type_v) == ("f32", "f32")
    reasons = {row.setting: row for row in plan.reasons}
    assert reasons["kv_type_k"].because == "as the model was exported"
    assert (reasons["prompt_cache"].value, reasons["prompt_cache"].because) == (
        "own",
        "this engine does it its own way",
    )
    assert reasons["engine"].because == "reads ONNX"
    assert settings.threads == settings.threads_batch


def test_several_at_once_take_turns_where_the_engine_does_not_batch() -> None:
    def slots(*, batches: bool, **wish: int) -> str:
        engine = replace(LIBRARY, offer=replace(LIBRARY.offer, batches=batches))
        plan = decide(a_machine(), exported(), EngineOptions(**wish), engine=engine)  # type: ignore[arg-type]
        return next(row.because for row in plan.reasons if row.setting == "slots")

    assert slots(batches=False, slots=2) == (
        "as asked; this engine serves them in turns, so two at once take about twice as long each"
    )
    assert slots(batches=True, slots=2) == slots(batches=False, slots=1) == "as asked"


def test_weights_are_the_files_and_logits_those_of_a_whole_step() -> None:
    plan = planned()
    parts = {part.name: part.bytes for part in plan.devices[0].parts}
    assert parts["weights"] == 600 * MIB
    assert parts["output"] == exported().shape.vocabulary * plan.settings.ubatch_tokens * 4
    assert "each of 128 tokens of a batch" in explain(exported(), plan, "output").terms[0].how
    (term,) = explain(exported(), plan, "weights").terms
    assert (term.what, term.bytes) == ("model.onnx", 600 * MIB)
    elsewhere = replace(exported(), format=Format.OPENVINO)
    assert {part.name: part.bytes for part in planned(model=elsewhere).devices[0].parts}["output"] < parts["output"]


def test_its_speed_follows_from_the_bytes_read() -> None:
    machine = replace(a_machine(), memory=replace(a_machine().memory, bandwidth_bytes_per_s=20e9))
    plan = decide(machine, exported(), EngineOptions(), engine=LIBRARY)
    assert isinstance(plan, Fits)
    assert 0 < plan.rates[0].tokens_per_s < 20e9 / (500 * MIB)
    assert main_type(exported()) == "onnx int4"
    assert linear_flops(exported()) == 2 * (10**9 - 2 * a_shape().vocabulary * a_shape().embedding)


def test_gpus_are_not_its_business() -> None:
    machine = machine_named("rtx-3090 + 64gib")
    verdict = decide(machine, exported(), EngineOptions(), engine=LIBRARY)
    assert isinstance(verdict, Fits)
    assert [device.name for device in verdict.devices] == ["cpu"]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (EngineOptions(flash_attention=False), "--no-flash-attention and the engine onnxruntime contradict each other"),
        (EngineOptions(mmap=True), "--mmap and the engine"),
        (EngineOptions(prompt_cache=0), "--prompt-cache and the engine"),
        (EngineOptions(threads=3), "--threads-batch sets its threads"),
        (EngineOptions(kv="q8_0"), "--kv q8_0 and tiny contradict each other: it was exported for a cache of f32"),
    ],
)
def test_what_it_cannot_be_told_is_refused(wish: EngineOptions, words: str) -> None:
    verdict = decide(a_machine(), exported(), wish, engine=LIBRARY)
    assert isinstance(verdict, NoFit)
    assert verdict.contradiction
    assert words in verdict.why


def test_an_engine_that_chooses_the_cache_may_be_told() -> None:
    assert planned(EngineOptions(kv="q8_0"), exported(cache=None)).settings.kv_type_k == "q8_0"


OPENVINO = Choice(
    offer=Offer(name="openvino", id="openvino", make=Make.LIBRARY, reads=(Format.OPENVINO,)), because="reads IR"
)


def computing(*sets: str, wish: EngineOptions | None = None) -> Fits | NoFit:
    machine = replace(a_machine(), cpu=replace(a_machine().cpu, instruction_sets=sets))
    model = replace(exported(cache=None), format=Format.OPENVINO)
    return decide(machine, model, wish or EngineOptions(), engine=OPENVINO)


@pytest.mark.parametrize(
    ("sets", "wish", "kind", "because"),
    [
        (("avx2",), None, "f32", "this processor multiplies in nothing shorter"),
        (("amx_bf16", "avx2"), None, "bf16", "this processor multiplies in it; f32 is exact and slower to read"),
        (("amx_bf16",), EngineOptions(precision="f32"), "f32", "as asked"),
        (("avx512_bf16",), EngineOptions(precision="bf16"), "bf16", "as asked"),
    ],
)
def test_what_openvino_computes_in_is_decided_and_told(
    sets: tuple[str, ...], wish: EngineOptions | None, kind: str, because: str
) -> None:
    plan = computing(*sets, wish=wish)
    assert isinstance(plan, Fits)
    assert plan.settings.precision == kind
    assert [(row.value, row.because) for row in plan.reasons if row.setting == "precision"] == [(kind, because)]


def test_vectors_are_computed_as_everywhere() -> None:
    machine = replace(a_machine(), cpu=replace(a_machine().cpu, instruction_sets=("amx_bf16",)))
    plan = decide(machine, an_encoder(), EngineOptions(), engine=OPENVINO)
    assert isinstance(plan, Fits)
    assert plan.settings.precision == "f32"


def test_a_precision_that_cannot_be_had_is_refused() -> None:
    lacking = computing("avx2", wish=EngineOptions(precision="bf16"))
    assert isinstance(lacking, NoFit)
    assert "--precision bf16 and this processor contradict each other" in lacking.why
    for engine in (LIBRARY, IN_THE_BOX):
        verdict = decide(a_machine(), a_model(), EngineOptions(precision="f32"), engine=engine)
        assert isinstance(verdict, NoFit)
        assert f"--precision and the engine {engine.offer.name} contradict each other" in verdict.why


def an_encoder(*, causal: bool = False, pooling: Pooling | None = Pooling.CLS) -> Model:
    shape = replace(a_shape(), causal=causal)
    return replace(exported(None), format=Format.OPENVINO, role=Role.EMBED, pooling=pooling, shape=shape)


def embedding(model: Model, wish: EngineOptions | None = None) -> Fits:
    verdict = decide(a_machine(), model, wish or EngineOptions(), engine=OPENVINO)
    assert isinstance(verdict, Fits), verdict
    return verdict


@pytest.mark.parametrize("causal", [False, True])
def test_a_folder_that_embeds_takes_its_files_and_no_cache(*, causal: bool) -> None:
    model = an_encoder(causal=causal)
    plan = embedding(model)
    parts = {part.name: part.bytes for part in plan.devices[0].parts}
    assert parts["weights"] == 600 * MIB
    assert "KV cache" not in parts
    assert plan.settings.embedding
    reasons = {row.setting: row for row in plan.reasons}
    assert reasons["slots"].because == "one request at a time; --slots lets more of them in together"


@pytest.mark.parametrize(
    ("model", "wish", "expected", "because"),
    [
        (an_encoder(), EngineOptions(), Pooling.CLS, "as the model was made"),
        (an_encoder(), EngineOptions(pooling="mean"), Pooling.MEAN, "as asked"),
        (an_encoder(pooling=None), EngineOptions(), Pooling.MEAN, "the model names none"),
        (an_encoder(causal=True, pooling=None), EngineOptions(), Pooling.LAST, "the model names none"),
    ],
)
def test_how_it_pools_is_explicit(model: Model, wish: EngineOptions, expected: Pooling, because: str) -> None:
    plan = embedding(model, wish)
    assert plan.settings.pooling is expected
    row = next(row for row in plan.reasons if row.setting == "pooling")
    assert (row.value, row.because) == (expected, because)


@pytest.mark.parametrize(
    ("model", "wish", "words"),
    [
        (an_encoder(), EngineOptions(embedding=False), "it embeds, and generates nothing"),
        (an_encoder(), EngineOptions(pooling="rank"), "it pools by mean, cls, last"),
        (replace(an_encoder(), role=Role.GENERATE), EngineOptions(embedding=True), "it was exported to generate"),
        (replace(an_encoder(), role=Role.GENERATE), EngineOptions(purpose="embedding"), "it was exported to generate"),
    ],
)
def test_a_folder_does_only_what_it_was_exported_for(model: Model, wish: EngineOptions, words: str) -> None:
    verdict = decide(a_machine(), model, wish, engine=OPENVINO)
    assert isinstance(verdict, NoFit)
    assert verdict.contradiction
    assert words in verdict.why
