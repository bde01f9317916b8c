"""Set-ups that their owner runs every day come out as fitting; shapes and sizes are published, some mixes are not.

Where only the size of an XL mix is known, tensors of the stock mix are widened until the model is that large.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.catalogue import machine_named
from bercail.core.model import Model, Tensor
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.units import Bytes
from bercail.readers import Readers
from tools.synth.mix import quantized
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

CARD_24 = "arc-pro-b60 + 64gib"
CARDS_4X12 = "4x rtx-3060-12gb + 128gib"
Q4_XL_27B, Q4_XL_31B, Q4_XL_26B = 17_898_102_784, 18_767_225_056, 17_010_980_576
Q4_XL_35B, Q8_35B = 22_349_466_112, 36_892_150_272
Q8_XL_27B = 28_584_769_536 * 38_451_182_560 // 36_892_150_272
"""Not published: larger than Q8_0 by as much as the 35B's is."""


def a_published_model(folder: Path, name: str, mix: str, weights: Bytes) -> Model:
    shape = read_table()[name]
    metadata, specs = known(shape)
    mixed = quantized(specs, mix, layers=shape["layers"], architecture=shape["arch"])
    path = write_gguf(folder / f"{name}-{mix}.gguf", metadata, mixed)
    model = Readers({}, folder, folder).read(str(path))
    tensors = xl(model.tensors) if weights == Q4_XL_35B else widened(model.tensors, weights)
    return replace(model, tensors=tensors)


def widened(tensors: tuple[Tensor, ...], weights: Bytes) -> tuple[Tensor, ...]:
    """`tensors` of at least `weights` bytes together: those of the first blocks at the next wider type."""
    wider = {name: TENSOR_TYPES_BY_NAME[other] for name, other in (("q4_k", "q5_k"), ("q5_k", "q6_k"), ("q8_0", "f16"))}
    found = list(tensors)
    short = weights - sum(tensor.bytes for tensor in tensors)
    for index, tensor in enumerate(tensors):
        if short <= 0:
            break
        if tensor.name.startswith("blk.") and tensor.type.name in wider:
            found[index] = replace(tensor, type=wider[tensor.type.name])
            short -= found[index].bytes - tensor.bytes
    return tuple(found)


def xl(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The published Q4_K_XL of the 35B: wide experts, everything else q8_0; which layers get more is not published."""
    counts: Counter[str] = Counter()
    found = []
    for tensor in tensors:
        name = tensor.name.split(".", 2)[-1] if tensor.name.startswith("blk.") else tensor.name
        kind = tensor.type.name
        if "_exps" in name:
            base, more, wide = ("q5_k", "q6_k", 4) if "down" in name else ("q4_k", "q5_k", 2)
            counts[base] += 1
            kind = more if counts[base] <= wide else base
        elif "ssm_alpha" in name or "ssm_beta" in name:
            kind = "f32"
        elif kind != "f32":
            kind = "q8_0"
        found.append(replace(tensor, type=TENSOR_TYPES_BY_NAME[kind]))
    return tuple(found)


def test_the_mix_of_the_35b_has_the_published_size_to_the_byte(tmp_path: Path) -> None:
    assert a_published_model(tmp_path, "Qwen3.6-35B-A3B", "Q4_K_M", Q4_XL_35B).weights_bytes == Q4_XL_35B


def test_widening_reaches_the_size_that_was_published(tmp_path: Path) -> None:
    model = a_published_model(tmp_path, "Gemma-4-31B", "Q4_K_M", Q4_XL_31B)
    assert 0 <= model.weights_bytes - Q4_XL_31B < 0.01 * Q4_XL_31B


@pytest.mark.parametrize(
    ("on", "name", "mix", "weights", "wish"),
    [
        (CARD_24, "Qwen3.6-35B-A3B", "Q4_K_M", Q4_XL_35B, {"context": 262144, "kv_type_v": "q4_0"}),
        (CARD_24, "Gemma-4-26B-A4B", "Q4_K_M", Q4_XL_26B, {"context": 196608, "kv_type_v": "q4_0", "ubatch": 1024}),
        (CARDS_4X12, "Qwen3.6-27B", "Q8_0", Q8_XL_27B, {"context": 196608, "split": "tensor"}),
        (CARDS_4X12, "Qwen3.6-27B", "Q4_K_M", Q4_XL_27B, {"context": 131072, "slots": 2, "split": "tensor"}),
        (CARDS_4X12, "Gemma-4-31B", "Q4_K_M", Q4_XL_31B, {"context": 131072, "split": "tensor"}),
        (CARDS_4X12, "Qwen3.6-35B-A3B", "Q8_0", Q8_35B, {"context": 262144, "slots": 2, "split": "tensor"}),
    ],
)
def test_what_runs_every_day_fits(tmp_path: Path, on: str, name: str, mix: str, weights: Bytes, wish: Any) -> None:
    model = a_published_model(tmp_path, name, mix, weights)
    asked = {"slots": 1, "kv_type_k": "q8_0", "kv_type_v": "q8_0", **wish}
    verdict = decide(machine_named(on), model, EngineOptions(**asked))
    assert isinstance(verdict, Fits), verdict.why
    assert sum(verdict.settings.layer_split) in (4, model.shape.layers)
    assert verdict.settings.cpu_experts == 0


def test_a_gemma_of_31b_with_its_projector_fits_a_24_gib_card_at_half_of_its_context_at_most(tmp_path: Path) -> None:
    model = a_published_model(tmp_path, "Gemma-4-31B", "Q4_K_M", Q4_XL_31B)
    seeing = replace(model, projector="/m/mmproj.gguf", projector_bytes=1_198_934_208)
    verdict = decide(machine_named(CARD_24), seeing, EngineOptions(slots=1))
    assert isinstance(verdict, Fits)
    assert 16_384 <= verdict.settings.slot_context_tokens <= 40_960
