"""What the gateway costs: CPU per request and per chunk, added latency, time to abort, memory.

The gateway runs alone on one core; the fake engine and this load generator share another. The engine listens on a unix
socket, as the real one does. Latency through the gateway and straight to the engine is measured in the same run,
requests alternating, so that both meet the same noise. The baseline of CPU is the least proxy that can be written with
the same parts: uvicorn's protocol, the same client, and an application that forwards bodies without looking at them.

    python bench/scenarios/gateway.py [--json FILE] [--seconds S]
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bercail.core.configuration import Profiles, SideRule
from bercail.core.launch import Address
from bercail.core.model import Capability
from bercail.core.news import Reloaded
from bercail.core.options import ServerOptions
from bercail.core.route import Phase, ServedModel
from bercail.engines.upstream import HttpUpstream
from bercail.ports import Lease, Watch
from bercail.web import Gateway

JSON = [(b"content-type", b"application/json")]
CHAT = "/v1/chat/completions"
PROMPT = [{"role": "user", "content": "Tell me something about sheep. " * 32}]  # about 1.1 KB with its frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One result against its target."""

    name: str
    value: float
    unit: str
    target: float | None
    count: int

    @property
    def met(self) -> str:
        """Yes, no, or nothing where there is no target."""
        return "" if self.target is None else "yes" if self.value <= self.target else "NO"


# The gateway's process


@dataclass(slots=True)
class Ticket:
    """A lease without an end."""

    address: Address
    model: ServedModel
    load_s: float = 0.0

    @property
    def sent_name(self) -> str:
        """None of its own."""
        return ""

    def release(self) -> None:
        """Nothing to give back."""

    def failure(self) -> None:
        """The fake engine does not die here."""

    def rewrite(self, body: bytes) -> bytes:
        """Nothing is changed."""
        return body


class OneModel:
    """A host of one model that is always ready: what is measured is the gateway, not the queue."""

    def __init__(self, engine: Address) -> None:
        self._model = ServedModel(
            id="fake", asked="fake", phase=Phase.LOADED, created=0, file_bytes=1, context_length=1_000_000,
            slot_context_tokens=1_000_000, slots=256, capabilities=(Capability.CHAT, Capability.COMPLETION),
        )  # fmt: skip
        self._ticket = Ticket(engine, self._model)

    def models(self) -> tuple[ServedModel, ...]:
        """What there is."""
        return (self._model,)

    def find(self, model_id: str) -> ServedModel:
        """The one."""
        return self._model

    async def load(self, model_id: str) -> None:
        """It is there."""

    async def unload(self, model_id: str) -> None:
        """It stays."""

    def stay(self, model_id: str, stay_s: float) -> str:
        """It stays anyway."""
        return ""

    def profiles(self) -> Profiles:
        """None."""
        return Profiles()

    def side_rules(self) -> tuple[SideRule, ...]:
        """None."""
        return ()

    def switch(self, profile: str) -> None:
        """There is none."""

    async def reload(self) -> Reloaded:
        """Nothing changes."""
        return Reloaded(changed=(), added=(), gone=())

    def glance(self, model_id: str) -> Lease:
        """Always."""
        return self._ticket

    async def lease(
        self, model_id: str, key: str = "", priority: int = 0, *,
        substitutes: Sequence[str] = (), watch: Watch | None = None,
    ) -> Lease:  # fmt: skip
        """At once."""
        return self._ticket


async def serve(engine: str) -> None:
    gateway = Gateway(ServerOptions(port=0), HttpUpstream())
    url = await gateway.open(OneModel(Address(unix_path=engine)))
    print(url.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


# The baseline's process


async def forward(engine: str) -> None:
    upstream = HttpUpstream()
    address = Address(unix_path=engine)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        response = await upstream.send(address, "POST", scope["path"], JSON, body)
        await send({"type": "http.response.start", "status": response.status, "headers": JSON})
        async for chunk in response.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none", http="httptools")
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    server = await loop.create_server(lambda: HttpToolsProtocol(config, state, {}, loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


# The load generator


@contextlib.asynccontextmanager
async def program(core: int, *argv: str) -> AsyncIterator[tuple[int, int]]:
    """A child on one core; its process id and the port that it prints (0 if it has none)."""
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    os.sched_setaffinity(process.pid, {core})
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        port = line.decode().strip().rpartition(":")[2]
        yield process.pid, int(port) if port.isdigit() else 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond where the kernel tells."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int, name: str) -> float:
    """A line of ``/proc/PID/status`` in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def question(*, stream: bool, tokens: int, **fake: object) -> bytes:
    asked = {"model": "fake", "messages": PROMPT, "stream": stream, "max_tokens": tokens}
    return json.dumps(asked | ({"fake": fake} if fake else {})).encode()


class Load:
    """Requests to one address."""

    def __init__(self, address: Address) -> None:
        self._client = HttpUpstream()
        self._address = address

    async def ask(self, body: bytes) -> tuple[float, int]:
        """Seconds until the answer was whole, and the number of events in it."""
        begun_s = time.perf_counter()
        response = await self._client.send(self._address, "POST", CHAT, JSON, body)
        events = 0
        async for chunk in response.chunks():
            events += chunk.count(b"\n\n")
        assert response.status == 200, response.status
        return time.perf_counter() - begun_s, events

    async def look(self) -> None:
        """A request that needs no engine: what the HTTP server alone costs."""
        response = await self._client.send(self._address, "GET", "/nowhere", [], b"")
        async for _ in response.chunks():
            pass

    async def leave(self, body: bytes, after_s: float) -> float:
        """Ask, leave after a while; when that was."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                response = await self._client.send(self._address, "POST", CHAT, JSON, body)
                async for _ in response.chunks():
                    pass
        left_s = time.monotonic()
        await self._client.close()
        return left_s

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


async def repeated(count: int, width: int, action: Callable[[], Awaitable[object]]) -> None:
    """Do something ``count`` times, ``width`` at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await action()

    await asyncio.gather(*(worker() for _ in range(width)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that are compared: its process and the way to it."""

    pid: int
    load: Load


async def compared(name: str, target: float, sides: tuple[Side, Side], cost: Callable[[Side], Awaitable[float]],
                   count: int) -> list[Figure]:  # fmt: skip
    """CPU of a unit of work in us: ours, the least proxy's, and the ratio; five rounds of each in turn."""
    rounds: tuple[list[float], list[float]] = ([], [])
    for number in range(6):
        for found, side in zip(rounds, sides, strict=True):
            value = await cost(side)
            if number:  # the first of each warms up
                found.append(value)
    ours, least = (statistics.median(found) for found in rounds)
    ratio = statistics.median(mine / its for mine, its in zip(*rounds, strict=True))
    return [
        Figure(name=name, value=ours, unit="us", target=target, count=count),
        Figure(name=f"{name}: least proxy", value=least, unit="us", target=None, count=count),
        Figure(name=f"{name}: ratio", value=ratio, unit="x", target=None, count=5),
    ]


def request_cost(*, stream: bool) -> Callable[[Side], Awaitable[float]]:
    """CPU per request of one token, 16 at a time."""
    body = question(stream=stream, tokens=1)

    async def cost(side: Side) -> float:
        before_s = cpu_s(side.pid)
        await repeated(500, 16, lambda: side.load.ask(body))
        return (cpu_s(side.pid) - before_s) / 500 * 1e6

    return cost


def chunk_cost(seconds: float, *, stream: bool = True) -> Callable[[Side], Awaitable[float]]:
    """CPU per chunk of 64 answers with 50 tokens/s each; chunks of one read are counted as they were sent."""
    tokens = int(50 * seconds)
    body = question(stream=stream, tokens=tokens, delay_s=0.02)

    async def cost(side: Side) -> float:
        before_s = cpu_s(side.pid)
        await asyncio.gather(*(side.load.ask(body) for _ in range(64)))
        return (cpu_s(side.pid) - before_s) / (64 * tokens) * 1e6

    return cost


async def folded_cost(side: Side, seconds: float, count: int) -> Figure:
    """CPU per token of an answer that its client gets whole: the engine's stream is folded here."""
    cost = chunk_cost(seconds, stream=False)
    value = statistics.median([await cost(side) for _ in range(6)][1:])
    return Figure(name="CPU per token, 64 whole answers", value=value, unit="us", target=None, count=count)


async def bare_cost(pid: int, load: Load) -> Figure:
    """CPU of a request that is answered at once, as a measure of the HTTP server and of the machine's present speed."""
    await repeated(200, 16, load.look)
    before_s = cpu_s(pid)
    await repeated(1000, 16, load.look)
    value = (cpu_s(pid) - before_s) / 1000 * 1e6
    return Figure(name="CPU per bare answer (a 404)", value=value, unit="us", target=None, count=1000)


async def added_latency(direct: Load, ours: Load, least: Load, seconds: float) -> list[Figure]:
    """200 requests/s each to the gateway, the least proxy and the engine, in turn."""
    body = question(stream=False, tokens=1)
    loads = (direct, ours, least)
    times: dict[Load, list[float]] = {load: [] for load in loads}
    tasks = []

    async def one(load: Load) -> None:
        times[load].append((await load.ask(body))[0])

    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    for index in range(int(600 * seconds)):
        await asyncio.sleep(max(0.0, begun_s + index / 600 - loop.time()))
        tasks.append(asyncio.create_task(one(loads[index % 3])))
    await asyncio.gather(*tasks)
    figures = []
    for percent, target in ((50, 0.3), (99, 1.5)):
        at = {load: statistics.quantiles(times[load], n=100)[percent - 1] * 1e3 for load in loads}
        count = len(times[ours])
        figures += [
            Figure(name=f"p{percent} straight", value=at[direct], unit="ms", target=None, count=count),
            Figure(name=f"p{percent} added", value=at[ours] - at[direct], unit="ms", target=target, count=count),
            Figure(name=f"p{percent} added: least proxy", value=at[least] - at[direct], unit="ms", target=None,
                   count=count),
        ]  # fmt: skip
    return figures


async def abort_times(engine: Address, gateway: Address) -> list[Figure]:
    """From the client's close to the engine's seeing it, in each phase of a request."""
    phases = {
        "prefill": question(stream=True, tokens=10, prefill_s=5.0),
        "decode": question(stream=True, tokens=500, delay_s=0.01),
        "one answer": question(stream=False, tokens=500, delay_s=0.01),
    }
    figures = []
    for name, body in phases.items():
        waits = []
        for _ in range(10):
            left_s = await Load(gateway).leave(body, 0.05)
            await asyncio.sleep(0.08)
            waits.append((await _seen_leaving(engine) - left_s) * 1e3)
        figures.append(Figure(name=f"abort, {name} (worst)", value=max(waits), unit="ms", target=50, count=len(waits)))
    return figures


async def _seen_leaving(engine: Address) -> float:
    client = HttpUpstream()
    response = await client.send(engine, "GET", "/fake/journal", [], b"")
    journal = json.loads(b"".join([chunk async for chunk in response.chunks()]))
    await client.close()
    left_s: float | None = journal[-1]["left_s"]
    return left_s if left_s is not None else float("inf")


async def memory(pid: int, load: Load) -> list[Figure]:
    """Resident memory before anything else, and its peak while 64 bodies of 1 MB are under way at once."""
    body = json.dumps({
        "model": "fake", "messages": [{"role": "user", "content": "x" * 1_000_000}], "stream": False, "max_tokens": 1,
        "fake": {"prefill_s": 1.0},
    }).encode()  # fmt: skip
    await asyncio.gather(*(load.ask(body) for _ in range(64)))
    return [
        Figure(name="memory peak, 64 bodies of 1 MB", value=memory_mb(pid, "VmHWM"), unit="MB", target=250, count=64)
    ]


async def measure(seconds: float) -> list[Figure]:
    cores = sorted(os.sched_getaffinity(0))
    ours, theirs = cores[0], cores[-1]
    os.sched_setaffinity(0, {theirs})
    with tempfile.TemporaryDirectory() as folder:
        engine = str(Path(folder) / "engine.sock")
        fake = ("-m", "bercail.engines.fake", "--uds", engine, "--context", "1000000")
        async with (
            program(theirs, *fake),
            program(ours, __file__, "--serve", engine) as (pid, port),
            program(ours, __file__, "--least", engine) as (least_pid, least_port),
        ):
            return await figures_of(
                seconds, Address(unix_path=engine), (pid, Address(port=port)), (least_pid, Address(port=least_port))
            )


async def figures_of(
    seconds: float, engine: Address, gateway: tuple[int, Address], baseline: tuple[int, Address]
) -> list[Figure]:
    pid, address = gateway
    direct = Load(engine)
    sides = (Side(pid=pid, load=Load(address)), Side(pid=baseline[0], load=Load(baseline[1])))
    through = sides[0].load
    await through.ask(question(stream=False, tokens=1))
    figures = [Figure(name="memory idle", value=memory_mb(pid, "VmRSS"), unit="MB", target=80, count=1)]
    figures.append(await bare_cost(pid, through))
    for stream, kind in ((True, "streaming"), (False, "one answer")):
        figures += await compared(f"CPU per request, {kind}", 100, sides, request_cost(stream=stream), 2500)
    chunks = int(64 * 50 * seconds / 5) * 5
    figures += await compared("CPU per chunk, 64 streams", 40, sides, chunk_cost(seconds / 5), chunks)
    figures.append(await folded_cost(sides[0], seconds / 5, chunks))
    figures += await added_latency(direct, through, sides[1].load, seconds)
    figures += await abort_times(engine, address)
    figures += await memory(pid, through)
    for load in (direct, through, sides[1].load):
        await load.close()
    return figures


def loop_ms() -> float:
    """CPU time of a fixed piece of Python: how fast this machine is right now, to compare runs by."""
    begun_s = time.process_time()
    sum(number * number for number in range(500_000))
    return (time.process_time() - begun_s) * 1e3


def table(figures: list[Figure]) -> str:
    lines = [f"{'':34} {'value':>9}      {'target':>7}  met   n"]
    for one in figures:
        target = "" if one.target is None else f"{one.target:g}"
        lines.append(f"{one.name:34} {one.value:9.3f} {one.unit:3}  {target:>7}  {one.met:4}  {one.count}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="SOCKET", help=argparse.SUPPRESS)
    parser.add_argument("--least", metavar="SOCKET", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each timed part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args()
    if given.serve is not None:
        uvloop.run(serve(given.serve))
    if given.least is not None:
        uvloop.run(forward(given.least))
    before_ms = loop_ms()
    figures = uvloop.run(measure(given.seconds))
    print(table(figures))
    machine = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release(),
               "cores": os.cpu_count(), "load_1m": os.getloadavg()[0],
               "loop_ms": [round(before_ms, 1), round(loop_ms(), 1)]}  # fmt: skip
    made = {"schema": "bercail.bench.gateway/1", "machine": machine, "figures": [asdict(one) for one in figures]}
    if given.json is not None:
        given.json.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
