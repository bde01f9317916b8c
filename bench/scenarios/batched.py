"""Requests at once through Bercail against the same library without it.

The native build is held against its own batched benchmark, `llama-batched-bench`; the engine in the box and OpenVINO
against their library called directly, which makes tokens as that benchmark does (`bench.library`). Rounds alternate:
Bercail with so many slots and as many clients, each with a prompt of its own, all at once; one client alone; then the
library, likewise, with the same threads, batches, types and order of weights. Aggregate rate: all tokens, of prompts
and answers, by the wall clock.

    python -m bench.scenarios.batched MODEL.gguf [--engine native|embedded|openvino] [--clients 8] [--rounds 3]
        [--prompt 128] [--answer 64] [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.library import called_directly
from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.flows import glance, plan
from bercail.wiring import build_house, new_loop
from tools.concierge.evaluate import serving
from tools.figures import publish
from tools.timed import ask

Rates = tuple[float, float]
"""Tokens/s of one sequence alone, and of all at once."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--engine", choices=("native", "embedded", "openvino"), default="native")
    parser.add_argument("--clients", type=int, default=8, help="default %(default)s")
    parser.add_argument("--prompt", type=int, default=128, help="tokens; default %(default)s")
    parser.add_argument("--answer", type=int, default=64, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    os.environ.update({
        "BERCAIL_ENGINE_SLOTS": str(given.clients), "BERCAIL_ENGINE_ENGINE": given.engine,
        "BERCAIL_ENGINE_CONTEXT": str(given.prompt + given.answer + 64), "BERCAIL_ENGINE_BATCH": "512",
        "BERCAIL_ENGINE_UBATCH": "512",
    })  # fmt: skip
    house = build_house(None, {})
    settings = new_loop().run_until_complete(plan(house, str(given.model))).verdict.settings
    folders = [build.folder for build in house.workshop.builds() if build.recipe.target == "cpu"]
    ours, theirs = [], []
    with serving(given.model) as url, library(given, settings, folders) as by_itself:
        for turn in range(given.rounds + 1):
            through = (at_once(url, given, turn + 100, 1), at_once(url, given, turn, given.clients))
            beside = by_itself(turn)
            if turn:
                ours.append(through)
                theirs.append(beside)
            told = (
                f"{through[1]:.1f} at once, {through[0]:.1f} alone; its own {beside[1]:.1f}, {beside[0]:.1f} tokens/s"
            )
            print(told, file=sys.stderr, flush=True)
    publish({
        "machine": f"{glance(house).cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "engine": given.engine, "model": given.model.stem, "clients": given.clients, "prompt_tokens": given.prompt,
        "answer_tokens": given.answer, "rounds": given.rounds, "repack": settings.repack,
        "tokens_per_s": statistics.median(many for _, many in ours), "runs": [many for _, many in ours],
        "alone_tokens_per_s": statistics.median(one for one, _ in ours),
        "own_tokens_per_s": statistics.median(many for _, many in theirs), "own_runs": [many for _, many in theirs],
        "own_alone_tokens_per_s": statistics.median(one for one, _ in theirs),
        "of_its_own": statistics.median(a / b for (_, a), (_, b) in zip(ours, theirs, strict=True)),
        "times_one": statistics.median(many / one for one, many in ours),
    }, given.json)  # fmt: skip
    return 0


def at_once(url: str, given: argparse.Namespace, turn: int, clients: int) -> float:
    """Tokens/s of all clients together, the prompts' own among them."""
    prompts = prompts_of(given, turn, clients)
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda prompt: ask(url, prompt, given.answer), prompts))
    seconds = time.perf_counter() - started
    return sum(row.prompt_tokens + row.decode_tokens for row in found) / seconds


def prompts_of(given: argparse.Namespace, turn: int, clients: int) -> list[list[int]]:
    """Ids that no other turn begins with."""
    return [
        [300 + (turn * 7919 + client * 997 + index * 31) % 3000 for index in range(given.prompt)]
        for client in range(clients)
    ]


@contextmanager
def library(
    given: argparse.Namespace, settings: EngineSettings, folders: Sequence[str]
) -> Iterator[Callable[[int], Rates]]:
    """What the engine's own library does in a turn, under the settings that Bercail gave it."""
    if given.engine == "native":
        yield lambda _: batched(command(given, settings, folders[0]))
        return
    spec = LaunchSpec(model_id="m", model_path=str(given.model.resolve()), weights_bytes=1, settings=settings)
    with called_directly(given.engine, spec) as seconds:

        def rate(turn: int, clients: int) -> float:
            tokens: int = clients * (given.prompt + given.answer)
            return tokens / seconds(prompts_of(given, turn, clients), given.answer)

        yield lambda turn: (rate(turn + 300, 1), rate(turn + 200, given.clients))


def command(given: argparse.Namespace, settings: EngineSettings, folder: str) -> tuple[str, ...]:
    """Of the native build's own benchmark."""
    return (
        f"{folder}/llama-batched-bench", "-m", str(given.model), "-c", str(settings.context_tokens), "-b", "512",
        "-ub", "512", "-npp", str(given.prompt), "-ntg", str(given.answer), "-npl", f"1,{given.clients}",
        "-t", str(settings.threads), "-tb", str(settings.threads_batch), "-fa", "on", "--output-format", "jsonl",
        "--repack" if settings.repack else "--no-repack", "-ngl", "0",
    )  # fmt: skip


def batched(argv: Sequence[str]) -> Rates:
    """What it says."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows[0]["speed"], rows[-1]["speed"]


if __name__ == "__main__":
    sys.exit(main())
