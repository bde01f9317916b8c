"""Streams of engines in their own dialects: whole events, what the client did not ask for, and how they end."""

from collections.abc import Callable, Iterator

from msgspec import json

from bercail.core.chat import Json
from bercail.core.dialect import Form, Shape
from bercail.core.folds import fold_of
from bercail.core.units import Tokens
from bercail.web.sse import PING, Splitter, comment, parse, split

PINGS = {
    Form.OPENAI: PING,
    Form.RESPONSES: PING,
    Form.ANTHROPIC: b'event: ping\ndata: {"type": "ping"}\n\n',
    Form.OLLAMA: b"",
}
"""What fills silence."""


def voice(form: Form) -> Callable[[str], bytes]:
    """How a stream says a sentence while its model is awaited: a comment, and where clients know pings one of those."""
    ping = PINGS[form] if form is Form.ANTHROPIC else b""
    return lambda text: comment(text) + ping


_ENDS = {
    Shape.MESSAGES: (b"event: message_stop",),
    Shape.RESPONSES: (b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
    Shape.NATIVE: (),
}
_STOP = b'"stop":true'
_PROGRESS = b'"prompt_progress"'
"""Inside a JSON string the quotes are escaped, so these bytes appear only as a member's name."""
_ERRORS = (b"event: error", b'data: {"error"')
_APART = (_STOP, _PROGRESS, *_ERRORS, b"event: message_", *_ENDS[Shape.RESPONSES])
"""Where one of these stands, more may have to be done than to hand an event on."""


class Sift:
    """Cuts a stream into events and looks at those that matter.

    Attributes:
        ended: the last event has been seen.
    """

    def __init__(self, shape: Shape, *, drop_progress: bool) -> None:
        self._shape = shape
        self._drop_progress = drop_progress
        self._splitter = Splitter()
        self._counter = fold_of(shape)
        self._begun = False
        self._told_progress = False
        self.ended = False

    def feed(self, chunk: bytes) -> tuple[bytes, Json | None]:
        """The bytes to hand on, whole events always, and the error event that followed them, if one did.

        Raises:
            EngineError: an event is longer than any that an engine sends.
        """
        kept: list[bytes] = []
        for event in split(self._splitter.feed(chunk)):
            if event.startswith(_ERRORS):
                found = parse(event)
                if isinstance(found, dict):
                    return b"".join(kept), found
            if event.startswith(b":") and not self._begun:
                continue
            if self._drop_progress and _PROGRESS in event:
                event = self._without_progress(event)
                if not event:
                    continue
            self._begun = True
            self._look(event)
            kept.append(event + b"\n\n")
        return b"".join(kept), None

    def passes(self, chunk: bytes) -> bool:
        """Whether bytes are whole events that ``feed`` would hand on as they are, and not the last of a stream."""
        whole = self._begun and self._splitter.is_empty and chunk.endswith(b"\n\n")
        return whole and not any(sign in chunk for sign in _APART)

    def _without_progress(self, event: bytes) -> bytes:
        """Nothing for an event that only reports progress; the first of a response stands for its beginning."""
        found = parse(event)
        if not isinstance(found, dict) or "prompt_progress" not in found:
            return event
        del found["prompt_progress"]
        if self._shape is Shape.NATIVE:
            return b"data: " + json.encode(found) if found.get("content") or found.get("stop") else b""
        first, self._told_progress = not self._told_progress, True
        return event.partition(b"\n")[0] + b"\ndata: " + json.encode(found) if first else b""

    def _look(self, event: bytes) -> None:
        """Note an end, and what the stream says of its tokens."""
        last = event.startswith(_ENDS[self._shape]) or (self._shape is Shape.NATIVE and _STOP in event)
        if last or event.startswith((b"event: message_start", b"event: message_delta")):
            found = parse(event)
            if isinstance(found, dict):
                self._counter.add(found)
        self.ended = self.ended or last

    def counts(self) -> tuple[Tokens, Tokens] | None:
        """Prompt tokens worked through and tokens generated, or None if the stream did not tell."""
        return self._counter.counts()

    @staticmethod
    def parsed(events: bytes) -> Iterator[Json]:
        """The data of events."""
        for event in split(events):
            found = parse(event)
            if isinstance(found, dict):
                yield found
