"""Which weights the CPU gets in another order, and what that costs: copies beside the file's own pages.

The rules are those of llama.cpp b11549 (``ggml_repack_get_optimal_repack_type``, and before it the AMX buffer's
``supports_op`` and ``get_row_size``): matrices of some types, by what the processor can do, whose rows come in whole
groups. An output matrix that is the embedding is not shared with it then:
the embedding is looked up row by row, which only the file's order allows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bercail.core.engine import Make
from bercail.core.machine import Cpu
from bercail.core.model import Model, Tensor
from bercail.core.units import Bytes

_AVX2: Mapping[str, int] = {"q4_0": 8, "q4_k": 8, "iq4_nl": 8, "mxfp4": 8}
_NEON: Mapping[str, int] = {
    "q4_0": 4, "q4_k": 8, "q5_k": 8, "q6_k": 8, "iq4_nl": 4, "mxfp4": 4, "q8_0": 4, "q1_0": 4,
}  # fmt: skip
"""Types and the number of rows that go together; AVX-512 adds nothing to them."""


class _Tile(NamedTuple):
    """How AMX takes a type: the number that columns come in, and bytes beyond the file's for each block."""

    columns: int
    more: Bytes


_AMX: Mapping[str, _Tile] = {
    "f16": _Tile(16, 0), "q4_0": _Tile(32, 0), "q4_1": _Tile(32, 0), "q8_0": _Tile(32, 4), "q4_k": _Tile(256, 4),
    "q5_k": _Tile(256, 4), "q6_k": _Tile(256, 0), "iq4_xs": _Tile(256, 2),
}  # fmt: skip
_TILE_ROWS = 32
_WITHOUT_AMX = (Make.EMBEDDED, Make.LIBRARY)
_MATRIX = re.compile(r"output\.weight|blk\.(\d+)\.(?!ssm_conv1d)\w+\.weight")
_EXPERTS = re.compile(r"blk\.\d+\.ffn_(gate|up|down|gate_up)_exps\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """Weights in another order.

    Attributes:
        copied: of those in the file; if the file is mapped, its pages of them stay until memory is short.
        added: a second embedding for the output, beside the one in the file.
        widened: by so much the copies are larger than what they are copies of.
    """

    copied: Bytes = 0
    added: Bytes = 0
    widened: Bytes = 0


NOTHING = Repacked()


def repacked(model: Model, cpu: Cpu, make: Make = Make.EMBEDDED) -> Repacked:
    """What ``cpu`` gets in another order of ``model`` and of its draft model, without GPUs.

    Args:
        model: whose weights.
        cpu: which instructions there are.
        make: which of them the engine uses: the one in the box no AMX, any other all; a library has orders of its own.
    """
    own = _repacked(model, cpu, tiled=has_tiles(cpu, make))
    if model.draft is None:
        return own
    draft = repacked(model.draft, cpu, make)
    return Repacked(
        copied=own.copied + draft.copied, added=own.added + draft.added, widened=own.widened + draft.widened
    )


def has_tiles(cpu: Cpu, make: Make) -> bool:
    """Whether an engine of this make works with AMX on this processor, if its weights are rearranged."""
    return "amx_int8" in cpu.instruction_sets and make not in _WITHOUT_AMX


def _repacked(model: Model, cpu: Cpu, *, tiled: bool) -> Repacked:
    layers, tensors = model.shape.layers, {tensor.name: tensor for tensor in model.tensors}
    groups, copied, widened, added = _groups(cpu), 0, 0, 0
    for tensor in model.tensors:
        if _is_matrix(tensor, layers) and (size := _size(tensor, groups, tiled=tiled)):
            copied += tensor.bytes
            widened += size - tensor.bytes
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and "output.weight" not in tensors and model.shape.causal:
        added = _size(embedding, groups, tiled=tiled)
    return Repacked(copied=copied, added=added, widened=widened)


def _groups(cpu: Cpu) -> Mapping[str, int]:
    if "avx2" in cpu.instruction_sets:
        return _AVX2
    return _NEON if {"i8mm", "asimddp"} & set(cpu.instruction_sets) else {}


def _size(tensor: Tensor, groups: Mapping[str, int], *, tiled: bool) -> Bytes:
    """Of the tensor in another order; 0 if it keeps its own. Tiles of AMX come first, experts have none."""
    tile = _AMX.get(tensor.type.name) if tiled and sum(extent > 1 for extent in tensor.shape) == 2 else None
    if tile is not None and not tensor.shape[0] % tile.columns and not tensor.shape[1] % _TILE_ROWS:
        return tensor.bytes + tensor.weights // tensor.type.block_weights * tile.more
    return tensor.bytes if _fits(tensor, groups) else 0


def _is_matrix(tensor: Tensor, layers: int) -> bool:
    """It multiplies: two dimensions, or three where experts are chosen; not of a drafting head, which is not loaded."""
    found = _MATRIX.fullmatch(tensor.name)
    if found is None or (found[1] and int(found[1]) >= layers):
        return False
    return sum(extent > 1 for extent in tensor.shape) == (3 if _EXPERTS.fullmatch(tensor.name) else 2)


def _fits(tensor: Tensor, groups: Mapping[str, int]) -> bool:
    group = groups.get(tensor.type.name)
    return group is not None and tensor.shape[1] % group == 0
