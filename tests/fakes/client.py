"""A client at the ASGI end of the gateway."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Client:
    """Sends one request and keeps what came back, with the moment it came."""

    def __init__(self, app: App, *, takes: Callable[[bytes], bool] | None = None) -> None:
        """Make it.

        Args:
            app: what it talks to.
            takes: whether it takes a piece that is written without a task that waits; None if nothing can be.
        """
        self._app = app
        self._takes = takes
        self.pushed: list[bytes] = []
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[float, bytes]] = []
        self.started_s: float | None = None
        self.complete = False
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        """The data of each event; comments as they are."""
        return [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part]

    def leave(self) -> None:
        """Close the connection."""
        self.gone.set()

    async def _receive(self) -> Message:
        if not self._requests.empty():
            return self._requests.get_nowait()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.gone.is_set():
            return
        assert not self.complete, "nothing may follow the end of an answer"
        if message["type"] == "http.response.start":
            assert self.started_s is None, "headers twice"
            self.started_s = now_s
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert self.started_s is not None, "a body before its headers"
        if message["body"]:
            self.pieces.append((now_s, message["body"]))
        if not message.get("more_body"):
            self.complete = True

    def start(
        self, path: str, *bodies: bytes, method: str = "POST", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> "Client":
        """Send the request; the answer comes while the test waits."""
        for index, body in enumerate(bodies):
            self._requests.put_nowait({"type": "http.request", "body": body, "more_body": index < len(bodies) - 1})
        raw, _, query = path.partition("?")
        scope: dict[str, object] = {
            "type": "http", "method": method, "path": unquote(raw), "raw_path": raw.encode("latin-1"),
            "query_string": query.encode("latin-1"), "headers": list(headers),
        }  # fmt: skip
        if self._takes is not None:
            scope["push"] = self._push
        self.task = asyncio.get_running_loop().create_task(self._run(scope))
        return self

    def _push(self, body: bytes) -> bool:
        assert self._takes is not None
        assert not self.complete, "nothing may follow the end of an answer"
        if self.gone.is_set() or not self._takes(body):
            return False
        assert self.started_s is not None, "a body before its headers"
        self.pieces.append((asyncio.get_running_loop().time(), body))
        self.pushed.append(body)
        return True

    async def _run(self, scope: dict[str, object]) -> None:
        await self._app(scope, self._receive, self._send)
        self.gone.set()

    async def end(self) -> "Client":
        """The application has returned."""
        assert self.task is not None
        await self.task
        return self

    async def post(self, path: str, body: object) -> "Client":
        """A whole exchange."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.start(path, data).end()

    async def get(self, path: str, method: str = "GET") -> "Client":
        """A whole exchange without a body."""
        return await self.start(path, b"", method=method).end()
