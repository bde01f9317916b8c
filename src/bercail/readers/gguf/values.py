"""The values of a GGUF header: what is short is read, what is long is measured and skipped."""

import struct
from typing import NamedTuple

from bercail.core.model import ArraySummary, MetadataValue
from bercail.readers.gguf.cursor import Cursor

MAX_TEXT_BYTES = 1_048_576
"""Longer strings (whole tokenizers as JSON) are measured, not read."""

MAX_NUMBERS = 1024
"""Longer numeric arrays are measured, not read; per-layer arrays have at most 512 entries."""

MAX_STRINGS = 64
"""Longer string arrays are measured, not read; so is every array of the tokenizer."""

MAX_READ_BYTES = 16_777_216
"""All that is read of one header together; what comes after is measured."""

_STRING = 8
_ARRAY = 9


class _Scalar(NamedTuple):
    name: str
    format: str
    bytes: int


# Source: enum gguf_type in gguf.h of llama.cpp b11549.
_SCALARS = {
    0: _Scalar("uint8", "B", 1),
    1: _Scalar("int8", "b", 1),
    2: _Scalar("uint16", "H", 2),
    3: _Scalar("int16", "h", 2),
    4: _Scalar("uint32", "I", 4),
    5: _Scalar("int32", "i", 4),
    6: _Scalar("float32", "f", 4),
    7: _Scalar("bool", "?", 1),
    10: _Scalar("uint64", "Q", 8),
    11: _Scalar("int64", "q", 8),
    12: _Scalar("float64", "d", 8),
}


class ValueReader:
    """Reads values at a cursor, with a budget for the whole header."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._budget_bytes = MAX_READ_BYTES

    def read(self, key: str) -> tuple[str, MetadataValue]:
        """The name of the type (``uint32``, ``string``, ``array[int32]`` ...) and the value."""
        start = self._cursor.offset
        kind = self._cursor.u32(key)
        if kind == _STRING:
            return "string", self._text(key)
        if kind == _ARRAY:
            return self._array(key)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise self._cursor.refuse(f"value type {kind} does not exist", key, start)
        return scalar.name, self._numbers(key, scalar, 1)[0]

    def _text(self, key: str) -> MetadataValue:
        cursor = self._cursor
        start = cursor.offset
        length = cursor.length(key)
        if length > MAX_TEXT_BYTES or length > self._budget_bytes:
            cursor.offset += length
            return ArraySummary(element="byte", count=length, offset=start + 8)
        self._budget_bytes -= length
        cursor.offset = start
        return cursor.text(key, MAX_TEXT_BYTES)

    def _numbers(self, key: str, scalar: _Scalar, count: int) -> tuple[int | float | bool, ...]:
        cursor = self._cursor
        cursor.need(count * scalar.bytes, key)
        found = struct.unpack_from(f"{cursor.order}{count}{scalar.format}", cursor.data, cursor.offset)
        cursor.offset += count * scalar.bytes
        return found

    def _array(self, key: str) -> tuple[str, MetadataValue]:
        cursor = self._cursor
        start = cursor.offset
        kind = cursor.u32(key)
        if kind == _ARRAY:
            raise cursor.refuse("an array of arrays, which no engine reads", key, start)
        if kind == _STRING:
            return "array[string]", self._string_array(key)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise cursor.refuse(f"array of value type {kind}, which does not exist", key, start)
        return f"array[{scalar.name}]", self._number_array(key, scalar)

    def _number_array(self, key: str, scalar: _Scalar) -> MetadataValue:
        cursor = self._cursor
        start = cursor.offset
        count = cursor.u64(key)
        if count > cursor.left // scalar.bytes:
            raise cursor.refuse(
                f"{count:,} values are announced, but only {cursor.left:,} bytes follow", key, start, code="truncated"
            )
        size = count * scalar.bytes
        # A value read takes some 32 bytes of memory, whatever it took in the file.
        if count > MAX_NUMBERS or count * 32 > self._budget_bytes:
            summary = ArraySummary(element=scalar.name, count=count, offset=cursor.offset)
            cursor.offset += size
            return summary
        self._budget_bytes -= count * 32
        return self._numbers(key, scalar, count)

    def _string_array(self, key: str) -> MetadataValue:
        cursor = self._cursor
        count = cursor.u64(key)
        start = cursor.offset
        cursor.skip_strings(count, key)
        end = cursor.offset
        size = end - start
        if count > MAX_STRINGS or key.startswith("tokenizer.") or size > MAX_TEXT_BYTES or size > self._budget_bytes:
            return ArraySummary(element="string", count=count, offset=start)
        self._budget_bytes -= size
        cursor.offset = start
        return tuple(raw.decode(errors="replace") for raw in cursor.strings(count))
