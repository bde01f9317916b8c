"""Random weights of any type, made by llama.cpp's own quantizer and repeated through the file.

A quarter of a million values are quantized once per type; every tensor is filled from that piece, begun at a place of
its own. Speed and memory are those of real weights, for neither depends on the values; the text is noise.
"""

import ctypes
import random
import struct
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.engines.llama_cpp.library import library_path
from tools.synth.write import TensorSpec

VALUES = 1 << 18
SCALE = 0.02
ONES, MINUS_ONES, ZEROS = (struct.pack("<f", value) for value in (1.0, -1.0, 0.0))


def piece(kind: str, seed: int) -> bytes:
    """`VALUES` normal values in `kind`, whole blocks."""
    dice = random.Random(seed)
    values = array("f", (dice.gauss(0.0, SCALE) for _ in range(VALUES)))
    if kind == "f32":
        return values.tobytes()
    form = TENSOR_TYPES_BY_NAME[kind]
    out = ctypes.create_string_buffer(VALUES // form.block_weights * form.block_bytes)
    address, _ = values.buffer_info()
    _quantizer()(form.id, address, ctypes.addressof(out), 0, 1, VALUES, None)
    return out.raw


def _quantizer() -> Callable[..., int]:
    quantize = ctypes.CDLL(str(library_path())).ggml_quantize_chunk
    quantize.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    quantize.restype = ctypes.c_size_t
    function: Callable[..., int] = quantize
    return function


def fill(path: Path, tensors: Mapping[int, TensorSpec], seed: int = 1) -> None:
    """Write weights into the file at `path`, whose tensor data begin at the keys of `tensors`."""
    pieces = {kind: piece(kind, seed) for kind in {tensor.type for tensor in tensors.values()}}
    dice = random.Random(seed)
    with path.open("r+b") as file:
        for place, tensor in tensors.items():
            file.seek(place)
            block = TENSOR_TYPES_BY_NAME[tensor.type].block_bytes
            _repeat(file.write, _plain(tensor.name) or pieces[tensor.type], tensor.bytes, dice.randrange(64) * block)


def _plain(name: str) -> bytes:
    """The one value of tensors that must not be random: norms and scales, decays of a state, biases."""
    if "norm" in name or name.endswith(("scale", "scale.weight", "rope_freqs.weight", "ssm_d")):
        return ONES * 1024
    if name.endswith("ssm_a"):
        return MINUS_ONES * 1024
    return ZEROS * 1024 if name.endswith(".bias") else b""


def _repeat(write: Callable[[bytes], int], source: bytes, count: int, start: int) -> None:
    turned = source[start % len(source) :] + source[: start % len(source)]
    whole, rest = divmod(count, len(turned))
    for _ in range(whole):
        write(turned)
    write(turned[:rest])
