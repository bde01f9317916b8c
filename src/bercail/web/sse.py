"""Server-sent events: where they end in a stream of bytes, and which of an engine's a client gets to see."""

from typing import TypeAlias

from msgspec import DecodeError, json

from bercail.core.chat import Json
from bercail.core.errors import EngineError

ENDS = (b"\n\n", b"\r\n\r\n")
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
EVENT_LIMIT_BYTES = 16 * 1024 * 1024
_PROGRESS = b'"prompt_progress"'
"""Inside a JSON string the quotes are escaped, so these bytes appear only as a member's name."""
_SILENT = (b'"delta":{"role":"assistant","content":null}', b'"text":""')
"""How llama.cpp writes progress that comes without text; anything else is parsed to be sure."""
_ERROR = b'data: {"error"'

Parsed: TypeAlias = "Json | bytes | None"
"""A JSON object, or the text of data that is none, or nothing for an event without data."""


def comment(text: str) -> bytes:
    """A line that clients pass over."""
    return b": " + " ".join(text.split()).encode("utf-8", "replace") + b"\n\n"


class Splitter:
    """Cuts bytes as they come into whole events; an event that is not complete waits."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    @property
    def is_empty(self) -> bool:
        """No event has begun and not ended."""
        return not self._pending

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now, as they came.

        Raises:
            EngineError: an event is longer than any that an engine sends.
        """
        if self._pending:
            chunk = self._pending + chunk
            self._pending = b""
        if chunk.endswith(ENDS):
            return chunk
        cut = max(found + len(end) if (found := chunk.rfind(end)) >= 0 else 0 for end in ENDS)
        self._pending = chunk[cut:]
        if len(self._pending) > EVENT_LIMIT_BYTES:
            raise EngineError(f"the engine sent an event of more than {EVENT_LIMIT_BYTES} bytes", code="engine_event")
        return chunk[:cut]


def split(events: bytes) -> list[bytes]:
    """Whole events one by one, without the empty line at their end."""
    if b"\r" in events:
        events = events.replace(b"\r\n", b"\n")
    return list(filter(None, events.split(b"\n\n")))


def parse(event: bytes) -> Parsed:
    """The data of an event."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return _decoded(event[6:])
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    if not lines:
        return None
    return _decoded(b"\n".join(lines))


def _decoded(data: bytes) -> Parsed:
    if data == b"[DONE]":
        return data
    try:
        found = json.decode(data)
    except (DecodeError, UnicodeDecodeError):
        return data
    return found if isinstance(found, dict) else data


class Sieve:
    """Holds back what the client did not ask for: progress of prefill, and everything before the first real event."""

    __slots__ = ("_drop_progress", "_splitter", "begun")

    def __init__(self, *, drop_progress: bool) -> None:
        self._splitter = Splitter()
        self._drop_progress = drop_progress
        self.begun = False

    def feed(self, chunk: bytes) -> tuple[bytes, Json | None]:
        """The bytes to hand on, whole events always, and the error event that followed them, if one did.

        Raises:
            EngineError: an event is longer than any that an engine sends.
        """
        events = self._splitter.feed(chunk)
        if self.begun and _ERROR not in events and (not self._drop_progress or _PROGRESS not in events):
            return events, None
        return self._sift(events)

    def passes(self, chunk: bytes) -> bool:
        """Whether bytes are whole events that ``feed`` would hand on as they are, and not the last of a stream."""
        return (
            self.begun
            and self._splitter.is_empty
            and chunk.endswith(b"\n\n")
            and not chunk.endswith(DONE)
            and _ERROR not in chunk
            and (not self._drop_progress or _PROGRESS not in chunk)
        )

    def _sift(self, events: bytes) -> tuple[bytes, Json | None]:
        """One event after the other, up to the last that needs it; what follows passes unparsed."""
        rest = b""
        if _ERROR not in events and b"\r" not in events:
            last = events.rfind(_PROGRESS) if self._drop_progress else -1
            cut = events.find(b"\n\n", last) + 2 if last >= 0 else 0
            if self.begun or not events.startswith(b":", cut):
                events, rest = events[:cut], events[cut:]
        kept: list[bytes] = []
        found = split(events)
        for event in () if self._drop_progress and all(map(is_mere_progress, found)) else found:
            if event.startswith(_ERROR):
                error = parse(event)
                if isinstance(error, dict):
                    return b"".join(kept), error
            if event.startswith(b":") and not (self.begun or kept):
                continue
            if self._drop_progress and _PROGRESS in event:
                event = _without_progress(event)
            if event:
                kept.append(event + b"\n\n")
        kept.append(rest)
        passed = b"".join(kept)
        self.begun = self.begun or bool(passed)
        return passed, None


def is_mere_progress(event: bytes) -> bool:
    """An event that surely says nothing but how far prefill has come; no answer is final without a look inside."""
    return _PROGRESS in event and (_SILENT[0] in event or _SILENT[1] in event)


def _without_progress(event: bytes) -> bytes:
    """Nothing for an event that only reports progress; without the report if it carries text as well."""
    if is_mere_progress(event):
        return b""
    found = parse(event)
    if not isinstance(found, dict) or "prompt_progress" not in found:
        return event
    del found["prompt_progress"]
    return b"data: " + json.encode(found) if _says_something(found) else b""


def _says_something(chunk: Json) -> bool:
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        told = delta if isinstance(delta, dict) else {"text": choice.get("text")}
        if choice.get("finish_reason") or any(value for name, value in told.items() if name != "role"):
            return True
    return False
