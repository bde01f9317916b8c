"""Dialects that are put into the words of OpenAI's chat: how each reads a request, and tells an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec import json

from bercail.core import anthropic, anthropic_reply, responses, responses_reply
from bercail.core.chat import ApiError, Json
from bercail.core.dialect import PASSAGES, Form, Passage
from bercail.core.recast import Wish
from bercail.web.errors import event

_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}\n\n'
)


class Reply(Protocol):
    """A stream as it grows in a dialect's words."""

    @property
    def begun(self) -> bool:
        """There is something of an answer."""
        ...

    @property
    def is_finished(self) -> bool:
        """The engine has said why it ended."""
        ...

    def take(self, chunk: Json) -> list[Json]:
        """The events that a chunk of the engine's gives the client."""
        ...

    def end(self) -> list[Json]:
        """The last events."""
        ...

    def counts(self) -> Json:
        """The engine's own usage; empty if it told none."""
        ...

    def farewell(self, error: ApiError, /) -> bytes:
        """The last events of a stream that fails; b"" where the dialect has no end for that."""
        ...

    def brief(self, words: bytes) -> bytes:
        """The event of a few more words of the text that is open, a JSON string; b"" where it takes more than that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tongue:
    """A dialect.

    Attributes:
        read: a request; raises UsageError.
        reply: begins the answer to a wish under a name.
        whole: one answer of a chat in the dialect's words.
        counted: the answer to how many tokens a request has.
    """

    read: Callable[[Json], Wish]
    reply: Callable[[Wish, str], Reply]
    whole: Callable[[Json, Wish, str], Json]
    counted: Callable[[object], Json]


class _Message(anthropic_reply.Reply):
    def farewell(self, _: ApiError) -> bytes:
        return b""

    def brief(self, words: bytes) -> bytes:
        return _DELTA % (self.index, words) if self.is_talking else b""


class _Response(responses_reply.Reply):
    def farewell(self, error: ApiError) -> bytes:
        failed = written(self.fail(error.code or "server_error", error.message))
        return failed + event(error, Form.RESPONSES, self.number)

    def brief(self, words: bytes) -> bytes:
        found = self.more(words)
        return written(found) if found else b""


_TONGUES: Mapping[Form, Tongue] = {
    Form.ANTHROPIC: Tongue(
        read=anthropic.read,
        reply=lambda wish, name: _Message(model=name, stops=wish.stops),
        whole=lambda answer, wish, name: anthropic_reply.message(answer, name, wish.stops),
        counted=lambda tokens: {"input_tokens": tokens},
    ),
    Form.RESPONSES: Tongue(
        read=responses.read,
        reply=lambda wish, name: _Response(model=name, echo=wish.echo),
        whole=lambda answer, wish, name: responses_reply.response(answer, name, wish.echo),
        counted=lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
    ),
}


def tongue_of(passage: Passage) -> Tongue:
    """The dialect of an endpoint among ``SPOKEN``."""
    return _TONGUES[passage.form]


SPOKEN = frozenset(path for path, passage in PASSAGES.items() if passage.form in _TONGUES)
"""Paths of endpoints that are asked in the words of a chat."""


def written(event: Json) -> bytes:
    """An event as it is sent, under the name of its type."""
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), json.encode(event))
