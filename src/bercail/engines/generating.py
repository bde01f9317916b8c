"""Chats and completions over HTTP, in the shapes of llama.cpp b11549, from a library that generates in this process."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from bercail.core.units import Seconds, Tokens
from bercail.engines.exchange import FAILED, Receive, RefusedError, Send, answer, event, read_body, until_left
from bercail.engines.question import Question
from bercail.engines.stopping import Tail


class Hears(Protocol):
    """Who waits for an answer. It may be told from any thread."""

    def begun(self, reused: Tokens) -> None:
        """The prompt is worked on from now on, but for ``reused`` tokens that need not be computed."""
        ...

    def heard(self, new: list[int], finish: str | None) -> None:
        """New token ids; with the last ones why: ``stop``, ``length``, or what went wrong after ``FAILED``.

        After the last ones whoever asks again finds what this answer has left behind in the cache.
        """
        ...


class Generates(Protocol):
    """A library that generates.

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

    def text_ids(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text; with ``special`` those that the model wants before and after every text, too."""
        ...

    def text_of(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids; what is not a whole character yet ends in U+FFFD.

        With ``special`` tokens that mark something, such as the beginning of a turn, are written out.
        """
        ...

    def begin(self, ids: Sequence[int], most: Tokens, question: Question, hearer: Hears) -> Callable[[], None]:
        """Generate at most ``most`` tokens after ``ids``; what ends it early is given back."""
        ...


async def generate(library: Generates, names: tuple[str, str], kind: "Kind", receive: Receive, send: Send) -> None:
    """Answer a question.

    Args:
        library: what generates.
        names: of the answer and of the model.
        kind: chat or completion.
        receive: where the request comes from.
        send: where the answer goes.

    Raises:
        RefusedError: it cannot be answered.
    """
    question = understood(library, await read_body(receive))
    ids = await asyncio.to_thread(ids_of, library, question)
    context = library.context_tokens
    if len(ids) >= context:
        raise RefusedError.too_long(len(ids), context)
    turn = _Turn(library, question, ids, min(question.most_tokens or context, context - len(ids)))
    reply = _Reply(kind, question, *names)
    await until_left(receive, _reply(turn, reply, question, send), turn.cancel)


def understood(library: Generates, body: bytes) -> Question:
    """A question.

    Raises:
        RefusedError: it is none, or asks for what the library cannot do.
    """
    try:
        question = msgspec.json.decode(body, type=Question)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"parse error: {error}") from error
    if lacking := sorted(question.asks_for() & library.lacks):
        raise RefusedError(400, f"{library.name} has no {', '.join(lacking)}", "not_supported_error")
    return question


def ids_of(library: Generates, question: Question) -> list[int]:
    """The token ids of a question's prompt.

    Raises:
        RefusedError: the template refuses its messages, or they hold more than text.
    """
    try:
        if question.messages is not None:
            return library.chat_ids([_plain(message, library.name) for message in question.messages])
        return question.prompt if isinstance(question.prompt, list) else library.text_ids(question.prompt)
    except ValueError as error:
        raise RefusedError(400, str(error)) from error


def _plain(message: dict[str, Any], name: str) -> dict[str, Any]:
    """A message whose content is a text: several parts become lines of it, as in llama.cpp."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    lines = [text for text in texts if isinstance(text, str)]
    if len(lines) < len(parts):
        raise RefusedError(400, f"{name} reads text alone: a part of a message is something else")
    return message | {"content": "\n".join(lines)}


class _Turn:
    """One answer as it is generated."""

    def __init__(self, library: Generates, question: Question, ids: list[int], most: Tokens) -> None:
        self.prompt_tokens = len(ids)
        self.reused: Tokens = 0
        self.generated: list[int] = []
        self.finish = "length"
        self.stopping_word = ""
        self.prefill_s: Seconds = 0.0
        self.decode_s: Seconds = 0.0
        self._library = library
        self._tail = Tail(question.stops)
        self._pieces: asyncio.Queue[tuple[list[int], str | None]] = asyncio.Queue()
        self._seated = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun_s = time.monotonic()
        self.cancel = library.begin(ids, most, question, self)

    def begun(self, reused: Tokens) -> None:
        """See ``Hears``: the time in a line before it is not the prompt's."""
        self.reused, self._begun_s = reused, time.monotonic()
        self._loop.call_soon_threadsafe(self._seated.set)

    def heard(self, new: list[int], finish: str | None) -> None:
        """See ``Hears``."""
        self._loop.call_soon_threadsafe(self._hear, new, finish)

    def _hear(self, new: list[int], finish: str | None) -> None:
        self._seated.set()
        self._pieces.put_nowait((new, finish))

    async def seated(self) -> None:
        """Wait until it is worked on, or is over before that."""
        await self._seated.wait()

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
                finish, self.stopping_word = "stop", self._tail.word
        self.finish = finish
        if rest := self._tail.end():
            yield rest


class Kind:
    """Chat or completion: what differs in the JSON."""

    def __init__(self, prefix: str, whole: str, chunk: str, *, chat: bool, native: bool = False) -> None:
        self.prefix, self.whole, self.chunk, self.chat, self.native = prefix, whole, chunk, chat, native


_CHAT = Kind("chatcmpl-", "chat.completion", "chat.completion.chunk", chat=True)
_PLAIN = Kind("cmpl-", "text_completion", "text_completion", chat=False)
_NATIVE = Kind("cmpl-", "text_completion", "text_completion", chat=False, native=True)
KINDS = {
    "/v1/chat/completions": _CHAT, "/chat/completions": _CHAT, "/v1/completions": _PLAIN, "/completion": _NATIVE,
}  # fmt: skip
"""By the paths of their requests."""


class _Reply:
    """The JSON of one answer."""

    def __init__(self, kind: Kind, question: Question, identity: str, model_id: str) -> None:
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
        return event({**self._head, "object": self.kind.chunk, "choices": [choice], **more})

    def progress(self, turn: _Turn, processed: Tokens) -> bytes:
        """How far the prompt has been read."""
        told = {"total": turn.prompt_tokens, "cache": turn.reused, "processed": processed,
                "time_ms": round(turn.prefill_s * 1000)}  # fmt: skip
        return self.chunk(None if self.kind.chat else "", prompt_progress=told)

    def end(self, turn: _Turn) -> bytes:
        """The last events of a stream."""
        events = self.chunk("", turn.finish, **self._told(turn))
        options = self._question.stream_options
        if options is not None and options.include_usage:
            events += event({**self._head, "object": self.kind.chunk, "choices": [], **_counts(turn)})
        return events + b"data: [DONE]\n\n"

    def whole(self, turn: _Turn, text: str) -> dict[str, object]:
        """An answer at once."""
        if self.kind.native:
            return {"content": text, "stop": True, "tokens_predicted": len(turn.generated),
                    "tokens_evaluated": turn.prompt_tokens, "stopping_word": turn.stopping_word,
                    **_counts(turn)}  # fmt: skip
        choice: dict[str, object] = {"index": 0, "finish_reason": turn.finish}
        if self.kind.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice.update(text=text, logprobs=None)
        return {**self._head, "object": self.kind.whole, "choices": [choice], **_counts(turn), **self._told(turn)}

    def _told(self, turn: _Turn) -> dict[str, object]:
        """What is told to who wants to know more; of what llama.cpp tells there, the text that ended the answer."""
        return {"__verbose": {"stopping_word": turn.stopping_word}} if self._question.verbose else {}


async def _reply(turn: _Turn, reply: _Reply, question: Question, send: Send) -> None:
    if not question.stream:
        text = "".join([piece async for piece in turn.texts()])
        await answer(send, 200, reply.whole(turn, text))
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

    async def write(events: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": events, "more_body": more})

    if question.return_progress:
        await turn.seated()
        await write(reply.progress(turn, turn.reused))
    try:
        await _pour(turn, reply, question, write)
    except RefusedError as failed:
        await write(event(failed.body), more=False)
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
