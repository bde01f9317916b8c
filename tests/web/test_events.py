"""What happens is told to who follows, in llama-swap's words."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from bercail.core.access import KeyWish, mint
from bercail.core.access import Scope as Opens
from bercail.core.activity import Entry
from bercail.core.configuration import Profile, Profiles
from bercail.core.log import OURS
from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.store import MemoryLog
from bercail.web.app import App
from bercail.web.dialects.statuses import EVERY_S
from bercail.web.gate import Gate
from fakes.bench import answer
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.house import FakeKeyring, FakeLedger
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

ENTRY = Entry(ended_s=0.0, endpoint="chat/completions", model="a", key_id="", status=200)
Story = Callable[[FakeHost, MemoryLog], Coroutine[None, None, None]]


def play(story: Story, *, gate: Gate | None = None, token: str = "") -> Client:
    host, log = FakeHost(known=[served("a", phase=Phase.UNLOADED, aliases=("x",))]), MemoryLog()
    return follow(App(host, FakeUpstream(Scripted()), ServerOptions(), lambda: 0.0, gate), story, host, log, token)


def follow(app: App, story: Story, host: FakeHost, log: MemoryLog, token: str = "") -> Client:
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
        ("uiConfig", {"activity": {"session_id": ["X-Session-ID", "X-Litellm-Session-Id"]}}),
        ("profileChanged", {"active": None}),
        ("inflight", {"operation": "snapshot", "requests": []}),
    ]
    assert client.complete


def test_then_each_change_and_nothing_twice() -> None:
    async def story(host: FakeHost, log: MemoryLog) -> None:
        host.known = [served("a", aliases=("x",))]
        await asyncio.sleep(EVERY_S)
        log.add("a", "ready")
        await asyncio.sleep(EVERY_S)
        host.others = Profiles(known=(Profile(id="p", line=1, pins={}),), active="p")

    assert events(play(story))[6:] == [
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
    assert [kind for kind, _ in events(client)] == ["modelStatus", "uiConfig", "profileChanged"]


def test_requests_are_told_when_they_come_go_on_and_end() -> None:
    host, log, wall = FakeHost(known=[served("a", aliases=("x",))]), MemoryLog(), [1_800_000_000.0]
    done, chunk = asyncio.Event(), answer("hi").pieces
    upstream = FakeUpstream(Scripted(pieces=[chunk[0], done, *chunk[1:]]))
    app = App(host, upstream, ServerOptions(), lambda: 0.0, Gate(wall=lambda: wall[0]))

    async def story(host: FakeHost, log: MemoryLog) -> None:
        client, headers = Client(app), ((b"authorization", b"Bearer any"), (b"x-session-id", b"s"))
        client.start("/v1/chat/completions", b'{"stream":true,"messages":[]}', headers=headers)
        await asyncio.sleep(EVERY_S)
        wall[0] += 2
        await asyncio.sleep(2 * EVERY_S)
        done.set()
        await client.end()

    told = [data for kind, data in events(follow(app, story, host, log)) if kind == "inflight"]
    assert [data["operation"] for data in told] == ["snapshot", "upsert", "remove"], "time alone is not told again"
    request = told[1]["request"]
    assert request.pop("resp_headers")["content-type"] == "text/event-stream"
    assert request.pop("resp_bytes") > 0
    assert request == {
        "id": "2", "timestamp": "2027-01-15T08:00:00.000Z", "model": "a", "req_path": "/v1/chat/completions",
        "method": "POST", "req_headers": {"authorization": "[REDACTED]", "x-session-id": "[REDACTED]"},
        "remote_ip": "", "elapsed_ms": 0, "metadata": {"session": "s"},
    }  # fmt: skip
    assert told[2]["id"] == "2"


def test_that_requests_were_recorded_is_told_with_the_number_of_the_latest() -> None:
    host, log, ledger = FakeHost(known=[served("a")]), MemoryLog(), FakeLedger()
    ledger.open()
    ledger.note(ENTRY)
    app = App(host, FakeUpstream(Scripted()), ServerOptions(), lambda: 0.0, Gate(ledger=ledger))

    async def story(host: FakeHost, log: MemoryLog) -> None:
        ledger.note(ENTRY)
        ledger.note(replace(ENTRY, status=500))
        await asyncio.sleep(EVERY_S)
        ledger.close()

    told = events(follow(app, story, host, log))
    assert [data for kind, data in told if kind == "activity"] == [{"id": 3}]
