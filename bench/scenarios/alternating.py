"""Two clients that each ask two models in turn, which exclude each other, through a real server.

Each sends its requests at a steady pace whether answers come or not, the second half a pace after the first. The
models are commands: our fake engine, which begins after `--load` seconds and answers 10 tokens in 0.2 s. Loads are
counted by the server; a wait is from a request to its first token, the load included. Strictly in order of arrival
every change of the model in the order of requests is a load: that count is the baseline.

    python -m bench.scenarios.alternating [--requests 100] [--pace 0.2] [--load 0.8] [--wait 6] [--json FILE]
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.figures import publish

MODELS = ("a", "b")
SLOWLY = "import runpy, time; time.sleep({load}); runpy.run_module('bercail.engines.fake', run_name='__main__')"


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds from the request, and its status."""

    first_s: float
    status: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of each client; default %(default)s")
    parser.add_argument("--pace", type=float, default=0.2, help="seconds between them; default %(default)s")
    parser.add_argument("--load", type=float, default=0.8, help="seconds; default %(default)s")
    parser.add_argument("--wait", type=float, default=6.0, help="max_wait in seconds; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    order = [MODELS[(turn // 2 + turn) % 2] for turn in range(2 * given.requests)]
    run = one_run(given, order)
    in_order = 1 + sum(one != other for one, other in pairwise(order))
    publish({
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "requests_of_each": given.requests, "pace_s": given.pace, "load_s": given.load, "max_wait_s": given.wait,
        **run, "loads_in_order_of_arrival": in_order, "fewer_loads": in_order / float(str(run["loads"])),
    }, given.json)  # fmt: skip
    return 0


def one_run(given: argparse.Namespace, order: Sequence[str]) -> dict[str, object]:
    """All requests of both clients, in that order, to one server."""
    started = time.perf_counter()
    with serving(given.load, given.wait) as url, ThreadPoolExecutor(4 * given.requests) as pool:
        waiting = []
        for model in order:
            waiting.append(pool.submit(ask, url, model))
            time.sleep(given.pace / 2)
        answers = [one.result() for one in waiting]
        seconds = time.perf_counter() - started
        metrics = read(f"{url}/metrics").decode()
    firsts = [answer.first_s for answer in answers]
    return {
        "loads": sum(float(count) for count in re.findall(r"^bercail_model_loads_total\{.*\} (\S+)$", metrics, re.M)),
        "refused": sum(answer.status != 200 for answer in answers),
        "seconds": seconds, "first_token_median_s": statistics.median(firsts), "first_token_worst_s": max(firsts),
    }  # fmt: skip


@contextmanager
def serving(load_s: float, wait_s: float) -> Iterator[str]:
    """A server of both models; its URL."""
    fake = [sys.executable, "-c", SLOWLY.format(load=load_s), "--port", "${PORT}", "--tokens", "10", "--delay", "0.02"]
    models = {name: {"cmd": shlex.join(fake), "proxy": "http://127.0.0.1:${PORT}"} for name in MODELS}
    groups = {"either": {"members": list(MODELS)}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bercail.yaml"
        file.write_text(json.dumps({"models": models, "groups": groups, "server": {"max_wait": wait_s}}))
        argv = [sys.executable, "-m", "bercail", "serve", "--json-log", "--port", "0", "--config", str(file)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ | {"HOME": folder}) as process:
            lines = process.stdout
            assert lines is not None
            told = (json.loads(line) for line in lines)
            url = next(news["url"] for news in told if news["event"] == "listening")
            with ThreadPoolExecutor(1) as reader:
                reader.submit(lines.read)  # or its pipe fills
                yield url
                process.terminate()


def ask(url: str, model: str) -> Answer:
    """One request, streamed."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            for line in response:
                if b'"content"' in line:
                    break
            first_s = time.perf_counter() - started
            response.read()
            return Answer(first_s, response.status)
    except urllib.error.HTTPError as error:
        return Answer(time.perf_counter() - started, error.code)


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        found: bytes = response.read()
    return found


if __name__ == "__main__":
    sys.exit(main())
