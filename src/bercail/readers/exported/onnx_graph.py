"""What a plan needs of an ONNX file: how many weights of which kind, where they lie, and the type of the cache.

The file is a protobuf message. Only the fields that matter are looked at; arrays are skipped, not read, so that a file
of 2 GiB costs no more than its graph. Source: ``onnx.proto`` (ONNX IR version 10); ``MatMulNBits`` and
``GatherBlockQuantized`` of ONNX Runtime's contrib operators.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from bercail.core.errors import ReadError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16",
    21: "uint4", 22: "int4",
}  # fmt: skip
_WHOLE = frozenset(("float32", "float16", "bfloat16", "int8", "uint8", "int4", "uint4"))
_QUANTIZED = "MatMulNBits"
_GATHERED = "GatherBlockQuantized"


@dataclass(slots=True)
class Graph:
    """What was found.

    Attributes:
        weights: numbers that were trained; scales and zero points are not.
        quantization: ``int4``, ``int8``, ``f16`` ...: what most weights are.
        cache_type: element type of a key of the cache, in ONNX's words; empty if there is none.
        external: names of the files beside it that hold weights.
    """

    weights: int
    quantization: str
    cache_type: str
    external: tuple[str, ...]


@dataclass(slots=True)
class _Counts:
    sizes: dict[str, tuple[str, int]] = field(default_factory=dict)
    quantized: dict[str, tuple[int, int]] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    external: dict[str, None] = field(default_factory=dict)
    cache_type: str = ""


class _Wire:
    """Fields of a protobuf message in a part of a file."""

    def __init__(self, data: "mmap.mmap | bytes", path: Path) -> None:
        self.data = data
        self.path = path

    def fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, value, and where the value lies: of bytes its beginning and end, else zeros."""
        place = begin
        while place < end:
            key, place = self.varint(place, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, place = self.varint(place, end)
                yield number, value, 0, 0
            elif kind == _BYTES:
                size, place = self.varint(place, end)
                if size > end - place:
                    raise self.broken(place)
                yield number, 0, place, place + size
                place += size
            elif kind in (_FIXED32, _FIXED64):
                place += 4 if kind == _FIXED32 else 8
            else:
                raise self.broken(place)

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """A number, and where the next field begins."""
        value = shift = 0
        while True:
            if place >= end or shift > 63:
                raise self.broken(place)
            byte = self.data[place]
            value |= (byte & 0x7F) << shift
            place += 1
            if byte < 0x80:
                return value, place
            shift += 7

    def text(self, begin: int, end: int) -> str:
        """Bytes as text."""
        return self.data[begin:end].decode("utf-8", "replace")

    def broken(self, place: int) -> ReadError:
        """What to say of a file that cannot be right."""
        return ReadError(
            "is no ONNX file, or is cut short", path=str(self.path), offset=place,
            hint="copy the folder whole, or export the model again", code="bad_export",
        )  # fmt: skip


def read_graph(path: Path) -> Graph:
    """What the file says of its weights.

    Raises:
        ReadError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            counts = _count(_Wire(data, path), len(data))
    except FileNotFoundError as error:
        raise ReadError("is missing", path=str(path), hint="copy the folder whole", code="bad_export") from error
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ReadError(f"cannot be read: {error}", path=str(path), hint="copy the folder whole") from error
    return _summed(counts)


def _count(wire: _Wire, size: int) -> _Counts:
    counts = _Counts()
    graphs = [(begin, end) for number, _, begin, end in wire.fields(0, size) if number == 7 and end]
    if not graphs:
        raise wire.broken(0)
    for begin, end in graphs:
        for number, _, first, last in wire.fields(begin, end):
            if number == 1:
                _note_node(wire, first, last, counts)
            elif number == 5:
                _note_weight(wire, first, last, counts)
            elif number == 11:
                _note_input(wire, first, last, counts)
    return counts


def _note_weight(wire: _Wire, begin: int, end: int, counts: _Counts) -> None:
    """An initializer: its name, type, size, and the file that holds it if that is another."""
    name, kind, dims = "", 0, []
    for number, value, first, last in wire.fields(begin, end):
        if number == 1 and last:
            place = first
            while place < last:
                dim, place = wire.varint(place, last)
                dims.append(dim)
        elif number == 1:
            dims.append(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = wire.text(first, last)
        elif number == 13:
            entry = {key: wire.text(*place) for key, _, *place in wire.fields(first, last)}
            if entry.get(1) == "location" and entry.get(2):
                counts.external[_beside(entry[2], wire)] = None
    counts.sizes[name] = (_TYPES.get(kind, str(kind)), prod(dims))


def _beside(name: str, wire: _Wire) -> str:
    if Path(name).name != name:
        raise ReadError(
            f"its weights lie in {name!r}, which is not in the folder", path=str(wire.path), code="bad_export",
            hint="export the model again",
        )  # fmt: skip
    return name


def _note_node(wire: _Wire, begin: int, end: int, counts: _Counts) -> None:
    """An operation: those on packed weights tell how many there are, and which of their inputs are scales."""
    inputs, kind, numbers = [], "", {}
    for number, _, first, last in wire.fields(begin, end):
        if number == 1:
            inputs.append(wire.text(first, last))
        elif number == 4:
            kind = wire.text(first, last)
        elif number == 5:
            name, value = "", 0
            for part, whole, one, two in wire.fields(first, last):
                if part == 1:
                    name = wire.text(one, two)
                elif part == 3:
                    value = whole
            numbers[name] = value
    if kind == _QUANTIZED and len(inputs) > 1:
        counts.quantized[inputs[1]] = (numbers.get("K", 0) * numbers.get("N", 0), numbers.get("bits", 4))
        counts.aside.update(inputs[2:4])
    elif kind == _GATHERED and inputs:
        counts.aside.update(inputs[2:4])


def _note_input(wire: _Wire, begin: int, end: int, counts: _Counts) -> None:
    """An input of the graph: that of a past key has the type of the cache."""
    name, kind = "", 0
    for number, _, first, last in wire.fields(begin, end):
        if number == 1:
            name = wire.text(first, last)
        elif number == 2:
            for part, _, one, two in wire.fields(first, last):
                if part == 1:
                    kind = next((value for field_, value, _, _ in wire.fields(one, two) if field_ == 1), 0)
    if name.startswith("past") and not counts.cache_type:
        counts.cache_type = _TYPES.get(kind, "")


def _summed(counts: _Counts) -> Graph:
    by_kind: Counter[str] = Counter()
    for name, (kind, size) in counts.sizes.items():
        if name in counts.quantized:
            packed, bits = counts.quantized[name]
            by_kind[f"int{bits}"] += packed
        elif name not in counts.aside and kind in _WHOLE:
            by_kind[{"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(kind, kind)] += size
    most = by_kind.most_common(1)
    return Graph(
        weights=by_kind.total(),
        quantization=most[0][0] if most else "unknown",
        cache_type=counts.cache_type,
        external=tuple(counts.external),
    )
