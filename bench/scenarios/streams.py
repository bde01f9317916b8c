"""256 streams at 20 tokens/s through a whole server on one core: the worst gap that it adds, stalls, and its CPU.

`bercail serve` runs alone on one core, with an API key that has limits, the record of requests in SQLite and metrics;
its model is a command, the fake engine. Engine and clients share another core. The same streams straight to the engine,
in turn with those through the server, tell what of a gap is the engine's and the clients' own.

    python -m bench.scenarios.streams [--streams 256] [--rate 20] [--seconds 10] [--rounds 3] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.scenarios.gateway import CHAT, JSON, cpu_s, loop_ms, memory_mb, question, repeated
from bercail.core.launch import Address
from bercail.engines import HttpUpstream
from tools.figures import publish

STALL_S = 0.25
"""A gap that a reader sees as a stop: five tokens at 20 tokens/s."""
TOKENS = re.compile(r"^bercail_decode_tokens_total\{[^}]*\} (\d+)$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the clients of one round saw; times in seconds."""

    gaps_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    events: int = 0

    def figures(self, streams: int) -> dict[str, float | int]:
        """The gaps between reads, in ms."""
        cuts = statistics.quantiles(self.gaps_s, n=1000)
        return {
            "events": self.events,
            "p50_ms": round(cuts[499] * 1e3, 1),
            "p99_ms": round(cuts[989] * 1e3, 1),
            "p999_ms": round(cuts[998] * 1e3, 1),
            "worst_ms": round(max(self.gaps_s) * 1e3, 1),
            "first_token_worst_ms": round(max(self.first_s) * 1e3, 1),
            "stalls": sum(gap_s > STALL_S for gap_s in self.gaps_s),
            "streams": streams,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to the engine: straight, or through the server."""

    address: Address
    headers: list[tuple[bytes, bytes]]


async def listen(client: HttpUpstream, way: Way, body: bytes, seen: Seen) -> None:
    """Read one stream to its end."""
    asked_s = time.perf_counter()
    response = await client.send(way.address, "POST", CHAT, way.headers, body)
    assert response.status == 200, (response.status, b"".join([chunk async for chunk in response.chunks()]))
    last_s = None
    async for chunk in response.chunks():
        now_s = time.perf_counter()
        seen.events += chunk.count(b"\n\n")
        (seen.first_s if last_s is None else seen.gaps_s).append(now_s - (asked_s if last_s is None else last_s))
        last_s = now_s


async def round_of(client: HttpUpstream, way: Way, streams: int, rate: float, seconds: float) -> Seen:
    """All streams at once, begun one after the other within one token's time."""
    body = question(stream=True, tokens=int(rate * seconds), delay_s=1 / rate)
    seen = Seen()

    async def one(number: int) -> None:
        await asyncio.sleep(number / streams / rate)
        await listen(client, way, body, seen)

    await asyncio.gather(*(one(number) for number in range(streams)))
    return seen


@contextlib.asynccontextmanager
async def server(place: Path, core: int, engine_core: int) -> AsyncIterator[tuple[int, int, Address, str]]:
    """A server on one core, its engine on another: its process id, its port, the engine's address, an API key."""
    config = place / "bercail.yaml"
    fake = f"{sys.executable} -m bercail.engines.fake --port ${{PORT}} --context 1000000"
    config.write_text(f"models:\n  fake:\n    cmd: {fake}\n    concurrencyLimit: 1024\n")
    environment = {**os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        environment.pop(name, None)
    bercail = [sys.executable, "-m", "bercail"]
    token = make_key(bercail, environment)
    process = await asyncio.create_subprocess_exec(
        *bercail, "serve", "--config", str(config), "--json-log", "--port", "0",
        stdout=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while (news := json.loads(await process.stdout.readline()))["event"] != "listening":
            pass
        hearing = asyncio.create_task(process.stdout.read())
        port = int(news["url"].rpartition(":")[2])
        await first(port, token)
        pin(process.pid, core)
        yield process.pid, port, engine_of(process.pid, engine_core), token
        hearing.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def make_key(bercail: list[str], environment: dict[str, str]) -> str:
    """A key with limits that are looked at and never reached."""
    limits = ["--tokens-per-minute", "1000000000", "--tokens-per-day", "1000000000", "--concurrency", "2000"]
    command = [*bercail, "keys", "create", "bench", *limits, "--json"]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return str(json.loads(made.stdout)["token"])


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process to a core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


async def first(port: int, token: str) -> None:
    """Bring the model in."""
    client = HttpUpstream()
    way = Way(address=Address(port=port), headers=headers_of(token))
    await listen(client, way, question(stream=True, tokens=2), Seen())
    await client.close()


def headers_of(token: str) -> list[tuple[bytes, bytes]]:
    return [*JSON, (b"authorization", b"Bearer " + token.encode())]


def engine_of(pid: int, core: int) -> Address:
    """Where the fake engine under a server listens; it is moved to a core of its own."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().decode().split("\0") if path.exists() else []
        if "bercail.engines.fake" in words and "--port" in words and descends(int(path.parent.name), pid):
            pin(int(path.parent.name), core)
            port = int(words[words.index("--port") + 1])
    return Address(port=port)


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


async def request_us(client: HttpUpstream, way: Way, pid: int, count: int = 1000) -> float:
    """CPU of the server per streamed request of one token, 16 at a time."""
    body = question(stream=True, tokens=1)
    before_s = cpu_s(pid)
    await repeated(count, 16, lambda: listen(client, way, body, Seen()))
    return (cpu_s(pid) - before_s) / count * 1e6


async def counted(client: HttpUpstream, way: Way) -> int:
    """Tokens that the server's metrics have counted."""
    response = await client.send(way.address, "GET", "/metrics", way.headers, b"")
    text = b"".join([chunk async for chunk in response.chunks()]).decode()
    return sum(map(int, TOKENS.findall(text)))


async def measure(streams: int, rate: float, seconds: float, rounds: int) -> dict[str, object]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        async with server(Path(folder), cores[0], cores[-1]) as (pid, port, engine, token):
            os.sched_setaffinity(0, {cores[-1]})
            client = HttpUpstream()
            through = Way(address=Address(port=port), headers=headers_of(token))
            straight = Way(address=engine, headers=JSON)
            await request_us(client, through, pid, 200)
            per_request = [await request_us(client, through, pid) for _ in range(3)]
            before = await counted(client, through)
            ours, own, shares, per_chunk = [], [], [], []
            for _ in range(rounds):
                own.append((await round_of(client, straight, streams, rate, seconds)).figures(streams))
                begun_s, spent_s = time.perf_counter(), cpu_s(pid)
                seen = await round_of(client, through, streams, rate, seconds)
                spent_s = cpu_s(pid) - spent_s
                shares.append(round(spent_s / (time.perf_counter() - begun_s), 3))
                per_chunk.append(round(spent_s / seen.events * 1e6, 1))
                ours.append(seen.figures(streams))
            tokens = await counted(client, through) - before
            memory = memory_mb(pid, "VmRSS")
            await client.close()
    return {
        "schema": "bercail.bench.streams/1", "python": platform.python_version(), "kernel": platform.release(),
        "cores": os.cpu_count(), "load_1m": os.getloadavg()[0], "loop_ms": round(loop_ms(), 1),
        "streams": streams, "rate_tokens_per_s": rate, "seconds": seconds, "rounds": rounds,
        "stall_is_over_s": STALL_S, "through": ours, "straight": own,
        "worst_gap_added_ms": [round(a["worst_ms"] - b["worst_ms"], 1) for a, b in zip(ours, own, strict=True)],
        "share_of_its_core": shares, "cpu_us_per_event": per_chunk,
        "cpu_us_per_streamed_request": [round(value, 1) for value in per_request],
        "tokens_in_metrics": tokens, "memory_mb": round(memory, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=256, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=20, help="tokens/s of each; default %(default)s")
    parser.add_argument("--seconds", type=float, default=10, help="of a round; default %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=3, help="through the server, and as many straight; default %(default)s"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    publish(uvloop.run(measure(given.streams, given.rate, given.seconds, given.rounds)), given.json)


if __name__ == "__main__":
    main()
