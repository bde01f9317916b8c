"""How soon a lost client's slot is free while another slot generates, on a model of a billion parameters.

`bercail up` serves a model of about 1 GB with random weights in two slots. One slot generates all the time. A client
asks for a long prompt and leaves in the middle of its prefill, streaming and not. Measured from closing the client's
socket: until `/slots` of the engine shows the slot idle. The bound is 1 s plus one batch, the longest batch being taken
from the engine's own progress: the engine looks for lost clients after each batch. The baseline is the same request
sent to the engine as clients send it, without streaming.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.scenarios.start import SHAPE, TEMPLATE
from bercail.engines.llama_cpp.tiny import write_llama

PROMPT = "y " * 850  # two tokens each
LEAVE_AFTER_S = 2.5


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=300)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(300)
        self.sock.connect(self._path)


def busy(engine: str) -> int:
    connection = UnixConnection(engine)
    connection.request("GET", "/slots")
    slots = json.loads(connection.getresponse().read())
    connection.close()
    return sum(bool(slot["is_processing"]) for slot in slots)


def ask(connection: http.client.HTTPConnection, *, stream: bool, prompt: str, tokens: int) -> None:
    body = {"prompt": prompt, "max_tokens": tokens, "stream": stream, "ignore_eos": True, "cache_prompt": False}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})


def leave(connection: http.client.HTTPConnection, engine: str, *, stream: bool) -> float:
    """Seconds from leaving to the slot's freedom. `/slots` is asked seldom: asking keeps the engine from looking."""
    ask(connection, stream=stream, prompt=PROMPT, tokens=500)
    time.sleep(LEAVE_AFTER_S)
    if busy(engine) != 2:
        raise RuntimeError("the prompt was worked through before the client left: take a longer one")
    connection.close()
    left = time.perf_counter()
    while busy(engine) > 1:
        time.sleep(0.25)
    return time.perf_counter() - left


def batch_s(engine: str) -> float:
    """The longest batch of a prefill beside the other slot, by the engine's own progress."""
    connection = UnixConnection(engine)
    body = {"prompt": PROMPT, "max_tokens": 1, "stream": True, "return_progress": True, "cache_prompt": False}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    lines = [line for line in connection.getresponse() if b"prompt_progress" in line]
    connection.close()
    times: list[float] = [json.loads(line[6:])["prompt_progress"]["time_ms"] / 1000 for line in lines]
    return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


@contextlib.contextmanager
def served(model: Path, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The gateway's address and the engine's socket."""
    up = ("up", str(model), "--port", "0", "--slots", "2", "--context", "2048", "--json-log")
    argv = [sys.executable, "-m", "bercail", *up]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=pipe, stderr=null, env=environment, text=True) as process:
        try:
            url = ""
            for line in process.stdout or ():
                news = json.loads(line)
                url = news.get("url", url)
                if news["event"] == "ready":
                    break
            yield urlsplit(url).netloc, str(next(Path(environment["TMPDIR"]).rglob("llama.sock")))
        finally:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            process.wait(60)


def generate(engine: str, stop: threading.Event) -> None:
    """Keep the other slot busy."""
    while not stop.is_set():
        connection = UnixConnection(engine)
        ask(connection, stream=True, prompt="Once", tokens=1500)
        with contextlib.suppress(ConnectionError):  # the server goes first at the end
            response = connection.getresponse()
            while response.readline() and not stop.is_set():
                pass
        connection.close()


def measure(gateway: str, engine: str, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"streaming": [], "one answer": [], "baseline: one answer, engine alone": []}
    for _ in range(runs):
        found["streaming"].append(leave(http.client.HTTPConnection(gateway, timeout=300), engine, stream=True))
        found["one answer"].append(leave(http.client.HTTPConnection(gateway, timeout=300), engine, stream=False))
        found["baseline: one answer, engine alone"].append(leave(UnixConnection(engine), engine, stream=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment = {**os.environ, "TMPDIR": folder, "XDG_RUNTIME_DIR": "", "XDG_CACHE_HOME": folder}
        model = Path(folder) / "random-1b.gguf"
        write_llama(model, SHAPE, template=TEMPLATE)
        with served(model, environment) as (gateway, engine):
            stop = threading.Event()
            other = threading.Thread(target=generate, args=(engine, stop))
            other.start()
            time.sleep(1)
            batch = batch_s(engine)
            times = measure(gateway, engine, runs)
            stop.set()
            other.join()
    freed = {name: {"median": round(statistics.median(v), 2), "max": round(max(v), 2)} for name, v in times.items()}
    print(json.dumps({
        "schema": "bercail.bench.cancel/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(), "cpus": len(os.sched_getaffinity(0)), "runs": runs,
        "longest_batch_s": round(batch, 2), "bound_s": round(1 + batch, 2),
        "freed_s": freed,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
