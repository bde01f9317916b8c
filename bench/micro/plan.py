"""From a header to a plan, and how long the search takes where most is open: GPUs, splits, experts, layers, context.

The first figure reads a header of 150,000 tokens and 398 tensors and plans it for a machine without GPUs; its baseline
is reading alone. The second plans published shapes for several machines with nothing asked for; its baseline is the
same models on a machine without GPUs. All in one process, interleaved, one round thrown away.

    python -m bench.micro.plan [--runs N] [--json FILE]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.micro import gguf_header
from bercail.core.catalogue import machine_named
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.plan import decide
from bercail.readers import Readers
from tools.figures import publish
from tools.synth.mix import quantized
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

PLAIN = "512gib"
MACHINES = (
    "rtx-3060-12gb + 64gib",
    "rtx-3090 + rtx-3060-12gb + 64gib",
    "4x rtx-3060-12gb + 128gib",
    "8x h200 + 512gib",
)
MODELS = (
    "Llama-3.3-70B",
    "Qwen3.6-27B",
    "Gemma-4-31B",
    "Qwen3.6-35B-A3B",
    "gpt-oss-120b",
    "DeepSeek-V3",
    "GLM-4.5-Air",
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="rounds that count; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = {"runs": given.runs, "header_to_plan": whole_way(Path(folder), given.runs)}
        found["search"] = search(Path(folder), given.runs)
    publish(found, given.json)
    return 0


def whole_way(folder: Path, runs: int) -> dict[str, float]:
    """Reading a large header and planning it, against reading alone."""
    path = folder / "large.gguf"
    gguf_header.BLOCKS = 44
    gguf_header.write_model(path, gguf_header.MERGES)
    readers = Readers({}, folder, folder)
    machine = machine_named(PLAIN)

    def read_and_plan() -> None:
        decide(machine, readers.read(str(path)), EngineOptions())

    alone, both = interleaved(runs, lambda: readers.read(str(path)), read_and_plan)
    return {
        "tensors": len(readers.read(str(path)).tensors),
        **{f"{name}_ms": 1e3 * value for name, value in spread(both).items()},
        "reading_alone_median_ms": 1e3 * statistics.median(alone),
        "ratio": statistics.median(second / first for first, second in zip(alone, both, strict=True)),
    }


def search(folder: Path, runs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Planning with nothing asked for, by machine and model."""
    models = [a_model(folder, name) for name in MODELS]
    return {on: {model.id: against_plain(on, model, runs) for model in models} for on in MACHINES}


def against_plain(on: str, model: Model, runs: int) -> dict[str, float]:
    """One model on one machine, and on one without GPUs."""
    plain, gpus = interleaved(runs, lambda: planned(PLAIN, model), lambda: planned(on, model))
    return {
        "median_ms": 1e3 * statistics.median(gpus),
        "max_ms": 1e3 * max(gpus),
        "plain_median_ms": 1e3 * statistics.median(plain),
        "ratio": statistics.median(second / first for first, second in zip(plain, gpus, strict=True)),
    }


def planned(on: str, model: Model) -> None:
    decide(machine_named(on), model, EngineOptions())


def a_model(folder: Path, name: str) -> Model:
    shape = read_table()[name]
    metadata, tensors = known(shape)
    mixed = quantized(tensors, "Q4_K_M", layers=shape["layers"], architecture=shape["arch"])
    return Readers({}, folder, folder).read(str(write_gguf(folder / f"{name}.gguf", metadata, mixed)))


def interleaved(
    runs: int, first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Seconds of both, in turns; the first round does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        for kept, work in zip(times, (first, second), strict=True):
            begin = time.perf_counter()
            work()
            kept.append(time.perf_counter() - begin)
    return times[0][1:], times[1][1:]


def spread(times: Sequence[float]) -> dict[str, float]:
    return {"min": min(times), "median": statistics.median(times), "max": max(times)}


if __name__ == "__main__":
    sys.exit(main())
