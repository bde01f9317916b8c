"""A draft model from a trained one: its first blocks alone, with the same tokenizer.

    python -m tools.concierge.draft MODEL.gguf OUT.gguf [--blocks 1]

What it guesses is wrong more often than not, for nothing was trained to come out after these blocks; what the model
says with it is the same. It is for tests of drafting, not for speed.
"""

import argparse
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from bercail.core.model import Tensor
from bercail.readers import Readers
from tools.synth.write import ARRAY, KINDS, STRING, padded, string

_ALIGNMENT = 32


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--blocks", type=int, default=1, help="kept; default %(default)s")
    given = parser.parse_args(argv)
    write_draft(given.model, given.out, given.blocks)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")
    return 0


def write_draft(source: Path, out: Path, blocks: int = 1) -> None:
    """Write the model at `source` with its first `blocks` blocks alone to `out`."""
    raw = source.read_bytes()
    model = Readers({}, source.parent, source.parent).read(str(source))
    count, metadata = _metadata(raw)
    key = string(f"{model.architecture}.block_count") + struct.pack("<I", KINDS["uint32"][0])
    assert metadata.count(key) == 1
    place = metadata.index(key) + len(key)
    metadata = metadata[:place] + struct.pack("<I", blocks) + metadata[place + 4 :]
    kept = [tensor for tensor in model.tensors if tensor.block < blocks]
    table, data = b"", b""
    base = model.files[0].data_offset
    for tensor in kept:
        table += _entry(tensor, len(data))
        begin = base + tensor.offset
        data += raw[begin : begin + tensor.bytes].ljust(padded(tensor.bytes, _ALIGNMENT), b"\0")
    head = b"GGUF" + struct.pack("<IQQ", 3, len(kept), count) + metadata + table
    out.write_bytes(head.ljust(padded(len(head), _ALIGNMENT), b"\0") + data)


def _entry(tensor: Tensor, offset: int) -> bytes:
    extents = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return string(tensor.name) + extents + struct.pack("<IQ", tensor.type.id, offset)


def _metadata(raw: bytes) -> tuple[int, bytes]:
    """How many keys a file of version 3 has, and their bytes."""
    (count,) = struct.unpack_from("<Q", raw, 16)
    place = 24
    for _ in range(count):
        place = _after_string(raw, place)
        (kind,) = struct.unpack_from("<I", raw, place)
        place = _after(raw, place + 4, kind)
    return count, raw[24:place]


_SIZES = {number: struct.calcsize(letter) for number, letter in KINDS.values()}


def _after(raw: bytes, place: int, kind: int) -> int:
    if kind == STRING:
        return _after_string(raw, place)
    if kind != ARRAY:
        return place + _SIZES[kind]
    inner, length = struct.unpack_from("<IQ", raw, place)
    place += 12
    if inner != STRING:
        return place + length * _SIZES[inner]
    for _ in range(length):
        place = _after_string(raw, place)
    return place


def _after_string(raw: bytes, place: int) -> int:
    (length,) = struct.unpack_from("<Q", raw, place)
    return place + 8 + int(length)


if __name__ == "__main__":
    sys.exit(main())
