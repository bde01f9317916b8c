"""The stock mixes of `llama-quantize` (b11549): which type each tensor gets under Q4_K_M and its like.

The rules are those of `llama-quant.cpp`; the sizes they give are tested against published files.
"""

import re
from collections.abc import Sequence

from tools.synth.write import TensorSpec

FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q4_K_M": 15, "Q4_K_S": 14, "Q4_0": 2}
"""Each mix's number in `general.file_type`, without which OpenVINO's reader of GGUF files takes none."""
MIXES = tuple(FILE_TYPES)
_BASE = {
    "F16": "f16", "Q8_0": "q8_0", "Q6_K": "q6_k", "Q5_K_M": "q5_k", "Q4_K_M": "q4_k", "Q4_K_S": "q4_k", "Q4_0": "q4_0",
}  # fmt: skip
_NARROW = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""What takes the place of a k-quant where a row is no multiple of 256."""
_VALUES = re.compile(r"attn_(v|qkv|kv_b)\.weight$")
_LAYER = re.compile(r"blk\.(\d+)\.")


def quantized(tensors: Sequence[TensorSpec], mix: str, *, layers: int, architecture: str = "") -> list[TensorSpec]:
    """`tensors` with the types of `mix`; those that are f32 stay so.

    Args:
        tensors: all tensors of the model, in any order.
        mix: one of `MIXES`.
        layers: blocks of the model, drafting heads included.
        architecture: `llama` of 80 blocks gets more for its values.

    Raises:
        ValueError: no such mix.
    """
    if mix not in MIXES:
        raise ValueError(f"no mix {mix}; there are {', '.join(MIXES)}")
    output = "output.weight" if any(t.name == "output.weight" for t in tensors) else "token_embd.weight"
    values = [t.name for t in tensors if _VALUES.search(t.name)]
    order = {name: index for index, name in enumerate(sorted(values, key=_layer))}
    large = architecture == "llama" and layers == 80
    found = []
    for tensor in tensors:
        if tensor.type == "f32":
            found.append(tensor)
            continue
        kind = _kind(tensor.name, mix, output, order, layers, large=large)
        found.append(tensor._replace(type=_NARROW.get(kind, kind) if tensor.shape[0] % 256 else kind))
    return found


def _kind(name: str, mix: str, output: str, values: dict[str, int], layers: int, *, large: bool) -> str:
    base = _BASE[mix]
    if base in ("f16", "q8_0", "q6_k"):
        return base
    if name == output:
        return "q6_k"
    if mix in ("Q4_K_M", "Q5_K_M"):
        if name in values:
            more = _more_bits(values[name], len(values))
            return "q6_k" if more else "q5_k" if large else base
        return "q6_k" if "ffn_down" in name and _more_bits(_layer(name), layers) else base
    if mix == "Q4_K_S":
        first = values.get(name, 4) < 4 or ("ffn_down" in name and _layer(name) < layers // 8)
        return "q5_k" if first else base
    return base


def _more_bits(index: int, count: int) -> bool:
    """The first and the last eighth, and every third between them."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _layer(name: str) -> int:
    found = _LAYER.match(name)
    return int(found[1]) if found else -1
