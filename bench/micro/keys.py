"""What API keys, quotas and the record of requests cost per request, against a gate that is open and keeps nothing.

Run: ``python bench/micro/keys.py --out bench/results/keys.json``. Both gates see the same requests, in interleaved
rounds; the CPU is that of the whole process, so the thread that writes the record is in it (``bench/METHODOLOGY.md``).
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from bercail.core.access import KeyWish, Limits, mint
from bercail.engines import HttpUpstream  # noqa: F401 - the process is as large as a server's
from bercail.store import ActivityLedger, FileKeyring
from bercail.web.asgi import Scope
from bercail.web.gate import Gate
from bercail.web.record import Record
from tools.figures import publish

STEP_S = 0.05
"""Time that passes between requests on the clock of the quotas: their windows are full."""
LAST = (
    b'data: {"choices":[],"created":1,"id":"chatcmpl-1","model":"m","object":"chat.completion.chunk","timings":'
    b'{"cache_n":0,"prompt_n":20,"prompt_ms":30.5,"prompt_per_second":655.7,"predicted_n":100,"predicted_ms":2000.5,'
    b'"predicted_per_second":49.9}}\n\ndata: [DONE]\n\n'
)


def scope(token: str) -> Scope:
    """A request as the official client sends it."""
    names = ("host", "accept-encoding", "connection", "accept", "content-type", "user-agent", "x-stainless-lang",
             "x-stainless-package-version", "x-stainless-os", "x-stainless-arch", "x-stainless-runtime")  # fmt: skip
    headers = [(name.encode(), b"some value") for name in names]
    headers.insert(7, (b"authorization", b"Bearer " + token.encode()))
    headers.append((b"content-length", b"100"))
    return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}


def one(gate: Gate, asked: Scope) -> None:
    """A request from the gate to the books; what it does between them is not timed here."""
    record = Record(endpoint="chat/completions", model="tiny", status=200, arrived_s=0.0)
    visit = gate.enter(asked, record)
    record.prefill_tokens, record.cached_tokens, record.decode_tokens = 2, 0, 3
    gate.leave(visit, record, [])


def round_us(gate: Gate, asked: Scope, requests: int, settle_s: float) -> tuple[float, float]:
    """CPU us per request of the whole process, and the median us that the event loop is held."""
    held_ns = []
    cpu_s = time.process_time()
    for _ in range(requests):
        start_ns = time.perf_counter_ns()
        one(gate, asked)
        held_ns.append(time.perf_counter_ns() - start_ns)
    time.sleep(settle_s)  # the writer gathers, then writes
    return (time.process_time() - cpu_s) / requests * 1e6, statistics.median(held_ns) / 1e3


def reading_us(requests: int) -> float:
    """CPU us to take the counts from the last event of an answer."""
    cpu_s = time.process_time()
    for _ in range(requests):
        Record(endpoint="chat/completions").read_events(LAST)
    return (time.process_time() - cpu_s) / requests * 1e6


def loop_ms() -> float:
    """CPU ms of a fixed loop: how fast the machine happens to be."""
    cpu_s = time.process_time()
    for _ in range(1_000_000):
        pass
    return (time.process_time() - cpu_s) * 1e3


def figures(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)
    }  # fmt: skip


def measure(folder: Path, rounds: int, requests: int) -> dict[str, object]:
    ticks = count()
    clock: Callable[[], float] = lambda: next(ticks) * STEP_S  # noqa: E731 - a clock in one line
    keyring = FileKeyring(folder / "keys.json", print)
    limits = Limits(tokens_per_minute=10**9, tokens_per_day=10**9, concurrency=8)
    tokens = []
    for number in range(20):
        key, token = mint(KeyWish(name=f"key {number}", limits=limits), os.urandom(36), time.time())
        keyring.add(key)
        tokens.append(token)
    ledger = ActivityLedger(folder / "activity.db", days=90, size=1 << 28, warn=print, clock=time.time)
    ledger.open()
    asked = scope(tokens[7])
    gates = {"open": Gate(clock=clock), "keys": Gate(keyring, ledger, clock=clock)}
    cpu: dict[str, list[float]] = {name: [] for name in gates}
    held: dict[str, list[float]] = {name: [] for name in gates}
    loops = []
    for number in range(rounds + 1):
        loops.append(loop_ms())
        for name, gate in gates.items():
            cpu_us, held_us = round_us(gate, asked, requests, 0.6)
            if number:
                cpu[name].append(cpu_us)
                held[name].append(held_us)
    ledger.close()
    added = [keys - plain for keys, plain in zip(cpu["keys"], cpu["open"], strict=True)]
    loop = [keys - plain for keys, plain in zip(held["keys"], held["open"], strict=True)]
    return {
        "added_cpu_us_per_request": figures(added),
        "added_us_in_the_event_loop": figures(loop),
        "cpu_us_per_request": {name: figures(values) for name, values in cpu.items()},
        "cpu_us_to_read_the_counts_of_an_answer": figures([reading_us(requests) for _ in range(rounds)]),
        "cpu_ms_of_a_fixed_loop": figures(loops),
        "recorded": len(ledger.spent(0.0)) > 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds; one more is thrown away")
    parser.add_argument("--requests", type=int, default=2000, help="requests per round")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.rounds, given.requests)
    facts = {
        "schema": "bercail.bench.keys/1",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} virtual cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "method": "per request: the key of 20 found among 13 headers, its file looked at, SHA-256, scope, both windows "
        "full, concurrency, charge, and a row in SQLite by its writer; less the same calls of an open gate, in "
        "interleaved rounds, one thrown away; CPU of the whole process",
        "rounds": given.rounds,
        "requests_per_round": given.requests,
        "target_us": 50,
    }
    publish(facts | found, given.out)


if __name__ == "__main__":
    main()
