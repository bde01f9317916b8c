"""The header of one GGUF file: its keys and its table of tensors. Source: ggml/docs/gguf.md, gguf.cpp of b11549."""

from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap

from bercail.core.errors import ReadError
from bercail.core.model import MetadataValue, Tensor
from bercail.readers.gguf.cursor import AGAIN, Cursor
from bercail.readers.gguf.table import Table, read_table
from bercail.readers.gguf.values import ValueReader

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT_BYTES = 32
DAMAGED = "the file is damaged or was converted wrongly: get it again, or from another publisher"
MAX_KEYS = 65_536
MAX_KEY_BYTES = 65_535
_SMALLEST_PAIR_BYTES = 8 + 1 + 4 + 1
"""Length and one letter of a key, type and one byte of a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One file's header.

    Attributes:
        path: the file.
        file_bytes: its size.
        version: 2 or 3.
        big_endian: byte order.
        alignment: of tensor data, in bytes.
        data_offset: where tensor data begins.
        data_end: where the last tensor's data ends.
        metadata: every key; long arrays and strings as ``ArraySummary``.
        types: the type of every key: ``uint32``, ``string``, ``array[int32]`` ...
        offsets: where each key's value begins.
        tensors: the table, in file order; offsets are from the start of the file.
        entries: where each tensor's entry in the table begins.
    """

    path: str
    file_bytes: int
    version: int
    big_endian: bool
    alignment: int
    data_offset: int
    data_end: int
    metadata: Mapping[str, MetadataValue]
    types: Mapping[str, str]
    offsets: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    entries: Mapping[str, int]

    def refuse(self, message: str, field: str, *, code: str = "unfit_model", hint: str = "") -> ReadError:
        """An error about a key or tensor of this file, with its place."""
        offset = self.offsets.get(field, self.entries.get(field))
        return ReadError(message, path=self.path, field=field, offset=offset, hint=hint or DAMAGED, code=code)


def parse(data: bytes | mmap, path: str) -> Header:
    """The header in ``data``, which starts with the magic.

    Raises:
        ReadError: the header lies, breaks off, or the tensors it lists are not all there.
    """
    version, big_endian = _version(data, path)
    cursor = Cursor(data, path, big_endian=big_endian, offset=8)
    tensor_count = cursor.u64("tensor count")
    metadata, types, offsets = _pairs(cursor)
    alignment = _alignment(cursor, metadata, types, offsets)
    table = read_table(cursor, tensor_count, alignment)
    _complete(cursor, table, alignment)
    return Header(
        path=path,
        file_bytes=len(data),
        version=version,
        big_endian=big_endian,
        alignment=alignment,
        data_offset=table.data_offset,
        data_end=table.data_end,
        metadata=metadata,
        types=types,
        offsets=offsets,
        tensors=table.tensors,
        entries=table.entries,
    )


def byte_order(data: bytes | mmap, path: str) -> bool:
    """Whether the file is big endian."""
    return _version(data, path)[1]


def _version(data: bytes | mmap, path: str) -> tuple[int, bool]:
    if len(data) < 24:
        raise ReadError(
            f"the file has {len(data)} bytes; a GGUF header alone takes 24",
            path=path,
            field="header",
            offset=len(data),
            hint=AGAIN,
            code="too_short",
        )
    version = int.from_bytes(data[4:8], "little")
    # A version whose low half is zero is a small number in the other byte order.
    big_endian = version & 0xFFFF == 0 and version != 0
    if big_endian:
        version = int.from_bytes(data[4:8], "big")
    if version in VERSIONS:
        return version, big_endian
    hint = "convert the model again with a current llama.cpp" if version <= 1 else "update Bercail"
    raise ReadError(
        f"GGUF version {version}; versions 2 and 3 are read",
        path=path,
        field="version",
        offset=4,
        hint=hint,
        code="gguf_version",
    )


def _pairs(cursor: Cursor) -> tuple[dict[str, MetadataValue], dict[str, str], dict[str, int]]:
    start = cursor.offset
    count = cursor.u64("key count")
    if count > cursor.left // _SMALLEST_PAIR_BYTES or count > MAX_KEYS:
        raise cursor.refuse(
            f"the count is {count:,}, but {cursor.left:,} bytes follow (at most {MAX_KEYS:,} keys are read)",
            "key count",
            start,
            code="truncated",
        )
    reader = ValueReader(cursor)
    metadata: dict[str, MetadataValue] = {}
    types: dict[str, str] = {}
    offsets: dict[str, int] = {}
    for number in range(count):
        place = cursor.offset
        key = cursor.text(f"key {number + 1} of {count}", MAX_KEY_BYTES)
        if not key or "\0" in key:
            raise cursor.refuse("the key is empty or holds a NUL", f"key {number + 1} of {count}", place)
        if key in metadata:
            raise cursor.refuse("the key comes twice", key, place)
        offsets[key] = cursor.offset
        types[key], metadata[key] = reader.read(key)
    return metadata, types, offsets


def _alignment(
    cursor: Cursor, metadata: Mapping[str, MetadataValue], types: Mapping[str, str], offsets: Mapping[str, int]
) -> int:
    key = "general.alignment"
    value = metadata.get(key, DEFAULT_ALIGNMENT_BYTES)
    if key in types and types[key] != "uint32":
        raise cursor.refuse(f"is {types[key]}, but must be uint32", key, offsets[key])
    if not isinstance(value, int) or value <= 0 or value & (value - 1):
        raise cursor.refuse(f"alignment {value} is not a power of two", key, offsets[key])
    return value


def _complete(cursor: Cursor, table: Table, alignment: int) -> None:
    """Refuse a file that ends before its last tensor does, or within the padding after it.

    Writers either pad the last tensor like all others or not at all, so a piece of padding is a broken download.
    """
    if not table.tensors or cursor.size == table.data_end:
        return
    padded_end = -(-table.data_end // alignment) * alignment
    missing = padded_end - cursor.size
    if missing <= 0:
        return
    first = next((t for t in table.tensors if t.offset + t.bytes > cursor.size), table.tensors[-1])
    have = min(max(0, cursor.size - first.offset), first.bytes)
    raise ReadError(
        f"the download is incomplete: {missing:,} of {padded_end:,} bytes are missing; "
        f"{have:,} of the {first.bytes:,} bytes of this tensor are here",
        path=cursor.path,
        field=first.name,
        offset=cursor.size,
        hint="resume or repeat the download",
        code="truncated",
    )
