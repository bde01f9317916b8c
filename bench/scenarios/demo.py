"""First token and decode speed of the model in the box, as a client of the server sees them.

Streams answers to questions from the concierge's own text, one after the other, at temperature 0. The baseline is what
the engine says of the same answers (`timings`), so the ratio is what server, sockets and this client add.
"""

import argparse
import http.client
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bercail.demo import demo_path
from tools.concierge.dialogue import read_corpus
from tools.concierge.evaluate import serving
from tools.concierge.text import draw_ask
from tools.figures import publish

CONCIERGE = Path(__file__).parents[2] / "tools" / "concierge"


def answer(host: str, question: str) -> dict[str, float]:
    """Times of one streamed answer: ours in seconds and tokens/s, and the engine's."""
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 128, "stream": True}
    body["stream_options"] = {"include_usage": True}
    connection = http.client.HTTPConnection(host, timeout=60)
    started = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    arrivals: list[float] = []
    timings: dict[str, Any] = {}
    tokens = 0
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"status {response.status} to {question!r}: {response.read().decode(errors='replace')}")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        timings = chunk.get("timings") or timings
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            arrivals.append(time.perf_counter())
    connection.close()
    return {
        "ttft_s": arrivals[0] - started,
        "decode": (tokens - 1) / (arrivals[-1] - arrivals[0]),
        "engine_prefill_s": timings["prompt_ms"] / 1000,
        "engine_decode": timings["predicted_per_second"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=60, help="how many; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    path = demo_path()
    if path is None:
        raise SystemExit("this installation has no model in the box")
    dice = random.Random(1)
    wordings = dice.sample(read_corpus(CONCIERGE).wordings, given.answers + 1)
    with serving(path) as url:
        host = urlsplit(url).netloc
        taken = [answer(host, draw_ask(wording.asks, dice)) for wording in wordings][1:]
    columns = {key: [one[key] for one in taken] for key in taken[0]}
    quarters = {key: statistics.quantiles(values, n=4) for key, values in columns.items()}
    median = {key: statistics.median(values) for key, values in columns.items()}
    found = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "engine": version("xllamacpp"),
        "model_bytes": path.stat().st_size,
        "answers": len(taken),
        "ttft_ms": {
            "median": median["ttft_s"] * 1e3,
            "quartiles": [quarters["ttft_s"][0] * 1e3, quarters["ttft_s"][2] * 1e3],
            "worst": max(columns["ttft_s"]) * 1e3,
        },
        "decode_tokens_per_s": {
            "median": median["decode"],
            "quartiles": [quarters["decode"][0], quarters["decode"][2]],
            "least": min(columns["decode"]),
        },
        "engine_prefill_ms": median["engine_prefill_s"] * 1e3,
        "engine_decode_tokens_per_s": median["engine_decode"],
        "ratio_ttft_to_engine_prefill": median["ttft_s"] / median["engine_prefill_s"],
        "ratio_decode_to_engine": median["decode"] / median["engine_decode"],
    }
    publish(found, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
