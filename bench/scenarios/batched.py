"""Requests at once through Bercail against the same build's own batched benchmark, `llama-batched-bench`.

Needs an engine that was built here (`bercail engine build`). Rounds alternate: Bercail with so many slots and as many
clients, each with a prompt of its own, all at once; then `llama-batched-bench` with the same threads, batches and order
of weights; and one client alone. Aggregate rate: all tokens, of prompts and answers, by the wall clock.

    python -m bench.scenarios.batched MODEL.gguf [--clients 8] [--prompt 128] [--answer 64] [--rounds 3] [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bercail.flows import glance, plan
from bercail.wiring import build_house, new_loop
from tools.concierge.evaluate import serving
from tools.figures import publish
from tools.timed import ask


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--clients", type=int, default=8, help="default %(default)s")
    parser.add_argument("--prompt", type=int, default=128, help="tokens; default %(default)s")
    parser.add_argument("--answer", type=int, default=64, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    context = given.prompt + given.answer + 64
    os.environ.update({
        "BERCAIL_ENGINE_SLOTS": str(given.clients), "BERCAIL_ENGINE_CONTEXT": str(context),
        "BERCAIL_ENGINE_ENGINE": "native", "BERCAIL_ENGINE_BATCH": "512", "BERCAIL_ENGINE_UBATCH": "512",
    })  # fmt: skip
    house = build_house(None, {})
    settings = new_loop().run_until_complete(plan(house, str(given.model))).verdict.settings
    folder = next(build.folder for build in house.workshop.builds() if build.recipe.target == "cpu")
    command = (
        f"{folder}/llama-batched-bench", "-m", str(given.model), "-c", str(settings.context_tokens), "-b", "512",
        "-ub", "512", "-npp", str(given.prompt), "-ntg", str(given.answer), "-npl", f"1,{given.clients}",
        "-t", str(settings.threads), "-tb", str(settings.threads_batch), "-fa", "on", "--output-format", "jsonl",
        "--repack" if settings.repack else "--no-repack", "-ngl", "0",
    )  # fmt: skip
    ours, alone, theirs, theirs_alone = [], [], [], []
    with serving(given.model) as url:
        for turn in range(given.rounds + 1):
            many, one = at_once(url, given, turn, given.clients), at_once(url, given, turn + 100, 1)
            single, batch = batched(command)
            if turn:
                ours.append(many)
                alone.append(one)
                theirs.append(batch)
                theirs_alone.append(single)
            print(f"{many:.1f} {one:.1f}; its own {batch:.1f} {single:.1f} tokens/s", file=sys.stderr, flush=True)
    publish({
        "machine": f"{glance(house).cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "model": given.model.stem, "clients": given.clients, "prompt_tokens": given.prompt,
        "answer_tokens": given.answer, "rounds": given.rounds, "repack": settings.repack,
        "tokens_per_s": statistics.median(ours), "runs": ours, "alone_tokens_per_s": statistics.median(alone),
        "own_tokens_per_s": statistics.median(theirs), "own_runs": theirs,
        "own_alone_tokens_per_s": statistics.median(theirs_alone),
        "of_its_own": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "times_one": statistics.median(a / b for a, b in zip(ours, alone, strict=True)),
    }, given.json)  # fmt: skip
    return 0


def at_once(url: str, given: argparse.Namespace, turn: int, clients: int) -> float:
    """Tokens/s of all clients together, the prompts' own among them."""
    prompts = [[300 + (turn * 7919 + client * 997 + index * 31) % 3000 for index in range(given.prompt)]
               for client in range(clients)]  # fmt: skip
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda prompt: ask(url, prompt, given.answer), prompts))
    seconds = time.perf_counter() - started
    return sum(row.prompt_tokens + row.decode_tokens for row in found) / seconds


def batched(command: Sequence[str]) -> tuple[float, float]:
    """Tokens/s of one sequence alone and of all at once, as `llama-batched-bench` says."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows[0]["speed"], rows[-1]["speed"]


if __name__ == "__main__":
    sys.exit(main())
