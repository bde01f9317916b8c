"""A prompt that the engine found too long, made shorter where a policy asks for it; the engine counts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import DecodeError, json

from bercail.core.chat import ApiError, Json
from bercail.core.overflow import Overflow
from bercail.core.trimming import CONVERSATIONS, TEXTS, Conversations, Trimmed, cut, droppable, note, room, without
from bercail.core.units import Tokens
from bercail.ports import Lease, Upstream
from bercail.web.asgi import Headers
from bercail.web.asking import tokens_of, told
from bercail.web.errors import ReplyError

HEADER = b"x-bercail-trimmed"
"""Header of how much of a request was left out."""

_TRIES = 4
"""A text cut by tokens may have other tokens where its parts meet, so it is counted again."""
_MARKS = (b'"usage"', b'"stop":true', b'"done":true')


def is_overflow(error: ApiError) -> bool:
    """Whether the engine found a prompt too long, and told both numbers."""
    counts = (error.extra.get("n_prompt_tokens"), error.extra.get("n_ctx"))
    return error.code == "context_length_exceeded" and all(isinstance(count, int) for count in counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmer:
    """Makes one request shorter.

    Attributes:
        target: its path at the engine.
        error: what the engine said of it.
    """

    upstream: Upstream
    lease: Lease
    target: str
    policy: Overflow
    error: ApiError

    async def trim(self, payload: bytes) -> tuple[bytes, Trimmed]:
        """The request as it fits, and how much of it was left out.

        Raises:
            ReplyError: it cannot be made to fit, or not honestly; says why.
        """
        body = json.decode(payload)
        if place := CONVERSATIONS.get(self.target):
            if isinstance(items := body.get(place.member), list):
                return await self._messages(body, place, items)
            raise self._refused("what it holds is no list of messages")
        if self.target in TEXTS:
            return await self._text(body)
        raise self._refused(f"requests to {self.target} are not trimmed")

    @property
    def _counts(self) -> tuple[Tokens, Tokens]:
        asked, context = self.error.extra["n_prompt_tokens"], self.error.extra["n_ctx"]
        return (asked, context) if isinstance(asked, int) and isinstance(context, int) else (0, 0)

    async def _messages(self, body: Json, place: Conversations, items: list[Any]) -> tuple[bytes, Trimmed]:
        asked, context = self._counts
        parts = droppable(items, self.policy)

        def shorter(gone: int) -> bytes:
            return json.encode(body | {place.member: without(items, parts[:gone])})

        async def count(gone: int) -> Tokens:
            answer = await self._ask(place.counter, shorter(gone))
            return self._number(answer.get("input_tokens"))

        gone, tokens = await _fewest(len(parts), room(body, context), count) if parts else (0, asked)
        if tokens >= context:
            raise self._refused(f"what may not be left out takes {tokens} tokens alone")
        messages = sum(len(part) for part in parts[:gone])
        return shorter(gone), Trimmed(messages=messages, tokens=asked - tokens)

    async def _text(self, body: Json) -> tuple[bytes, Trimmed]:
        asked, context = self._counts
        prompt, most = body.get("prompt"), room(body, context)
        if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
            begin, end = cut(prompt, most, self.policy)
            return json.encode(body | {"prompt": [*begin, *end]}), Trimmed(messages=0, tokens=asked - most)
        if not isinstance(prompt, str):
            raise self._refused("several prompts in one request are not trimmed")
        tokens = await self._tokens(prompt, special=False)
        for _ in range(_TRIES):
            shorter = "".join([await self._words(part) for part in cut(tokens, most, self.policy) if part])
            count = len(await self._tokens(shorter, special=True))
            if count <= room(body, context):
                return json.encode(body | {"prompt": shorter}), Trimmed(messages=0, tokens=asked - count)
            most -= count - room(body, context)
        raise self._refused("its text has more tokens in every part than it had as a whole")

    async def _tokens(self, text: str, *, special: bool) -> Sequence[int]:
        found = await tokens_of(self.upstream, self.lease, text, whole=special, parse_special=True)
        if found is None:
            raise self._refused("its engine does not answer /tokenize")
        return found

    async def _words(self, tokens: Sequence[int]) -> str:
        return str((await self._ask("/detokenize", json.encode({"tokens": tokens}))).get("content") or "")

    def _number(self, told: object) -> int:
        if not isinstance(told, int):
            raise self._refused("its engine does not count")
        return told

    async def _ask(self, target: str, body: bytes) -> Json:
        """What the engine answers to a question about tokens.

        Raises:
            ReplyError: it does not.
        """
        found = await told(self.upstream, self.lease, target, body)
        if found is None:
            raise self._refused(f"its engine does not answer {target}")
        return found

    def _refused(self, why: str) -> ReplyError:
        words = f"{self.error.message}. To trim it was asked for (overflow: {self.policy.value}), but {why}"
        return ReplyError(replace(self.error, message=words))


async def _fewest(parts: int, most: Tokens, count: Callable[[int], Awaitable[Tokens]]) -> tuple[int, Tokens]:
    """How many parts must go for the rest to have ``most`` tokens, or all; and the tokens that it then has."""
    low, high = 1, parts
    tokens = await count(high)
    while low < high:
        middle = (low + high) // 2
        found = await count(middle)
        if found <= most:
            high, tokens = middle, found
        else:
            low = middle + 1
    return high, tokens


def header(trimmed: Trimmed) -> Headers:
    """What tells a client how much was left out."""
    return [(HEADER, str(trimmed).encode())]


def marked(data: bytes, trimmed: Trimmed) -> bytes:
    """A whole answer, or whole events of one, with what was left out written beside the counts."""
    if not any(mark in data for mark in _MARKS):
        return data
    return b"\n".join(_marked_line(line, trimmed) for line in data.split(b"\n"))


def _marked_line(line: bytes, trimmed: Trimmed) -> bytes:
    head = b"data: " if line.startswith(b"data: ") else b""
    text = line[len(head) :]
    if not text.startswith(b"{") or not any(mark in text for mark in _MARKS):
        return line
    try:
        found = json.decode(text)
    except (DecodeError, UnicodeDecodeError):
        return line
    return head + json.encode(found) if isinstance(found, dict) and note(found, trimmed) else line
