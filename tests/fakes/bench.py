"""A gateway between a fake host and a fake upstream."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from bercail.core.options import ServerOptions
from bercail.web.app import App
from fakes.client import Client
from fakes.host import FakeHost
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted


@dataclass(slots=True)
class Bench:
    """A gateway between a fake host and a fake upstream."""

    host: FakeHost = field(default_factory=FakeHost)
    upstream: FakeUpstream = field(default_factory=lambda: FakeUpstream(answer("hi")))
    options: ServerOptions = field(default_factory=lambda: ServerOptions(body_limit=2048))
    app: App = field(init=False)

    def __post_init__(self) -> None:
        self.app = App(self.host, self.upstream, self.options, lambda: 0.0)

    def client(self) -> Client:
        return Client(self.app)

    def play(self, scene: Callable[["Bench"], Coroutine[None, None, None]]) -> None:
        """Run a scene; afterwards no lease, no task and no request is left."""
        run(lambda: scene(self))
        assert self.host.out == 0
        assert self.host.waiting == 0
        assert not self.app.turns
        assert (self.app.metrics.running.total(), self.app.metrics.queued.total()) == (0, 0)

    def post(self, path: str, body: object) -> Client:
        client = self.client()

        async def scene(_: "Bench") -> None:
            await client.post(path, body)

        self.play(scene)
        return client

    def get(self, path: str, method: str = "GET") -> Client:
        client = self.client()

        async def scene(_: "Bench") -> None:
            await client.get(path, method)

        self.play(scene)
        return client


def answer(words: str) -> Scripted:
    """A chat's stream that says them."""
    chunks = [
        {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": words}}], "id": "c", "model": "tiny"},
        {"choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]},
        {"choices": [], "usage": {"total_tokens": 3}, "timings": {"prompt_n": 2, "predicted_n": 1}},
    ]
    pieces = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return Scripted(pieces=[*pieces, b"data: [DONE]\n\n"])
