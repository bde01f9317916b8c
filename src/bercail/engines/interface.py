"""The HTTP interface of ``llama-server`` for a library that generates in this process; our own workers serve it.

Served are chats, completions, the list of models and health, in the shapes of llama.cpp b11549, so that the gateway and
clients meet one kind of engine. What a library cannot do is refused with its name, never left out in silence.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import msgspec

from bercail.core.units import Seconds, Tokens
from bercail.engines.stopping import Tail

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class StreamOptions(msgspec.Struct):
    """What the end of a stream tells."""

    include_usage: bool = False


class Format(msgspec.Struct):
    """What an answer must look like."""

    type: str = "text"
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None


class Question(msgspec.Struct):
    """A request; the defaults are those of llama.cpp."""

    model: str = ""
    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] = ""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    ignore_eos: bool = False
    response_format: Format | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool = False
    n: int = 1
    logprobs: int | bool | None = None
    tools: list[Any] | None = None
    grammar: str | None = None
    logit_bias: Any = None

    @property
    def most_tokens(self) -> Tokens | None:
        """To generate at most, or None."""
        asked = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        return next((count for count in asked if count is not None and count >= 0), None)

    @property
    def least_p(self) -> float:
        """``min_p``, or what llama.cpp takes if nothing is said."""
        return 0.05 if self.min_p is None else self.min_p

    @property
    def stops(self) -> tuple[str, ...]:
        """Where the answer ends."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in found if text)

    @property
    def schema(self) -> str | None:
        """JSON schema of the answer, as text; None if it may be anything."""
        form = self.response_format
        if form is None or form.type == "text":
            return None
        found = form.schema or (form.json_schema or {}).get("schema") or {"type": "object"}
        return json.dumps(found)

    def asks_for(self) -> frozenset[str]:
        """What not every library can do."""
        wants = {
            "logprobs": self.logprobs, "tools": self.tools, "grammar": self.grammar, "logit_bias": self.logit_bias,
            "n": self.n > 1, "response_format": self.schema, "min_p": self.min_p,
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
        }  # fmt: skip
        return frozenset(name for name, value in wants.items() if value)


class Library(Protocol):
    """What generates.

    Attributes:
        name: for people.
        context_tokens: prompt and answer of one request at most.
        lacks: names of what ``Question.asks_for`` that it cannot do.
    """

    name: str
    context_tokens: Tokens
    lacks: frozenset[str]

    def chat_ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation, by the model's template, with the beginning of the answer.

        Raises:
            ValueError: the template refuses it.
        """
        ...

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of token ids; what is not a whole character yet ends in U+FFFD."""
        ...

    def begin(
        self, ids: Sequence[int], most: Tokens, question: Question, hear: Callable[[list[int], str | None], None]
    ) -> Callable[[], None]:
        """Generate at most ``most`` tokens after ``ids``; what ends it early is given back.

        ``hear`` gets new token ids as they come, and the reason with the last ones: ``stop``, ``length``, or what went
        wrong after ``FAILED``. It may be called from any thread.
        """
        ...

    def reused(self, ids: Sequence[int]) -> Tokens:
        """Of the prompt ``ids``, how many tokens need not be computed, as far as is known."""
        ...


FAILED = "failed: "
"""Begins the reason of an answer that the library could not finish."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": status, "message": message, "type": kind, **more}}


class Interface:
    """An ASGI application around a library."""

    def __init__(self, library: Library, model_id: str) -> None:
        self._library = library
        self._model_id = model_id
        self._numbers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(str(scope["method"]), str(scope["path"]), receive, send)
        except RefusedError as refused:
            await _answer(send, refused.status, refused.body)

    async def _route(self, method: str, path: str, receive: Receive, send: Send) -> None:
        kind = _KINDS.get(path)
        if kind is not None and method == "POST":
            await self._generate(kind, await _read(receive), receive, send)
        elif path in ("/health", "/v1/health"):
            await _answer(send, 200, {"status": "ok"})
        elif path in ("/v1/models", "/models"):
            meta = {"n_ctx": self._library.context_tokens, "lacks": sorted(self._library.lacks)}
            model = {"id": self._model_id, "object": "model", "owned_by": self._library.name, "meta": meta}
            await _answer(send, 200, {"object": "list", "data": [model]})
        elif path in ("/v1/embeddings", "/embeddings"):
            raise RefusedError(
                501, f"{self._library.name} was started to generate, not to embed", "not_supported_error"
            )
        else:
            raise RefusedError(404, "File Not Found", "not_found_error")

    async def _generate(self, kind: "_Kind", body: bytes, receive: Receive, send: Send) -> None:
        try:
            question = msgspec.json.decode(body, type=Question)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RefusedError(400, f"parse error: {error}") from error
        if lacking := sorted(question.asks_for() & self._library.lacks):
            raise RefusedError(400, f"{self._library.name} has no {', '.join(lacking)}", "not_supported_error")
        ids = await asyncio.to_thread(self._ids, question)
        context = self._library.context_tokens
        if len(ids) >= context:
            what = f"request ({len(ids)} tokens) exceeds the available context size ({context} tokens)"
            raise RefusedError(
                400, f"{what}, try increasing it", "exceed_context_size_error", n_prompt_tokens=len(ids), n_ctx=context
            )
        self._numbers += 1
        turn = _Turn(self._library, question, ids, min(question.most_tokens or context, context - len(ids)))
        reply = _Reply(kind, question, f"{kind.prefix}{self._numbers}", self._model_id)
        leaving = asyncio.create_task(_left(receive))
        working = asyncio.create_task(_reply(turn, reply, question, send))
        try:
            await asyncio.wait((leaving, working), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        finally:
            turn.cancel()
            leaving.cancel()

    def _ids(self, question: Question) -> list[int]:
        try:
            if question.messages is not None:
                return self._library.chat_ids(question.messages)
            return question.prompt if isinstance(question.prompt, list) else self._library.text_ids(question.prompt)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error


class _Turn:
    """One answer as it is generated."""

    def __init__(self, library: Library, question: Question, ids: list[int], most: Tokens) -> None:
        self.prompt_tokens = len(ids)
        self.reused = library.reused(ids)
        self.generated: list[int] = []
        self.finish = "length"
        self.prefill_s: Seconds = 0.0
        self.decode_s: Seconds = 0.0
        self._library = library
        self._tail = Tail(question.stops)
        self._pieces: asyncio.Queue[tuple[list[int], str | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hear(new: list[int], finish: str | None) -> None:
            loop.call_soon_threadsafe(self._pieces.put_nowait, (new, finish))

        self._begun_s = time.monotonic()
        self.cancel = library.begin(ids, most, question, hear)

    async def texts(self) -> AsyncIterator[str]:
        """Pieces of text as they become certain; what a stop string may begin with waits."""
        known = start = 0
        first_s = 0.0
        finish: str | None = None
        while finish is None:
            new, finish = await self._pieces.get()
            if finish is not None and finish.startswith(FAILED):
                raise RefusedError(500, f"the engine {finish}", "server_error")
            now_s = time.monotonic()
            first_s = first_s or now_s
            self.prefill_s, self.decode_s = first_s - self._begun_s, now_s - first_s
            self.generated += new
            # Only the last words are decoded anew: some of them may not be whole characters yet.
            before, text = (self._library.text_of(self.generated[start:end]) for end in (known, None))
            if finish is None and text.endswith("\N{REPLACEMENT CHARACTER}"):
                continue
            start, known = known, len(self.generated)
            piece, stopped = self._tail.feed(text[len(before) :])
            if piece:
                yield piece
            if stopped:
                self.cancel()
                finish = "stop"
        self.finish = finish
        if rest := self._tail.end():
            yield rest


class _Kind:
    """Chat or completion: what differs in the JSON."""

    def __init__(self, prefix: str, whole: str, chunk: str, *, chat: bool, native: bool = False) -> None:
        self.prefix, self.whole, self.chunk, self.chat, self.native = prefix, whole, chunk, chat, native


_CHAT = _Kind("chatcmpl-", "chat.completion", "chat.completion.chunk", chat=True)
_PLAIN = _Kind("cmpl-", "text_completion", "text_completion", chat=False)
_NATIVE = _Kind("cmpl-", "text_completion", "text_completion", chat=False, native=True)
_KINDS = {
    "/v1/chat/completions": _CHAT, "/chat/completions": _CHAT, "/v1/completions": _PLAIN, "/completion": _NATIVE,
}  # fmt: skip


_DELTA = {"role": "assistant", "content": None}


class _Reply:
    """The JSON of one answer."""

    def __init__(self, kind: _Kind, question: Question, identity: str, model_id: str) -> None:
        self.kind = kind
        self._question = question
        self._head = {"id": identity, "created": int(time.time()), "model": model_id}

    def chunk(self, text: str | None, finish: str | None = None, **more: object) -> bytes:
        """A piece of a stream; None is the beginning of a chat."""
        choice: dict[str, object] = {"index": 0, "finish_reason": finish}
        if self.kind.chat:
            choice["delta"] = (
                {"role": "assistant", "content": None} if text is None else {"content": text} if text else {}
            )
        else:
            choice["text"] = text or ""
        return _event({**self._head, "object": self.kind.chunk, "choices": [choice], **more})

    def progress(self, turn: _Turn, processed: Tokens) -> bytes:
        """How far the prompt has been read."""
        told = {"total": turn.prompt_tokens, "cache": turn.reused, "processed": processed,
                "time_ms": round(turn.prefill_s * 1000)}  # fmt: skip
        return self.chunk(None if self.kind.chat else "", prompt_progress=told)

    def end(self, turn: _Turn) -> bytes:
        """The last events of a stream."""
        events = self.chunk("", turn.finish)
        options = self._question.stream_options
        if options is not None and options.include_usage:
            events += _event({**self._head, "object": self.kind.chunk, "choices": [], **_counts(turn)})
        return events + b"data: [DONE]\n\n"

    def whole(self, turn: _Turn, text: str) -> dict[str, object]:
        """An answer at once."""
        if self.kind.native:
            return {"content": text, "stop": True, "tokens_predicted": len(turn.generated),
                    "tokens_evaluated": turn.prompt_tokens, **_counts(turn)}  # fmt: skip
        choice: dict[str, object] = {"index": 0, "finish_reason": turn.finish}
        if self.kind.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice.update(text=text, logprobs=None)
        return {**self._head, "object": self.kind.whole, "choices": [choice], **_counts(turn)}


async def _reply(turn: _Turn, reply: _Reply, question: Question, send: Send) -> None:
    if not question.stream:
        text = "".join([piece async for piece in turn.texts()])
        await _answer(send, 200, reply.whole(turn, text))
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

    async def write(events: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": events, "more_body": more})

    if question.return_progress:
        await write(reply.progress(turn, turn.reused))
    try:
        await _pour(turn, reply, question, write)
    except RefusedError as failed:
        await write(_event(failed.body), more=False)
        return
    await write(reply.end(turn), more=False)


async def _pour(turn: _Turn, reply: _Reply, question: Question, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Every piece of an answer as it comes."""
    begun = False
    async for piece in turn.texts():
        if not begun:
            begun = True
            if question.return_progress:
                await write(reply.progress(turn, turn.prompt_tokens))
            if reply.kind.chat:
                await write(reply.chunk(None))
        await write(reply.chunk(piece))


def _counts(turn: _Turn) -> dict[str, object]:
    prompt, count = turn.prompt_tokens, len(turn.generated)
    worked = max(prompt - turn.reused, 1)
    prefill_ms, decode_ms = max(turn.prefill_s * 1000, 1e-3), max(turn.decode_s * 1000, 1e-3)
    return {
        "usage": {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count,
                  "prompt_tokens_details": {"cached_tokens": turn.reused}},
        "timings": {"cache_n": turn.reused, "prompt_n": worked, "prompt_ms": prefill_ms,
                    "prompt_per_second": worked * 1000 / prefill_ms, "predicted_n": count, "predicted_ms": decode_ms,
                    "predicted_per_second": count * 1000 / decode_ms},
    }  # fmt: skip


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body"):
            return body


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, body: object) -> None:
    content = msgspec.json.encode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _event(value: object) -> bytes:
    return b"data: %s\n\n" % msgspec.json.encode(value)
