"""Walking a GGUF header: bounded reads that name field and byte when they refuse. Nothing is sized by the file."""

import re
import struct
from functools import lru_cache
from itertools import repeat
from mmap import mmap

from bercail.core.errors import ReadError

MAX_ARRAY_STRINGS = 4_194_304
"""Strings in all arrays of one header together: several times the largest known vocabulary with its merges."""

AGAIN = "download it again and compare its size with the publisher's"

_BLOCK = 64
_SHORT = 64
_COMMON = 8


@lru_cache(maxsize=2)
def _short_strings(*, big_endian: bool) -> re.Pattern[bytes]:
    """A pattern that matches exactly 64 strings shorter than 64 bytes, each behind its 8-byte length.

    One alternative per length, commonest first, and nothing that could backtrack. On the headers of
    ``bench/micro/gguf_header.py`` this walks twice as fast as a Python loop that unpacks every length. Larger blocks
    lose more where one long string sends a whole block to that loop.
    """
    by_likelihood = sorted(range(_SHORT), key=lambda length: abs(length - _COMMON))
    heads = (length.to_bytes(8, "big" if big_endian else "little") for length in by_likelihood)
    choices = (b"%b.{%d}+" % (re.escape(head), length) for head, length in zip(heads, by_likelihood, strict=True))
    return re.compile(b"(?:%b){%d}+" % (b"|".join(choices), _BLOCK), re.DOTALL)


class Cursor:
    """A place in a header, moving forward.

    Attributes:
        data: the file.
        size: its length in bytes.
        offset: the next byte to read.
        path: for messages.
        big_endian: byte order of the numbers.
    """

    __slots__ = ("_u32", "_u64", "big_endian", "data", "offset", "order", "path", "size", "strings_left")

    def __init__(self, data: bytes | mmap, path: str, *, big_endian: bool = False, offset: int = 0) -> None:
        self.data = data
        self.size = len(data)
        self.path = path
        self.offset = offset
        self.big_endian = big_endian
        self.order = ">" if big_endian else "<"
        self._u32 = struct.Struct(self.order + "I").unpack_from
        self._u64 = struct.Struct(self.order + "Q").unpack_from
        self.strings_left = MAX_ARRAY_STRINGS

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self.size - self.offset

    def refuse(self, message: str, field: str, offset: int | None = None, *, code: str = "bad_header") -> ReadError:
        """An error at ``offset``, or here."""
        return ReadError(
            message,
            path=self.path,
            field=field,
            offset=self.offset if offset is None else offset,
            hint=AGAIN,
            code=code,
        )

    def need(self, count: int, field: str) -> None:
        """Refuse unless ``count`` more bytes are there."""
        if count > self.size - self.offset:
            raise self.refuse(
                f"the file ends here; {count:,} more bytes should follow, {self.left:,} do", field, code="truncated"
            )

    def u32(self, field: str) -> int:
        """The next 4 bytes."""
        self.need(4, field)
        value: int = self._u32(self.data, self.offset)[0]
        self.offset += 4
        return value

    def u64(self, field: str) -> int:
        """The next 8 bytes."""
        self.need(8, field)
        value: int = self._u64(self.data, self.offset)[0]
        self.offset += 8
        return value

    def length(self, field: str) -> int:
        """The length of a string that really lies within the file."""
        start = self.offset
        length = self.u64(field)
        if length > self.left:
            raise self.refuse(
                f"a string of {length:,} bytes is announced, but only {self.left:,} follow",
                field,
                start,
                code="truncated",
            )
        return length

    def text(self, field: str, limit: int) -> str:
        """The next string, at most ``limit`` bytes of UTF-8."""
        start = self.offset
        length = self.length(field)
        if length > limit:
            raise self.refuse(f"a string of {length:,} bytes is longer than the {limit:,} allowed here", field, start)
        raw = self.data[self.offset : self.offset + length]
        self.offset += length
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.refuse("the text is not UTF-8", field, start + 8 + error.start) from error

    def skip_strings(self, count: int, field: str) -> None:
        """Pass over ``count`` strings; every length is checked against what is left of the file."""
        if count > self.left // 8:
            raise self.refuse(
                f"{count:,} strings are announced, but only {self.left:,} bytes follow", field, code="truncated"
            )
        self.strings_left -= count
        if self.strings_left < 0:
            raise self.refuse(f"more than {MAX_ARRAY_STRINGS:,} strings in the arrays of one header", field)
        match = _short_strings(big_endian=self.big_endian).match if count >= _BLOCK else None
        while match and count >= _BLOCK:
            found = match(self.data, self.offset)
            if found is None:
                self._walk_strings(_BLOCK, field)
            else:
                self.offset = found.end()
            count -= _BLOCK
        self._walk_strings(count, field)

    def _walk_strings(self, count: int, field: str) -> None:
        """The same one by one: for long strings, for the rest, and to find the one that lies."""
        data, size, unpack, offset = self.data, self.size, self._u64, self.offset
        last = offset
        try:
            for _ in repeat(None, count):
                last = offset
                offset += 8 + unpack(data, offset)[0]
                if offset > size:
                    break
        except struct.error:
            offset = size + 1
        self.offset = offset
        if offset > size:
            raise self.refuse("a string of this array reaches past the end of the file", field, last, code="truncated")

    def strings(self, count: int) -> list[bytes]:
        """The next ``count`` strings, which ``skip_strings`` has already passed over once."""
        data, unpack, offset = self.data, self._u64, self.offset
        found: list[bytes] = []
        for _ in repeat(None, count):
            start = offset + 8
            offset = start + unpack(data, offset)[0]
            found.append(data[start:offset])
        self.offset = offset
        return found
