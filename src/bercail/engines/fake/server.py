"""The fake engine's HTTP server, as light as it can be made: benchmarks measure others by it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol, cast

import httptools
import msgspec

from bercail.core.launch import Address
from bercail.core.units import Bytes, Tokens
from bercail.engines.fake import answers
from bercail.engines.fake.answers import Behaviour, Failure


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request that came in; times are of the monotonic clock.

    Attributes:
        began_s: when its head had come.
        ended_s: when the answer had been written, or None.
        left_s: when its client was seen to leave before that, or None.
    """

    path: str
    body_bytes: Bytes
    began_s: float
    ended_s: float | None = None
    left_s: float | None = None


class FakeServer:
    """Serves the HTTP interface in the running loop."""

    def __init__(
        self, *, model_id: str = "fake", behaviour: Behaviour | None = None, context_tokens: Tokens = 4096
    ) -> None:
        self.model_id = model_id
        self.behaviour = behaviour or Behaviour()
        self.context_tokens = context_tokens
        self.visits: list[Visit] = []
        self.connections: set[_Door] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, address: Address) -> Address:
        """Serve at ``address``; where it does, with the port that was free if 0 was asked for."""
        loop = asyncio.get_running_loop()
        if address.unix_path is not None:
            self._server = await loop.create_unix_server(self.protocol, address.unix_path, backlog=512)
            return address
        self._server = await loop.create_server(self.protocol, address.host, address.port, backlog=512)
        return Address(host=address.host, port=self._server.sockets[0].getsockname()[1])

    def protocol(self) -> asyncio.Protocol:
        """The protocol of one more connection, for a listening socket made elsewhere."""
        return _Door(self)

    async def close(self) -> None:
        """Stop serving; what is open is cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for door in tuple(self.connections):
            door.cut()
        await asyncio.sleep(0)

    def plan(self, question: answers.Question) -> Behaviour:
        """What this request meets."""
        behaviour = self.behaviour
        if question.fake:
            knobs = {**msgspec.structs.asdict(behaviour), **question.fake}
            behaviour = msgspec.convert(knobs, Behaviour)
        asked = question.max_completion_tokens or question.max_tokens
        return behaviour if asked is None else msgspec.structs.replace(behaviour, tokens=asked)


class _Parser(Protocol):
    """The part of ``httptools.HttpRequestParser`` that is used; the library ships no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_method(self) -> bytes: ...
    def should_keep_alive(self) -> bool: ...


class _Door(asyncio.Protocol):
    """One client connection, one request at a time."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._parser: _Parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._visit: Visit | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def cut(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the class
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(
                answers.response(400, answers.refuse(400, "not HTTP", "invalid_request_error"), close=True)
            )
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._visit is not None and self._visit.ended_s is None:
            self._visit.left_s = time.monotonic()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_headers_complete(self) -> None:
        self._body = []

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        visit = Visit(path=self._url.decode("latin-1"), body_bytes=len(body), began_s=time.monotonic())
        self._visit = visit
        if visit.path != "/fake/journal":
            self._server.visits.append(visit)
        route = answers.KINDS.get(visit.path)
        if route is None:
            self._say(*self._read(visit.path, body))
            return
        try:
            question = answers.QUESTION.decode(body)
            behaviour = self._server.plan(question)
        except (msgspec.MsgspecError, ValueError) as error:
            self._say(400, answers.refuse(400, f"parse error: {error}", "invalid_request_error"))
            return
        if lacking := question.unsupported:
            self._say(400, answers.refuse(400, f"the fake engine has no {lacking}", "invalid_request_error"))
            return
        self._generate(route, question, behaviour)

    def _read(self, path: str, body: bytes) -> tuple[int, bytes]:
        server = self._server
        if path in ("/health", "/v1/health"):
            return 200, b'{"status":"ok"}'
        if path in ("/v1/models", "/models"):
            return 200, answers.models(server.model_id, server.context_tokens)
        if path == "/v1/embeddings":
            return answers.embeddings(server.model_id, server.context_tokens, body)
        if path == "/fake/journal":
            return 200, msgspec.json.encode(server.visits)
        return 404, answers.refuse(404, "File Not Found", "not_found_error")

    def _say(self, status: int, body: bytes) -> None:
        keep = self._parser.should_keep_alive() and status == 200
        self._transport.write(answers.response(status, body, close=not keep))
        self._finish(keep=keep)

    def _finish(self, *, keep: bool = True) -> None:
        if self._visit is not None:
            self._visit.ended_s = time.monotonic()
        if not keep:
            self._transport.close()

    def _generate(self, kind: "answers.Kind", question: answers.Question, behaviour: Behaviour) -> None:
        prompt_tokens = max(len(question.messages), len(question.prompt)) // answers.BYTES_PER_TOKEN + 1
        context = self._server.context_tokens
        if behaviour.fail is Failure.ERROR:
            self._say(500, answers.refuse(500, "the fake engine was asked to fail", "server_error"))
        elif behaviour.fail is Failure.CONTEXT or prompt_tokens > context:
            self._say(400, answers.too_long(max(prompt_tokens, context + 1), context))
        elif behaviour.fail is not Failure.HANG:
            answer = answers.Answer(kind, self._server.model_id, question, behaviour, prompt_tokens)
            if not (behaviour.delay_s or behaviour.prefill_s or behaviour.fail):
                self._transport.write(answer.whole())
                self._finish(keep=self._parser.should_keep_alive())
            else:
                self._task = asyncio.get_running_loop().create_task(self._pace(answer, behaviour))

    async def _pace(self, answer: "answers.Answer", behaviour: Behaviour) -> None:
        for step in range(behaviour.prefill_steps):
            self._transport.write(answer.progress(step))
            await asyncio.sleep(behaviour.prefill_s / behaviour.prefill_steps)
        self._transport.write(answer.opening())
        for index in range(behaviour.tokens):
            if behaviour.fail is Failure.DIE and index == max(behaviour.tokens // 2, 1):
                self.cut()
                return
            await self._writable.wait()
            self._transport.write(answer.token(index))
            if behaviour.delay_s:
                await asyncio.sleep(behaviour.delay_s)
        self._transport.write(answer.closing())
        self._task = None
        self._finish(keep=self._parser.should_keep_alive())
