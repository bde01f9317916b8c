"""CPU of the upstream client per request and per SSE chunk, against the fake engine in another process.

Run: ``python bench/micro/upstream.py``. What is counted is this process's CPU time alone (``bench/METHODOLOGY.md``).
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bercail.core.launch import Address
from bercail.engines import HttpUpstream

HEADERS = [(b"content-type", b"application/json"), (b"accept", b"*/*")]
TARGET = "/v1/chat/completions"


def question(**more: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "x" * 1000}], **more}).encode()


async def drain(upstream: HttpUpstream, address: Address, body: bytes) -> int:
    response = await upstream.send(address, "POST", TARGET, HEADERS, body)
    pieces = 0
    async for _ in response.chunks():
        pieces += 1
    return pieces


async def requests(upstream: HttpUpstream, address: Address, count: int, at_once: int) -> tuple[float, float]:
    """CPU seconds per request, and the median latency of requests one after the other."""
    body, latencies_s = question(max_tokens=16), []

    async def some() -> None:
        for _ in range(count // at_once):
            await drain(upstream, address, body)

    cpu_s = time.process_time()
    await asyncio.gather(*(some() for _ in range(at_once)))
    cpu_s = time.process_time() - cpu_s
    for _ in range(200):
        start_s = time.perf_counter()
        await drain(upstream, address, body)
        latencies_s.append(time.perf_counter() - start_s)
    return cpu_s / count, statistics.median(latencies_s)


async def streams(upstream: HttpUpstream, address: Address, tokens: int, at_once: int) -> float:
    """CPU seconds per chunk of paced streams."""
    body = question(max_tokens=tokens, stream=True, fake={"delay_s": 0.01})
    cpu_s = time.process_time()
    await asyncio.gather(*(drain(upstream, address, body) for _ in range(at_once)))
    return (time.process_time() - cpu_s) / (tokens * at_once)


async def aborts(upstream: HttpUpstream, address: Address, count: int) -> list[float]:
    """Seconds from giving a request up to the engine seeing it."""
    gone_s = []
    for _ in range(count):
        task = asyncio.create_task(upstream.send(address, "POST", TARGET, HEADERS, question(fake={"fail": "hang"})))
        await asyncio.sleep(0.02)
        gone_s.append(time.monotonic())
        task.cancel()
        await asyncio.wait([task])
    await asyncio.sleep(0.1)
    response = await upstream.send(address, "GET", "/fake/journal", [], b"")
    visits = json.loads(b"".join([piece async for piece in response.chunks()]))
    left_s = [visit["left_s"] for visit in visits if visit["left_s"] is not None]
    return [left - gone for left, gone in zip(left_s, gone_s, strict=True)]


async def measure(address: Address) -> dict[str, float]:
    upstream = HttpUpstream()
    await requests(upstream, address, 320, 32)
    request_s, median_s = await requests(upstream, address, 3200, 32)
    chunk_s = await streams(upstream, address, 100, 64)
    abort_s = await aborts(upstream, address, 20)
    await upstream.close()
    return {
        "cpu_us_per_request": request_s * 1e6,
        "latency_p50_us": median_s * 1e6,
        "cpu_us_per_chunk": chunk_s * 1e6,
        "abort_seen_ms_max": max(abort_s) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "fake.sock")
        command = [sys.executable, "-m", "bercail.engines.fake", "--uds", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as fake:
            assert fake.stdout is not None
            fake.stdout.readline()
            factory = None
            if given.uvloop:
                import uvloop

                factory = uvloop.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                found = runner.run(measure(Address(unix_path=path)))
            fake.kill()
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
