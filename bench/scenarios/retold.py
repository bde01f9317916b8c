"""What a chunk of a stream costs the gateway in each dialect.

The gateway runs alone on one core; the fake engine and this load generator share another. 64 streams with 50 tokens/s
each, dialect by dialect in turn, so that all meet the same noise; CPU of the gateway's process per token.

    python bench/scenarios/retold.py [--seconds S] [--rounds N]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench.scenarios import gateway
from bercail.core.launch import Address
from bercail.engines.upstream import HttpUpstream

STREAMS = 64
RATE_TOKENS_PER_S = 50
SAID = [{"role": "user", "content": "Tell me something about sheep."}]
ASKED: dict[str, tuple[str, dict[str, object]]] = {
    "OpenAI's chat": ("/v1/chat/completions", {"messages": SAID}),
    "Anthropic's messages": ("/v1/messages", {"messages": SAID}),
    "Ollama's chat": ("/api/chat", {"messages": SAID}),
    "Ollama's generate": ("/api/generate", {"prompt": "Tell me something about sheep."}),
}


async def stream(client: HttpUpstream, address: Address, path: str, body: bytes) -> None:
    """One stream, read to its end."""
    response = await client.send(address, "POST", path, gateway.JSON, body)
    assert response.status == 200, response.status
    async for _ in response.chunks():
        pass


async def cost_us(pid: int, client: HttpUpstream, address: Address, name: str, tokens: int) -> float:
    """CPU of the gateway per token of ``STREAMS`` streams."""
    path, asked = ASKED[name]
    body = json.dumps({"model": "fake", "stream": True, **asked}).encode()
    before_s = gateway.cpu_s(pid)
    await asyncio.gather(*(stream(client, address, path, body) for _ in range(STREAMS)))
    return (gateway.cpu_s(pid) - before_s) / (STREAMS * tokens) * 1e6


async def measure(seconds: float, rounds: int) -> dict[str, list[float]]:
    """Each dialect's costs, round by round; the first round warms up."""
    cores = sorted(os.sched_getaffinity(0))
    ours, theirs = cores[0], cores[-1]
    os.sched_setaffinity(0, {theirs})
    tokens = int(RATE_TOKENS_PER_S * seconds)
    found: dict[str, list[float]] = {name: [] for name in ASKED}
    with tempfile.TemporaryDirectory() as folder:
        engine = str(Path(folder) / "engine.sock")
        delay = ("--delay", str(1 / RATE_TOKENS_PER_S), "--tokens", str(tokens))
        fake = ("-m", "bercail.engines.fake", "--uds", engine, "--context", "1000000", *delay)
        async with (
            gateway.program(theirs, *fake),
            gateway.program(ours, gateway.__file__, "--serve", engine) as (pid, port),
        ):
            client, address = HttpUpstream(), Address(port=port)
            for number in range(rounds + 1):
                for name, costs in found.items():
                    cost = await cost_us(pid, client, address, name, tokens)
                    if number:
                        costs.append(cost)
            await client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each stream")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    before_ms = gateway.loop_ms()
    found = uvloop.run(measure(given.seconds, given.rounds))
    chat = found["OpenAI's chat"]
    print(json.dumps({
        "schema": "bercail.bench.retold/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(), "cpus": os.cpu_count(), "load_1m": os.getloadavg()[0],
        "loop_ms": [round(before_ms, 1), round(gateway.loop_ms(), 1)],
        "streams": STREAMS, "tokens_per_s": RATE_TOKENS_PER_S, "rounds": given.rounds,
        "cpu_per_chunk_us": {
            name: {"median": round(statistics.median(costs), 1), "min": round(min(costs), 1),
                   "max": round(max(costs), 1),
                   "of_chat": round(statistics.median(a / b for a, b in zip(costs, chat, strict=True)), 2)}
            for name, costs in found.items()
        },
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
