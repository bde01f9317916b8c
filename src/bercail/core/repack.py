"""Which weights the CPU gets in another order, and what that costs: copies beside the file's own pages.

The rules are those of llama.cpp b11549 (``ggml_repack_get_optimal_repack_type``): matrices of some types, by what the
processor can do, whose rows come in whole groups. An output matrix that is the embedding is not shared with it then:
the embedding is looked up row by row, which only the file's order allows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bercail.core.machine import Cpu
from bercail.core.model import Model, Tensor
from bercail.core.units import Bytes

_AVX2: Mapping[str, int] = {"q4_0": 8, "q4_k": 8, "iq4_nl": 8, "mxfp4": 8}
_NEON: Mapping[str, int] = {
    "q4_0": 4, "q4_k": 8, "q5_k": 8, "q6_k": 8, "iq4_nl": 4, "mxfp4": 4, "q8_0": 4, "q1_0": 4,
}  # fmt: skip
"""Types and the number of rows that go together. The embedded engine is built for AVX2: AVX-512 adds nothing to it."""

_MATRIX = re.compile(r"output\.weight|blk\.(\d+)\.(?!ssm_conv1d)\w+\.weight")
_EXPERTS = re.compile(r"blk\.\d+\.ffn_(gate|up|down|gate_up)_exps\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """Weights in another order.

    Attributes:
        copied: of those in the file; if the file is mapped, its pages of them stay until memory is short.
        added: a second embedding for the output, beside the one in the file.
    """

    copied: Bytes = 0
    added: Bytes = 0


NOTHING = Repacked()


def repacked(model: Model, cpu: Cpu) -> Repacked:
    """What ``cpu`` gets in another order of ``model`` and of its draft model, without GPUs."""
    own = _repacked(model, _groups(cpu))
    if model.draft is None:
        return own
    draft = repacked(model.draft, cpu)
    return Repacked(copied=own.copied + draft.copied, added=own.added + draft.added)


def _repacked(model: Model, groups: Mapping[str, int]) -> Repacked:
    layers, tensors = model.shape.layers, {tensor.name: tensor for tensor in model.tensors}
    copied = sum(tensor.bytes for tensor in model.tensors if _is_matrix(tensor, layers) and _fits(tensor, groups))
    embedding = tensors.get("token_embd.weight")
    tied = embedding is not None and "output.weight" not in tensors and model.shape.causal
    return Repacked(copied=copied, added=embedding.bytes if embedding and tied and _fits(embedding, groups) else 0)


def _groups(cpu: Cpu) -> Mapping[str, int]:
    if "avx2" in cpu.instruction_sets:
        return _AVX2
    return _NEON if {"i8mm", "asimddp"} & set(cpu.instruction_sets) else {}


def _is_matrix(tensor: Tensor, layers: int) -> bool:
    """It multiplies: two dimensions, or three where experts are chosen; not of a drafting head, which is not loaded."""
    found = _MATRIX.fullmatch(tensor.name)
    if found is None or (found[1] and int(found[1]) >= layers):
        return False
    return sum(extent > 1 for extent in tensor.shape) == (3 if _EXPERTS.fullmatch(tensor.name) else 2)


def _fits(tensor: Tensor, groups: Mapping[str, int]) -> bool:
    group = groups.get(tensor.type.name)
    return group is not None and tensor.shape[1] % group == 0
