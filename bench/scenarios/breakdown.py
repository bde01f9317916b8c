"""The plan's closed form against the engine's own account, over published models and many settings.

For each model of tools/synth a sparse file with its true header is put to llama.cpp, which loads it without tensors
and tells the size of every buffer it would allocate (to 0.01 MiB). Weights, which both count tensor by tensor, enter
the totals at 4.85 bits, as in a Q4_K_M file. Nothing is allocated and no time is measured.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bercail.core import memory
from bercail.core.engine import EngineSettings
from bercail.core.model import Model
from bercail.core.units import MIB
from bercail.readers import Readers
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

CONTEXTS, UBATCHES = (4096, 32768, 131072), (64, 128, 512)
KINDS = (("f16", "f16"), ("q8_0", "q8_0"), ("q8_0", "q4_0"))
BITS = 4.85


def grid(model: Model) -> Iterator[EngineSettings]:
    """The settings to try, those left out that the model refuses."""
    embedding = not model.shape.causal
    for context, ubatch, slots, unified, (k, v), flash in itertools.product(
        CONTEXTS, UBATCHES, (1, 4), (False, True), KINDS, (True, False)
    ):
        pointless = (
            (unified and slots == 1) or (model.shape.mla_compressed and k != v) or (k != "f16" and ubatch != 128)
        )
        if pointless or (v != "f16" and not flash) or context > max(model.context_length, 4096):
            continue
        if embedding and (slots > 1 or k != "f16" or not flash):
            continue
        if embedding:
            context, ubatch = model.context_length, model.context_length
        yield EngineSettings(
            context_tokens=context, slots=slots, kv_unified=unified, batch_tokens=ubatch, ubatch_tokens=ubatch,
            kv_type_k=k, kv_type_v=v, flash_attention=flash, threads=1, threads_batch=1, mmap=True, repack=True,
            embedding=embedding,
        )  # fmt: skip


def ask(path: Path, settings: Sequence[EngineSettings]) -> list[dict[str, float] | None]:
    """The engine's account for each of `settings`; None where it refuses or dies."""
    answers: list[dict[str, float] | None] = []
    while len(answers) < len(settings):
        done = subprocess.run(
            [sys.executable, "-m", "bercail.engines.llama_cpp.oracle", str(path)],
            input="".join(json.dumps(asdict(one)) + "\n" for one in settings[len(answers) :]),
            capture_output=True, text=True, check=False, env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        )  # fmt: skip
        told = [json.loads(line) for line in done.stdout.splitlines()]
        answers += [None if "refused" in one else one for one in told]
        if done.returncode == 0:
            break
        if not done.stdout and "fatal error" not in done.stderr:
            raise SystemExit(done.stderr)
        answers.append(None)
    return answers


def compare(model: Model, settings: EngineSettings, account: dict[str, float]) -> dict[str, float]:
    """Differences in bytes of the exact parts, and the relative error of the rest and of the total."""
    weights = model.parameter_count * BITS / 8
    ours, theirs = memory.compute_bytes(model, settings), account["compute"]
    if not settings.embedding:  # the engine makes room for embeddings only when the first text comes
        ours, theirs = ours + memory.output_bytes(model, settings), theirs + account["output"]
    cache, state = memory.cache_bytes(model, settings), memory.state_bytes(model, settings)
    total = weights + account["cache"] + account["state"] + theirs
    return {
        "cache": abs(cache - account["cache"]),
        "state": abs(state - account["state"]),
        "buffers": (ours - theirs) / theirs,
        "total": (weights + cache + state + ours - total) / total,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of tools/synth/table.yaml; all by default")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    rows: list[dict[str, float]] = []
    told: dict[str, object] = {}
    refused: list[str] = []
    architectures = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, shape in read_table().items():
            if given.models and title not in given.models:
                continue
            path = write_gguf(folder / f"{title}.gguf", *known(shape))
            model = Readers({}, folder, folder).read(str(path))
            architectures.add(model.architecture)
            settings = list(dict.fromkeys(grid(model)))
            answers = ask(path, settings)
            found = [compare(model, one, a) for one, a in zip(settings, answers, strict=True) if a]
            refused += [f"{title}: {one}" for one, a in zip(settings, answers, strict=True) if not a]
            rows += found
            told[title] = summary(found)
            path.unlink()
            print(f"{title:24} {json.dumps(told[title])}", flush=True)
    result = {"architectures": sorted(architectures), "all": summary(rows), "models": told, "engine_died_on": refused}
    text = json.dumps(result, indent=2)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(json.dumps({"architectures": len(architectures), **summary(rows), "died": len(refused)}))
    return 0


def summary(rows: Sequence[dict[str, float]]) -> dict[str, object]:
    """Worst and median of the errors; a cache counts as exact within the log's 0.01 MiB per buffer."""
    sizes = [abs(row["total"]) for row in rows]
    return {
        "points": len(rows),
        "caches_and_states_exact": sum(max(row["cache"], row["state"]) <= 0.011 * MIB for row in rows),
        "buffers_median": f"{statistics.median(abs(row['buffers']) for row in rows):.4%}",
        "buffers_worst": f"{max((row['buffers'] for row in rows), key=abs):+.2%}",
        "total_median": f"{statistics.median(sizes):.4%}",
        "total_worst": f"{max((row['total'] for row in rows), key=abs):+.2%}",
    }


if __name__ == "__main__":
    sys.exit(main())
