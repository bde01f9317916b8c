"""What our workers add to the libraries that they host: first token and tokens/s over HTTP against direct calls.

Two processes hold the same model with the same settings: our worker, asked over its socket, and one that calls the
library as its documentation does and nothing else. They are asked in turn, each time with a prompt that neither has
seen, one request at a time: once for a single token, which is the time to the first one, and once for a whole answer,
whose time beyond that of the first token gives tokens/s.

    python -m bench.scenarios.worker openvino|onnxruntime MODEL [--prompt 256] [--answer 128] [--rounds 9] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.library import called_directly
from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.engines import HttpUpstream, OnnxRuntime, OpenVino
from bercail.engines.library import LibraryEngine
from bercail.ports import EngineProcess
from tools.figures import publish

ENGINES: dict[str, Callable[[], LibraryEngine]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=tuple(ENGINES))
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", type=int, default=256, help="tokens; default %(default)s")
    parser.add_argument("--answer", type=int, default=128, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    parser.add_argument("--vocabulary", type=int, default=500, help="ids that prompts are made of; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    rows = asyncio.run(rounds(given))
    first = [(ours[0] - theirs[0]) * 1000 for ours, theirs in rows]
    speed = [ours[1] / theirs[1] for ours, theirs in rows]
    publish({
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "engine": given.engine,
        "build": ENGINES[given.engine]().build, "model": given.model.name, "prompt_tokens": given.prompt,
        "answer_tokens": given.answer, "rounds": given.rounds,
        "first_token_s": statistics.median(ours[0] for ours, _ in rows),
        "direct_first_token_s": statistics.median(theirs[0] for _, theirs in rows),
        "tokens_per_s": statistics.median(ours[1] for ours, _ in rows),
        "direct_tokens_per_s": statistics.median(theirs[1] for _, theirs in rows),
        "added_to_first_token_ms": statistics.median(first), "of_direct_tokens_per_s": statistics.median(speed),
    }, given.json)  # fmt: skip
    return 0


def spec_of(given: argparse.Namespace) -> LaunchSpec:
    """The same for both: one slot, threads for every CPU."""
    context = given.prompt + given.answer + 64
    threads = len(os.sched_getaffinity(0))
    settings = EngineSettings(
        context_tokens=context, slots=1, kv_unified=False, batch_tokens=512, ubatch_tokens=512, kv_type_k="f16",
        kv_type_v="f16", flash_attention=True, threads=threads, threads_batch=threads, mmap=False, repack=False,
    )  # fmt: skip
    return LaunchSpec(model_id="m", model_path=str(given.model.resolve()), weights_bytes=1, settings=settings)


async def rounds(given: argparse.Namespace) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """First token in seconds and tokens/s of ours and of direct calls, round by round; the first one is left out."""
    process, upstream = await ENGINES[given.engine]().start(spec_of(given), lambda _: None), HttpUpstream()
    rows = []
    try:
        with called_directly(given.engine, spec_of(given)) as ask_directly:
            for turn in range(given.rounds + 1):
                ours, theirs = [], []
                for number, count in enumerate((1, given.answer)):
                    place = 4 * turn + 2 * number
                    ours.append(await over_http(process, upstream, prompt_of(given, place), count))
                    theirs.append(ask_directly([prompt_of(given, place + 1)], count))
                both = tuple((one, (given.answer - 1) / (whole - one)) for one, whole in (ours, theirs))
                print(
                    f"{both[0][0]:.4f} s {both[0][1]:.1f}; direct {both[1][0]:.4f} s {both[1][1]:.1f}", file=sys.stderr
                )
                if turn:
                    rows.append((both[0], both[1]))
    finally:
        await upstream.close()
        await process.stop(5)
    return rows


def prompt_of(given: argparse.Namespace, turn: int) -> list[int]:
    """Ids that no other turn begins with."""
    return [5 + (turn * 7919 + place * (turn + 3)) % (given.vocabulary - 10) for place in range(given.prompt)]


async def over_http(process: EngineProcess, upstream: HttpUpstream, prompt: list[int], count: int) -> float:
    """Seconds of a streamed answer of `count` tokens, as a client of the worker sees it."""
    body = {"prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}  # fmt: skip
    begun = time.perf_counter()
    headers = [(b"content-type", b"application/json")]
    response = await upstream.send(process.address, "POST", "/v1/completions", headers, json.dumps(body).encode())
    told = b"".join([piece async for piece in response.chunks()])
    took = time.perf_counter() - begun
    usage = json.loads(told.split(b"data: ")[-2])["usage"]
    assert usage["completion_tokens"] == count, usage
    return took


if __name__ == "__main__":
    sys.exit(main())
