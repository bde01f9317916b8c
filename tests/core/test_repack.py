"""What the CPU gets in another order: by type, place and rows, and by what the processor can do."""

import pytest

from bercail.core.engine import Make
from bercail.core.machine import Cpu
from bercail.core.model import Model, Tensor
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.repack import NOTHING, Repacked, repacked
from fakes.models import a_machine, a_model, a_shape


def a_cpu(*sets: str) -> Cpu:
    plain = a_machine().cpu
    return Cpu(**{name: getattr(plain, name) for name in plain.__dataclass_fields__} | {"instruction_sets": sets})


def tensor(name: str, *shape: int, kind: str = "q4_0") -> Tensor:
    return Tensor(name=name, shape=shape, type=TENSOR_TYPES_BY_NAME[kind], offset=0)


def model(*tensors: Tensor) -> Model:
    return a_model(shape=a_shape(layers=2), tensors=tensors)


MATRIX = tensor("blk.0.ffn_up.weight", 256, 64)


@pytest.mark.parametrize(
    ("sets", "kinds"),
    [
        (("avx2",), {"q4_0", "q4_k", "iq4_nl", "mxfp4"}),
        (("asimddp",), {"q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "iq4_nl", "mxfp4"}),
        ((), set()),
    ],
)
def test_types_by_processor(sets: tuple[str, ...], kinds: set[str]) -> None:
    tried = ("f16", "q2_k", "q4_0", "q4_1", "q4_k", "q5_k", "q6_k", "q8_0", "iq4_nl", "mxfp4")
    found = {
        kind
        for kind in tried
        if repacked(model(tensor("blk.0.attn_q.weight", 256, 64, kind=kind)), a_cpu(*sets)).copied
    }
    assert found == kinds


TILED = ("avx2", "avx512f", "amx_int8")


@pytest.mark.parametrize(
    ("kind", "copied", "wider"),
    [("f16", True, 0), ("q4_0", True, 0), ("q4_1", True, 0), ("q8_0", True, 4 * 64 * 8), ("q4_k", True, 4 * 64),
     ("q5_k", True, 4 * 64), ("q6_k", True, 0), ("iq4_xs", True, 2 * 64), ("q2_k", False, 0), ("q5_0", False, 0)],
)  # fmt: skip
def test_amx_takes_more_types_and_some_of_them_wider(kind: str, copied: bool, wider: int) -> None:
    matrix = tensor("blk.0.attn_q.weight", 256, 64, kind=kind)
    found = repacked(model(matrix), a_cpu(*TILED), Make.NATIVE)
    assert (found.copied, found.widened) == (matrix.bytes if copied else 0, wider)
    assert repacked(model(matrix), a_cpu(*TILED)) == repacked(model(matrix), a_cpu("avx2"))


def test_what_no_tile_fits_goes_the_way_without_amx() -> None:
    experts = tensor("blk.1.ffn_down_exps.weight", 256, 64, 4)
    narrow = tensor("blk.0.ffn_up.weight", 256, 40)
    odd = tensor("blk.0.attn_k.weight", 256, 40, kind="q8_0")
    found = repacked(model(experts, narrow, odd), a_cpu(*TILED), Make.PORTABLE)
    assert (found.copied, found.widened) == (experts.bytes + narrow.bytes, 0)


def test_an_embedding_that_is_the_output_too_lies_in_tiles() -> None:
    embedding = tensor("token_embd.weight", 256, 64, kind="q8_0")
    found = repacked(model(embedding), a_cpu(*TILED), Make.NATIVE)
    assert found == Repacked(added=embedding.bytes + 4 * 64 * 8)


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        (tensor("blk.1.attn_output.weight", 256, 64), True),
        (tensor("output.weight", 256, 64), True),
        (tensor("blk.1.ffn_down_exps.weight", 256, 64, 4), True),
        (tensor("blk.1.attn_k_b.weight", 256, 64, 4), False),  # of three dimensions, but no experts are chosen
        (tensor("blk.1.ffn_down.weight", 256, 60), False),  # its rows do not come in whole groups
        (tensor("blk.2.ffn_up.weight", 256, 64), False),  # a drafting head, which is not loaded
        (tensor("blk.1.ssm_conv1d.weight", 256, 64), False),
        (tensor("token_embd.weight", 256, 64), False),  # looked up row by row
        (tensor("per_layer_token_embd.weight", 256, 64), False),
        (tensor("blk.1.attn_norm.weight", 256), False),
    ],
)
def test_only_matrices_that_multiply_are_rearranged(other: Tensor, counts: bool) -> None:
    both = (MATRIX, other, tensor("output.weight", 256, 60)) if other.name != "output.weight" else (MATRIX, other)
    assert repacked(model(*both), a_cpu("avx2")).copied == MATRIX.bytes + (other.bytes if counts else 0)


def test_an_embedding_that_is_the_output_too_is_needed_twice() -> None:
    embedding = tensor("token_embd.weight", 256, 64)
    assert repacked(model(embedding), a_cpu("avx2")).added == embedding.bytes
    assert repacked(model(embedding, tensor("output.weight", 256, 64)), a_cpu("avx2")).added == 0
    assert repacked(model(tensor("token_embd.weight", 256, 64, kind="q6_k")), a_cpu("avx2")) == NOTHING
