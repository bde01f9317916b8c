"""Writes GGUF files: whole headers in true shapes, tensor data sparse or given; for tests and measurements.

Not the reader's mirror image: it follows the format's description, and can be told to lie.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from bercail.core.quant import TENSOR_TYPES_BY_NAME

KINDS = {
    "uint8": (0, "B"), "int8": (1, "b"), "uint16": (2, "H"), "int16": (3, "h"), "uint32": (4, "I"), "int32": (5, "i"),
    "float32": (6, "f"), "bool": (7, "?"), "uint64": (10, "Q"), "int64": (11, "q"), "float64": (12, "d"),
}  # fmt: skip
STRING, ARRAY = 8, 9

Scalar: TypeAlias = str | bytes | bool | int | float


class Typed(NamedTuple):
    """A value of a given type: ``Typed("uint64", 3)``, ``Typed("array[uint8]", [1, 2])``."""

    kind: str
    value: Scalar | Sequence[Scalar]


Value: TypeAlias = Scalar | Sequence[Scalar] | Typed


class TensorSpec(NamedTuple):
    """A tensor to write; ``data`` fills the beginning of its place, the rest is zeros."""

    name: str
    shape: tuple[int, ...]
    type: str = "f16"
    data: bytes = b""

    @property
    def bytes(self) -> int:
        """Size of its data."""
        kind = TENSOR_TYPES_BY_NAME[self.type]
        count = 1
        for extent in self.shape:
            count *= extent
        return count // kind.block_weights * kind.block_bytes


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Iterable[TensorSpec] = (),
    *,
    version: int = 3,
    big_endian: bool = False,
    sparse: bool = True,
) -> Path:
    """A GGUF file at ``path``; tensor data is a hole in the file unless ``sparse`` is off or data is given.

    Integers become uint32, floats float32, lists arrays of the type of their first entry (integers int32); use
    ``Typed`` for anything else. ``general.alignment`` in ``metadata`` is obeyed.
    """
    specs = list(tensors)
    head, places, end = layout(metadata, specs, version=version, big_endian=big_endian)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        for spec, place in zip(specs, places, strict=True):
            if spec.data or not sparse:
                file.seek(place)
                file.write(spec.data if sparse else spec.data.ljust(spec.bytes, b"\0"))
        file.truncate(end)
    return path


def layout(
    metadata: Mapping[str, Value], tensors: Sequence[TensorSpec], *, version: int = 3, big_endian: bool = False
) -> tuple[bytes, list[int], int]:
    """Header with table, where each tensor's data begins, and the size of the whole file."""
    order = ">" if big_endian else "<"
    raw = metadata.get("general.alignment", 32)
    alignment = raw if isinstance(raw, int) else 32
    out = [b"GGUF", struct.pack(order + "IQQ", version, len(tensors), len(metadata))]
    for key, value in metadata.items():
        out += [string(key, order), encoded(value, order)]
    offset = 0
    offsets: list[int] = []
    for spec in tensors:
        kind = TENSOR_TYPES_BY_NAME[spec.type].id
        out.append(string(spec.name, order))
        out.append(struct.pack(f"{order}I{len(spec.shape)}QIQ", len(spec.shape), *spec.shape, kind, offset))
        offsets.append(offset)
        offset = padded(offset + spec.bytes, alignment)
    head = b"".join(out)
    base = padded(len(head), alignment) if tensors else len(head)
    return head, [base + place for place in offsets], base + offset


def padded(size: int, alignment: int) -> int:
    """`size` rounded up to whole steps."""
    return -(-size // alignment) * alignment if alignment > 0 else size


def string(text: str | bytes, order: str = "<") -> bytes:
    """Length and bytes of a text."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack(order + "Q", len(raw)) + raw


def encoded(value: Value, order: str = "<") -> bytes:
    """Type and bytes of a value."""
    kind, plain = (value.kind, value.value) if isinstance(value, Typed) else (_kind(value), value)
    if kind.startswith("array["):
        entries = plain if isinstance(plain, Sequence) and not isinstance(plain, str | bytes) else [plain]
        return struct.pack(order + "I", ARRAY) + _entries(kind[6:-1], entries, order)
    if kind == "string":
        return struct.pack(order + "I", STRING) + string(_text(plain), order)
    number, letter = KINDS[kind]
    return struct.pack(f"{order}I{letter}", number, plain)


def _entries(kind: str, entries: Sequence[Scalar], order: str) -> bytes:
    if kind == "string":
        head = struct.pack(order + "IQ", STRING, len(entries))
        return head + b"".join(string(_text(entry), order) for entry in entries)
    number, letter = KINDS[kind]
    return struct.pack(f"{order}IQ{len(entries)}{letter}", number, len(entries), *entries)


def _text(value: object) -> str | bytes:
    assert isinstance(value, str | bytes)
    return value


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "uint32"
    if isinstance(value, float):
        return "float32"
    if isinstance(value, str | bytes):
        return "string"
    first: object = value[0] if value else "x"
    if isinstance(first, bool):
        return "array[bool]"
    if isinstance(first, int):
        return "array[int32]"
    return "array[float32]" if isinstance(first, float) else "array[string]"
