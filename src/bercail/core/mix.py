"""The quantization mix of a model: which tensor class has which type in which layers."""

import re
from collections import defaultdict
from dataclasses import dataclass

from bercail.core.model import Model
from bercail.core.units import Bytes

_BLOCK = re.compile(r"(?:blk|v\.blk|a\.blk|enc\.blk|dec\.blk)\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeShare:
    """All tensors of one type.

    Attributes:
        type: name of the tensor type.
        tensors: how many.
        weights: their weights together.
    """

    type: str
    tensors: int
    weights: int
    bytes: Bytes

    @property
    def bits_per_weight(self) -> float:
        """Bits one weight takes."""
        return self.bytes * 8 / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMix:
    """One tensor class at one type.

    Attributes:
        tensor_class: such as ``ffn_down.weight``; tensors outside the blocks stand under their own name.
        layers: the blocks as ranges, such as ``0-3,8``; empty outside the blocks.
        type: name of the tensor type.
        bytes: all of them together.
    """

    tensor_class: str
    layers: str
    type: str
    bytes: Bytes


def type_shares(model: Model) -> tuple[TypeShare, ...]:
    """Every type in the model, the one with most bytes first."""
    tensors: dict[str, list[tuple[int, Bytes]]] = defaultdict(list)
    for tensor in model.tensors:
        tensors[tensor.type.name].append((tensor.weights, tensor.bytes))
    shares = [
        TypeShare(type=name, tensors=len(rows), weights=sum(w for w, _ in rows), bytes=sum(b for _, b in rows))
        for name, rows in tensors.items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.type)))


def layer_mix(model: Model) -> tuple[LayerMix, ...]:
    """Every tensor class and type; classes in order of appearance, within one the most frequent type first."""
    layers: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[tuple[str, str], Bytes] = defaultdict(int)
    for tensor in model.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        tensor_class = match[2] if match else tensor.name
        sizes[tensor_class, tensor.type.name] += tensor.bytes
        layers[tensor_class][tensor.type.name].extend([int(match[1])] if match else [])
    return tuple(
        LayerMix(tensor_class=name, layers=ranges(rows), type=kind, bytes=sizes[name, kind])
        for name, kinds in layers.items()
        for kind, rows in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def ranges(numbers: list[int]) -> str:
    """Numbers as ascending ranges: ``[3, 1, 2, 8]`` is ``1-3,8``."""
    parts: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
