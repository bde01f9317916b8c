"""Writes a published model's header as a sparse GGUF file of full size: `python -m tools.synth Llama-3.1-8B OUT.gguf`.

It can be inspected and planned like the real file and takes next to nothing of the disk; its weights are zeros. With
`--random` they are random numbers, the file is as large as it looks, and engines load it: for speed and memory.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.synth.mix import FILE_TYPES, MIXES, quantized
from tools.synth.shapes import known, read_table, speakable
from tools.synth.weights import fill
from tools.synth.write import TensorSpec, Value, layout, write_gguf


def write_random(path: Path, metadata: dict[str, Value], tensors: Sequence[TensorSpec]) -> None:
    """Write a model with random weights and a tokenizer for its vocabulary at `path`."""
    count = next(value for key, value in metadata.items() if key.endswith(".vocab_size"))
    assert isinstance(count, int)
    metadata = {**metadata, **speakable(count)}
    write_gguf(path, metadata, tensors)
    _, places, _ = layout(metadata, tensors)
    fill(path, dict(zip(places, tensors, strict=True)))


def main(argv: Sequence[str] | None = None) -> int:
    table = read_table()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=f"one of {', '.join(table)}")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--type", choices=MIXES, default="Q4_K_M", dest="mix", help="default %(default)s")
    parser.add_argument("--random", action="store_true", help="random weights and a tokenizer, so that engines load it")
    given = parser.parse_args(argv)
    if given.model not in table:
        near = difflib.get_close_matches(given.model, table) or list(table)
        parser.error(f"no model {given.model} in the table; near are {', '.join(near)}")
    shape = table[given.model]
    metadata, tensors = known(shape)
    found = quantized(tensors, given.mix, layers=shape["layers"], architecture=shape["arch"])
    metadata["general.file_type"] = FILE_TYPES[given.mix]
    metadata["general.name"] = f"{given.model} {given.mix}, {'random weights' if given.random else 'header only'}"
    if given.random:
        write_random(given.out, metadata, found)
    else:
        write_gguf(given.out, metadata, found)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, {len(found)} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
