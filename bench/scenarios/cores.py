"""Two models on a core each: how much slower either reads a prompt while the other does.

Two servers, each kept to one core (`--cores 0` and `--cores 1`), with the same model file. Rounds alternate: the first
alone, the second alone, both at once, each with a prompt of its own. For each of the two the ratio of its prefill at
once to its prefill alone in the same round is formed.

    python -m bench.scenarios.cores MODEL.gguf [--prompt 256] [--rounds 5] [--json FILE]
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bercail.flows import glance
from bercail.wiring import build_house
from tools.concierge.evaluate import serving
from tools.figures import publish
from tools.timed import ask

ANSWER = 4


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--prompt", type=int, default=256, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    machine = glance(build_house(None, {}))
    first, second = (core[0] for core in machine.cpu.cores[:2])
    os.environ.update({"BERCAIL_ENGINE_SLOTS": "1", "BERCAIL_ENGINE_CONTEXT": str(given.prompt + 256)})
    alone: list[tuple[float, float]] = []
    together: list[tuple[float, float]] = []
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        urls = []
        for core in (first, second):
            os.environ["BERCAIL_ENGINE_CORES"] = str(core)
            urls.append(stack.enter_context(serving(given.model)))
        for turn in range(given.rounds + 1):
            a, b = (prefill(url, given.prompt, 3 * turn + place) for place, url in enumerate(urls))
            both = list(pool.map(lambda url, turn=turn: prefill(url, given.prompt, 3 * turn + 2), urls))
            print(f"alone {a:.1f} {b:.1f}, at once {both[0]:.1f} {both[1]:.1f} tokens/s", file=sys.stderr, flush=True)
            if turn:
                alone.append((a, b))
                together.append((both[0], both[1]))
    ratios = [[t[place] / a[place] for a, t in zip(alone, together, strict=True)] for place in (0, 1)]
    publish({
        "machine": f"{machine.cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "model": given.model.stem, "prompt_tokens": given.prompt, "rounds": given.rounds, "cpus": [first, second],
        "alone_tokens_per_s": alone, "together_tokens_per_s": together,
        "ratio": [statistics.median(row) for row in ratios], "ratio_runs": ratios,
    }, given.json)  # fmt: skip
    return 0


def prefill(url: str, count: int, turn: int) -> float:
    """Prompt tokens/s of one request."""
    timing = ask(url, [300 + (turn * 7919 + index * 31) % 3000 for index in range(count)], ANSWER)
    return timing.prompt_tokens / timing.prefill_s


if __name__ == "__main__":
    sys.exit(main())
