"""Decode against what the plan predicts: is the measured speed inside the range, and how far from its middle?

For each model file: the plan's prediction from the reading speed of memory measured just before, then answers of a
served model with nothing in its context and with a long prompt in it, as the engine times them. The baseline is the
prediction; the ratio is measured over predicted. Random weights do: speed does not depend on what they say.

    python -m bench.scenarios.decode MODEL.gguf ... [--depth TOKENS] [--runs N] [--json FILE]
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bercail.core.machine import Machine
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.flows import look
from bercail.readers import Readers
from bercail.wiring import build_house
from tools.concierge.evaluate import serving
from tools.figures import publish
from tools.timed import ask

GENERATED = 48


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="GGUF files")
    parser.add_argument("--depth", type=int, default=1024, help="tokens in the context; default %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="answers at each depth; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    machine = look(build_house(None, {}), lambda item: print(item, file=sys.stderr))
    rows = [row for path in given.models for row in one_model(machine, path, given.depth, given.runs)]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "engine": version("xllamacpp"),
        "reading_gb_per_s": (machine.memory.bandwidth_bytes_per_s or 0) / 1e9,
        "runs": given.runs,
        "rows": rows,
        "inside": sum(row["inside"] for row in rows),
        "median_error": statistics.median(abs(row["ratio"] - 1) for row in rows),
    }
    publish(found, given.json)
    return 0


def one_model(machine: Machine, path: Path, depth: int, runs: int) -> list[dict[str, Any]]:
    """Prediction and measurement of one file, at both depths."""
    folder = Path.cwd()
    model = Readers({}, folder, folder).read(str(path.resolve()))
    rows = []
    with serving(path) as url:
        for tokens in (0, depth):
            verdict = decide(machine, model, EngineOptions(slots=1, context=max(tokens, 512)))
            assert isinstance(verdict, Fits), verdict.why
            predicted = verdict.rates[1 if tokens else 0]
            times = [decode(url, tokens) for _ in range(runs + 1)][1:]
            measured = statistics.median(times)
            rows.append({
                "model": model.id, "depth": tokens, "measured": measured, "least": min(times), "most": max(times),
                "predicted": predicted.tokens_per_s, "range": [predicted.least, predicted.most],
                "ratio": measured / predicted.tokens_per_s, "inside": predicted.least <= measured <= predicted.most,
            })  # fmt: skip
    return rows


def decode(url: str, depth: int) -> float:
    """Tokens/s of one answer after about ``depth`` tokens of prompt, which the server keeps from run to run."""
    timing = ask(url, [1, *[300 + n % 1000 for n in range(depth)]], GENERATED)
    return timing.decode_tokens / timing.decode_s


if __name__ == "__main__":
    sys.exit(main())
