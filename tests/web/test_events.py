"""What happens is told to who follows, in llama-swap's words."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from bercail.core.access import KeyWish, mint
from bercail.core.access import Scope as Opens
from bercail.core.configuration import Profile, Profiles
from bercail.core.log import OURS
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.store import MemoryLog
from bercail.web.app import App
from bercail.web.dialects.statuses import EVERY_S
from bercail.web.gate import Gate
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

Story = Callable[[FakeHost, MemoryLog], Coroutine[None, None, None]]


def play(story: Story, *, gate: Gate | None = None, token: str = "") -> Client:
    host, log = FakeHost(known=[served("a", phase=Phase.UNLOADED, aliases=("x",))]), MemoryLog()
    app = App(host, FakeUpstream(Scripted()), ServerOptions(), lambda: 0.0, gate)
    app.take_log(log)
    client = Client(app)

    async def scene() -> None:
        log.add(OURS, "hello")
        log.add("a", "weights")
        headers = ((b"authorization", f"Bearer {token}".encode()),) if token else ()
        client.start("/api/events", b"", method="GET", headers=headers)
        await asyncio.sleep(EVERY_S / 2)
        await story(host, log)
        await asyncio.sleep(EVERY_S)
        app.stopping = True
        await client.end()

    run(scene)
    return client


def events(client: Client) -> list[tuple[str, Any]]:
    made = []
    for event in client.body.decode().strip().split("\n\n"):
        name, _, data = event.partition("\n")
        assert name == "event: message"
        told = json.loads(data.removeprefix("data: "))
        made.append((told["type"], json.loads(told["data"])))
    return made


def row(state: str) -> dict[str, Any]:
    return {"id": "a", "name": "", "description": "", "state": state, "unlisted": False, "aliases": ["x"]}


async def nothing(host: FakeHost, log: MemoryLog) -> None:
    pass


def test_how_all_stands_is_told_at_once() -> None:
    client = play(nothing)
    assert client.headers["content-type"] == "text/event-stream"
    assert events(client) == [
        ("logData", {"source": "proxy", "data": "hello\n"}),
        ("logData", {"source": "upstream", "data": "a | weights\n"}),
        ("modelStatus", [row("stopped")]),
        ("profileChanged", {"active": None}),
    ]
    assert client.complete


def test_then_each_change_and_nothing_twice() -> None:
    async def story(host: FakeHost, log: MemoryLog) -> None:
        host.known = [served("a", aliases=("x",))]
        await asyncio.sleep(EVERY_S)
        log.add("a", "ready")
        await asyncio.sleep(EVERY_S)
        host.others = Profiles(known=(Profile(id="p", line=1, pins={}),), active="p")

    assert events(play(story))[4:] == [
        ("modelStatus", [row("ready")]),
        ("logData", {"source": "upstream", "data": "a | ready\n"}),
        ("profileChanged", {"active": "p"}),
    ]


def test_lines_that_came_too_fast_to_be_kept_are_counted() -> None:
    async def story(host: FakeHost, log: MemoryLog) -> None:
        for number in range(3000):
            log.add("a", f"{number:100}")

    told = [data for kind, data in events(play(story)) if kind == "logData"]
    assert told[2]["source"] == "proxy"
    assert told[2]["data"].endswith(" lines left out\n")


def test_a_key_that_does_not_open_everything_gets_no_lines() -> None:
    key, token = mint(KeyWish(name="k", scopes=(Opens.MODELS,)), bytes(36), 0.0)
    ring = FakeKeyring()
    ring.add(key)
    client = play(nothing, gate=Gate(ring), token=token)
    assert [kind for kind, _ in events(client)] == ["modelStatus", "profileChanged"]
