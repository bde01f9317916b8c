"""The gateway on a real socket before the fake engine, and bare sockets to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai

from bercail.core.launch import Address
from bercail.core.model import Capability
from bercail.core.options import ServerOptions
from bercail.engines.fake import Behaviour, FakeServer
from bercail.engines.upstream import HttpUpstream
from bercail.web import Gateway
from fakes.host import FakeHost, served

MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass(slots=True)
class Street:
    """A client's way to the engine: both ends and what is between."""

    engine: FakeServer
    host: FakeHost
    gateway: Gateway
    url: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def client(self) -> Any:
        """The official client; its overloads want more types than a test has."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)

    async def left(self) -> None:
        """The engine has seen its client leave, and the lease is back."""
        await until(lambda: self.engine.visits[-1].left_s is not None and not self.host.out)


async def until(condition: Callable[[], bool]) -> None:
    """Poll: what is waited for happens at the far end of a socket."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing at that end sets an event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def street(behaviour: Behaviour | None = None, **options: object) -> AsyncIterator[Street]:
    engine = FakeServer(model_id="tiny", behaviour=behaviour)
    address = await engine.listen(Address())
    upstream = HttpUpstream()
    host = FakeHost(known=[served(capabilities=tuple(Capability))], address=address)
    gateway = Gateway(ServerOptions(port=0, **options), upstream)  # type: ignore[arg-type] # a test names what it sets
    url = await gateway.open(host)
    try:
        yield Street(engine, host, gateway, url)
        assert host.out == 0
    finally:
        await gateway.close(0)
        await upstream.close()
        await engine.close()


async def send(way: Street, body: object, *, padding: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A chat over a bare socket."""
    data = json.dumps(body).encode() + b" " * padding
    reader, writer = await asyncio.open_connection(*way.address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return reader, writer


def asked(*, stream: bool, **more: object) -> dict[str, object]:
    return {"messages": MESSAGES, "stream": stream, **more}
