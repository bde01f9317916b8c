"""The table of tensors of a GGUF file: names, shapes, types and places."""

from dataclasses import dataclass

from bercail.core.model import Tensor
from bercail.core.quant import REMOVED_TYPES, TENSOR_TYPES, TensorType
from bercail.readers.gguf.cursor import Cursor

MAX_TENSORS = 65_536
MAX_NAME_BYTES = 63
MAX_DIMENSIONS = 4
_MAX_INT64 = 2**63 - 1
_SMALLEST_ENTRY_BYTES = 8 + 1 + 4 + 4 + 8
"""Length and one letter of a name, number of dimensions, type, offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table.

    Attributes:
        tensors: in file order; offsets from the start of the file.
        entries: where each tensor's entry begins.
        data_offset: where tensor data begins.
        data_end: where the last tensor's data ends.
    """

    tensors: tuple[Tensor, ...]
    entries: dict[str, int]
    data_offset: int
    data_end: int


def read_table(cursor: Cursor, count: int, alignment: int) -> Table:
    """The ``count`` entries at the cursor.

    As in the engine, data must follow in the order of the table without gaps or overlaps, each tensor aligned.
    """
    if count > cursor.left // _SMALLEST_ENTRY_BYTES or count > MAX_TENSORS:
        raise cursor.refuse(
            f"the count is {count:,}, but {cursor.left:,} bytes follow (at most {MAX_TENSORS:,} tensors are read)",
            "tensor count",
            8,
            code="truncated",
        )
    entries: dict[str, int] = {}
    raw: list[tuple[str, tuple[int, ...], TensorType, int]] = []
    expected = 0
    end = 0
    for number in range(count):
        place = cursor.offset
        name = _name(cursor, f"tensor {number + 1} of {count}")
        if name in entries:
            raise cursor.refuse("the tensor is listed twice", name, place)
        entries[name] = place
        shape, kind = _shape_and_type(cursor, name)
        _check_place(cursor, name, expected, alignment)
        raw.append((name, shape, kind, expected))
        end = expected + _bytes(shape, kind)
        expected = -(-end // alignment) * alignment
    base = -(-cursor.offset // alignment) * alignment
    tensors = tuple(Tensor(name=n, shape=s, type=t, offset=base + o) for n, s, t, o in raw)
    return Table(tensors=tensors, entries=entries, data_offset=base, data_end=base + end)


def _name(cursor: Cursor, field: str) -> str:
    place = cursor.offset
    name = cursor.text(field, MAX_NAME_BYTES)
    if not name or "\0" in name:
        raise cursor.refuse("the tensor's name is empty or holds a NUL", field, place)
    return name


def _shape_and_type(cursor: Cursor, name: str) -> tuple[tuple[int, ...], TensorType]:
    place = cursor.offset
    dimensions = cursor.u32(name)
    if dimensions > MAX_DIMENSIONS:
        raise cursor.refuse(f"{dimensions:,} dimensions; at most {MAX_DIMENSIONS} exist", name, place)
    shape = tuple(cursor.u64(name) for _ in range(dimensions))
    weights = 1
    for extent in shape:
        weights *= extent
        if not 0 < extent <= _MAX_INT64 or weights > _MAX_INT64:
            raise cursor.refuse(
                f"shape {shape} is impossible: a dimension is 0 or their product too large", name, place
            )
    kind = _type(cursor, name)
    row = shape[0] if shape else 1
    if row % kind.block_weights:
        raise cursor.refuse(
            f"a row of {row:,} weights is no whole number of {kind.name} blocks of {kind.block_weights}", name, place
        )
    if _bytes(shape, kind) > _MAX_INT64:
        raise cursor.refuse(f"shape {shape} of type {kind.name} takes more than 2^63 bytes", name, place)
    return shape, kind


def _type(cursor: Cursor, name: str) -> TensorType:
    place = cursor.offset
    number = cursor.u32(name)
    kind = TENSOR_TYPES.get(number)
    if kind is not None:
        return kind
    if number in REMOVED_TYPES:
        raise cursor.refuse(
            f"tensor type {REMOVED_TYPES[number]} was removed from llama.cpp; get a newer conversion", name, place
        )
    raise cursor.refuse(f"tensor type {number} is unknown to llama.cpp b11549", name, place)


def _bytes(shape: tuple[int, ...], kind: TensorType) -> int:
    weights = 1
    for extent in shape:
        weights *= extent
    return weights // kind.block_weights * kind.block_bytes


def _check_place(cursor: Cursor, name: str, expected: int, alignment: int) -> None:
    place = cursor.offset
    offset = cursor.u64(name)
    if offset == expected:
        return
    if offset % alignment:
        what = f"its data begins at {offset:,}, which is no multiple of the alignment {alignment}"
    elif offset < expected:
        what = f"its data begins at {offset:,} and overlaps the tensor before it, which ends at {expected:,}"
    else:
        what = f"its data begins at {offset:,}, but should follow the tensor before it at {expected:,}"
    raise cursor.refuse(what, name, place)
