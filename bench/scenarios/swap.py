"""A request for a model that is not in memory, where another must leave: what that adds to the engine's own start.

Two models are served with room for one, and requests go to them in turn. Of each the time to its first token is taken,
and from that what its engine took to be ready and then to its first token, in the same swap: what is left is the
planning, the saving of contexts, the end of the other engine and the way back. Page caches are warm. The gateway's part
of a request is measured elsewhere (`gateway.py`).

    python -m bench.scenarios.swap A.gguf B.gguf --memory 3GiB [--rounds 10] [--long TOKENS] [--json FILE]

With `--long` a prompt of so many tokens is read by the first model instead, the other takes its place, and the same
prompt comes again: both times to the first token are given, the second with the swap and what was saved.
"""

import argparse
import asyncio
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bercail.core import news
from bercail.core.launch import Address
from bercail.core.model import Findings, FoundModel
from bercail.core.need import Policy
from bercail.flows.supervise import Supervisor
from bercail.ports import House
from bercail.wiring import build_house
from tools.figures import publish

PAUSE_S = 12.0
BODY = {"prompt": [300, 301, 302, 303], "max_tokens": 2, "temperature": 0, "ignore_eos": True, "stream": True}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, type=Path)
    parser.add_argument("--memory", required=True, help="what may be used: room for one of them")
    parser.add_argument("--rounds", type=int, default=10, help="default %(default)s")
    parser.add_argument("--long", type=int, default=0, help="tokens of a prompt that survives its model's swap")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    os.environ |= {
        "BERCAIL_ENGINE_CONTEXT": str(max(2048, given.long + 256)),
        "BERCAIL_ENGINE_SLOTS": "1",
        "BERCAIL_ENGINE_MEMORY": given.memory,
    }
    paths = [path.resolve() for path in given.models]
    if given.long:
        publish(there_and_back(paths, given.long), given.json)
        return 0
    rows = asyncio.run(swaps(paths, given.rounds))
    added = [float(row["added_s"]) for row in rows]
    publish({
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "memory": given.memory, "rounds": given.rounds, "rows": rows, "added_s": statistics.median(added),
        "worst_added_s": max(added),
    }, given.json)  # fmt: skip
    return 0


async def swaps(paths: Sequence[Path], rounds: int) -> list[dict[str, float | str]]:
    """Models by turns, each with what its swap took in all, what of that its engine took, and the rest."""
    house = build_house(None, {}, serving=True)
    models = tuple(FoundModel(id=one.stem, path=str(one), source="argument", bytes=one.stat().st_size) for one in paths)
    told: list[news.News] = []
    at_once = Policy(min_residency_s=0, linger_s=0)  # what is timed is the swap, not the wait for it
    supervisor = Supervisor(house, Findings(models=models, looked=()), told.append, at_once)
    rows: list[dict[str, float | str]] = []
    try:
        for turn in range(-2, 2 * rounds):
            path = paths[turn % 2]
            warm(path)
            told.clear()
            begun = time.perf_counter()
            lease = await supervisor.lease(path.stem)
            granted = time.perf_counter()
            token_s = await answered(house, lease.address) - granted
            lease.release()
            ready = next(item for item in told if isinstance(item, news.Ready))
            engine_s, swap_s = ready.seconds + token_s, granted + token_s - begun
            print(f"{path.stem}: swap {swap_s:.3f} s, engine {engine_s:.3f} s", file=sys.stderr, flush=True)
            if turn >= 0:
                rows.append({"model": path.stem, "swap_s": swap_s, "engine_s": engine_s, "added_s": swap_s - engine_s})
    finally:
        await supervisor.close()
        await house.upstream.close()
    return rows


async def answered(house: House, address: Address) -> float:
    """When the first token of a short answer came."""
    headers = [(b"content-type", b"application/json")]
    response = await house.upstream.send(address, "POST", "/v1/completions", headers, json.dumps(BODY).encode())
    first = [time.perf_counter() async for _ in response.chunks()]
    return first[0]


def there_and_back(paths: Sequence[Path], tokens: int) -> dict[str, object]:
    """A long prompt read, its model swapped away and back, and the prompt once more."""
    prompt = [300 + number * 31 % 3000 for number in range(tokens)]
    first, other = (path.stem for path in paths)
    with served(paths) as url:
        first_token(url, first)  # it is loaded
        full = first_token(url, first, prompt)
        time.sleep(PAUSE_S)
        first_token(url, other)
        time.sleep(PAUSE_S)
        back = first_token(url, first, prompt)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "system": platform.platform(),
        "models": [first, other], "prompt_tokens": tokens, "full_prefill_s": full, "back_s": back, "ratio": back / full,
    }  # fmt: skip


@contextmanager
def served(paths: Sequence[Path]) -> Iterator[str]:
    """A server of these models, none of them loaded."""
    command = [sys.executable, "-m", "bercail", "up", "--json-log", "--port", "0", *map(str, paths)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        url = next(news["url"] for news in map(json.loads, server.stdout) if news["event"] == "listening")
        threading.Thread(target=server.stdout.read, daemon=True).start()  # or its news would fill the pipe
        yield url
    finally:
        server.terminate()
        server.wait()


def warm(path: Path) -> None:
    """Have a file in the page cache: what else runs on the machine may have driven it out."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def first_token(url: str, model: str, prompt: Sequence[int] = ()) -> float:
    """Seconds from the request to the first token of an answer to `prompt`, or to the usual short one."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    begun = time.perf_counter()
    body = json.dumps({**BODY, "model": model, **({"prompt": list(prompt)} if prompt else {})})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {response.read()[:500]!r}")
    while not response.readline().startswith(b"data: "):
        pass
    took = time.perf_counter() - begun
    response.read()
    connection.close()
    return took


if __name__ == "__main__":
    sys.exit(main())
