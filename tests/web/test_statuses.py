"""What becomes of models, told to who follows it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from bercail.core.options import ServerOptions
from bercail.core.route import Phase
from bercail.web.app import App
from bercail.web.dialects.statuses import EVERY_S
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

Story = Callable[[App, FakeHost, Client], Coroutine[None, None, None]]


def play(story: Story) -> Client:
    host = FakeHost(known=[served("a", phase=Phase.UNLOADED)])
    app = App(host, FakeUpstream(Scripted()), ServerOptions(keep_alive=15.0), lambda: 0.0)
    client = Client(app)

    async def scene() -> None:
        client.start("/models/sse", b"", method="GET")
        await asyncio.sleep(EVERY_S / 2)
        await story(app, host, client)
        await client.end()

    run(scene)
    return client


def events(client: Client) -> list[Any]:
    return [json.loads(event) for event in client.events if not event.startswith(":")]


def test_where_models_stand_is_told_at_once_and_then_each_change() -> None:
    async def story(app: App, host: FakeHost, client: Client) -> None:
        for known in (
            [served("a", phase=Phase.LOADING, progress=0.5)],
            [served("a")],
            [served("a")],
            [served("a"), served("b", phase=Phase.FAILED)],
        ):
            host.known = known
            await asyncio.sleep(EVERY_S)
        app.stopping = True
        await asyncio.sleep(EVERY_S)

    client = play(story)
    assert client.headers["content-type"] == "text/event-stream"
    status = "model_status"
    assert events(client) == [
        {"model": "a", "event": status, "data": {"status": "unloaded"}},
        {"model": "a", "event": status, "data": {"status": "loading", "progress": {"value": 0.5}}},
        {"model": "a", "event": status, "data": {"status": "loaded"}},
        {"model": "", "event": "models_reload", "data": {}},
        {"model": "b", "event": status, "data": {"status": "failed"}},
    ]
    assert client.complete


def test_silence_is_broken_by_comments() -> None:
    async def story(app: App, host: FakeHost, client: Client) -> None:
        await asyncio.sleep(32)
        app.stopping = True
        await asyncio.sleep(EVERY_S)

    assert [event for event in play(story).events if event.startswith(":")] == [": ping", ": ping"]


def test_a_follower_who_leaves_is_let_go_of() -> None:
    async def story(app: App, host: FakeHost, client: Client) -> None:
        client.leave()
        await asyncio.sleep(2 * EVERY_S)
        assert not app.turns

    play(story)
