"""The tensor types of ggml, as of llama.cpp b11549: block sizes and the bytes that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bercail.core.units import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """One ggml tensor type.

    Attributes:
        id: its number in a GGUF file.
        name: lower case, as llama.cpp prints it.
        block_weights: weights per block; a row must hold a whole number of blocks.
        block_bytes: bytes per block.
    """

    id: int
    name: str
    block_weights: int
    block_bytes: Bytes

    @property
    def bits_per_weight(self) -> float:
        """Bits one weight takes, its share of scales included."""
        return self.block_bytes * 8 / self.block_weights


# Source: ggml.h (numbers) and ggml-common.h (block layouts) of llama.cpp b11549, MIT.
_LAYOUTS: tuple[tuple[int, str, int, Bytes], ...] = (
    (0, "f32", 1, 4), (1, "f16", 1, 2), (2, "q4_0", 32, 18), (3, "q4_1", 32, 20), (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24), (8, "q8_0", 32, 34), (9, "q8_1", 32, 36), (10, "q2_k", 256, 84), (11, "q3_k", 256, 110),
    (12, "q4_k", 256, 144), (13, "q5_k", 256, 176), (14, "q6_k", 256, 210), (15, "q8_k", 256, 292),
    (16, "iq2_xxs", 256, 66), (17, "iq2_xs", 256, 74), (18, "iq3_xxs", 256, 98), (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18), (21, "iq3_s", 256, 110), (22, "iq2_s", 256, 82), (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1), (25, "i16", 1, 2), (26, "i32", 1, 4), (27, "i64", 1, 8), (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56), (30, "bf16", 1, 2), (34, "tq1_0", 256, 54), (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17), (40, "nvfp4", 64, 36), (41, "q1_0", 128, 18), (42, "q2_0", 64, 18),
)  # fmt: skip

TENSOR_TYPES: Mapping[int, TensorType] = MappingProxyType(
    {i: TensorType(id=i, name=n, block_weights=w, block_bytes=b) for i, n, w, b in _LAYOUTS}
)
TENSOR_TYPES_BY_NAME: Mapping[str, TensorType] = MappingProxyType({t.name: t for t in TENSOR_TYPES.values()})

REMOVED_TYPES: Mapping[int, str] = MappingProxyType(
    {
        4: "q4_2", 5: "q4_3", 31: "q4_0_4_4", 32: "q4_0_4_8", 33: "q4_0_8_8",
        36: "iq4_nl_4_4", 37: "iq4_nl_4_8", 38: "iq4_nl_8_8",
    }
)  # fmt: skip

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""The types llama.cpp accepts for the KV cache, largest first."""
