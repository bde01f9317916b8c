"""Time from `bercail up MODEL` to the first token, against the engine started by hand with the same settings.

A model of about 1 GB with random weights is written once; its pages are in the file cache for every counted run. Both
sides are started as processes of their own, in turn; the clock runs from the start of the process to the first piece of
text of a streamed chat request, which is sent as soon as the port (the engine: its health check) answers.
"""

import argparse
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama

SHAPE = LlamaShape(
    layers=22, embedding=2048, feed_forward=5632, heads=32, kv_heads=4, context_tokens=2048, vocabulary=5000
)
TEMPLATE = "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}assistant:"
CONTEXT, SLOTS = 2048, 4

BY_HAND = """
import sys, threading
import xllamacpp as x
p = x.CommonParams()
p.model.path = sys.argv[1]; p.hostnames = ["127.0.0.1"]; p.port = int(sys.argv[2])
p.n_ctx = {context} * {slots}; p.n_parallel = {slots}; p.kv_unified = False; p.n_batch = 128; p.n_ubatch = 128
p.cpuparams.n_threads = {threads}; p.cpuparams_batch.n_threads = {threads}
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
p.load_mode = x.llama_load_mode.LLAMA_LOAD_MODE_MMAP
p.fit_params = False; p.n_gpu_layers = 0; p.cache_ram_mib = 1024; p.n_ctx_checkpoints = 0; p.ui = False
s = x.Server(p)
threading.Event().wait()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_token(port: int, started: float, *, health: bool) -> float:
    """Seconds from ``started`` to the first text of a streamed chat."""
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            if health:
                connection.request("GET", "/health")
                if connection.getresponse().read() and not ready(port):
                    raise OSError("loading")
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            body = {
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 2,
                "stream": True,
                "ignore_eos": True,
            }
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            for line in response:
                if b'"content":"' in line:
                    connection.close()
                    return time.perf_counter() - started
            raise RuntimeError(f"no text came: {response.status}")
        except OSError:
            time.sleep(0.01)


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/health")
    return connection.getresponse().status == 200


def run(argv: list[str], port: int, *, health: bool, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            return first_token(port, started, health=health)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def measure(model: Path, threads: int, runs: int, environment: dict[str, str]) -> tuple[list[float], list[float]]:
    script = BY_HAND.format(context=CONTEXT, slots=SLOTS, threads=threads)
    ours: list[float] = []
    by_hand: list[float] = []
    for number in range(runs + 1):
        port = free_port()
        up = [sys.executable, "-m", "bercail", "up", str(model), "--port", str(port), "--context", str(CONTEXT)]
        a = run([*up, "--slots", str(SLOTS)], port, health=False, environment=environment)
        port = free_port()
        b = run([sys.executable, "-c", script, str(model), str(port)], port, health=True, environment=environment)
        if number:  # the first pair warms the file cache and the caches of what is kept between runs
            ours.append(a)
            by_hand.append(b)
        print(f"run {number}: bercail {a:.2f} s, by hand {b:.2f} s", file=sys.stderr)
    return ours, by_hand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a GGUF file to use instead of random weights")
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        home = {key: str(Path(folder) / key) for key in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
        model = arguments.model or Path(folder) / "random-1b.gguf"
        if arguments.model is None:
            write_llama(model, SHAPE, template=TEMPLATE)
        ours, by_hand = measure(model, threads, arguments.runs, {**os.environ, **home})
        size = model.stat().st_size
    added = [a - b for a, b in zip(ours, by_hand, strict=True)]
    result = {
        "what": "seconds from process start to first token, file cache warm",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(), "cpus": threads, "python": platform.python_version(), "model_bytes": size,
        "settings": {"context_tokens": CONTEXT, "slots": SLOTS, "threads": threads}, "runs": arguments.runs,
        "bercail_s": spread(ours), "by_hand_s": spread(by_hand), "added_s": spread(added),
        "ratio_median": round(statistics.median(a / b for a, b in zip(ours, by_hand, strict=True)), 3),
        "target_added_s": 0.7,
    }  # fmt: skip
    print(json.dumps(result, indent=1))


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)
    }  # fmt: skip


if __name__ == "__main__":
    main()
