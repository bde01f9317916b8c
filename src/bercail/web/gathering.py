"""A stream of an engine, gathered into the one answer that its client asked for."""

from collections.abc import Callable

from bercail.core.chat import Json, engine_refusal
from bercail.core.fold import Fold
from bercail.web.errors import ReplyError
from bercail.web.record import Record
from bercail.web.sse import DONE, Splitter, is_mere_progress, parse, split

_ERROR = b'"error"'
"""Inside a JSON string the quotes are escaped, so these bytes are never part of a text."""
_OPENING = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],'
"""How llama.cpp begins a chat, and tells of progress: beside it stands only what stands in every chunk."""


class Gathering:
    """Takes in events as they come.

    Args:
        fold: takes them in.
        record: hears how far the answer has come.
        first: is called once there is something of it, unless the record knows that already.
    """

    def __init__(self, fold: Fold, record: Record, first: Callable[[], None]) -> None:
        self._fold = fold
        self._record = record
        self._first = first
        self._splitter = Splitter()

    def feed(self, chunk: bytes) -> Json | None:
        """Take in the next piece of the stream; the answer, if it was the last.

        Raises:
            EngineError: an event is longer than any that an engine sends.
            ReplyError: an event is an error.
        """
        events = self._splitter.feed(chunk)
        self._add(events)
        return self._fold.answer() if events.endswith(DONE) and self._fold.complete else None

    def take(self, chunk: bytes) -> bool:
        """Take in a piece from the middle of the stream; False, and nothing has happened, if it needs ``feed``."""
        plain = self._splitter.is_empty and chunk.endswith(b"\n\n") and not chunk.endswith(DONE)
        if not plain or _ERROR in chunk:
            return False
        self._add(chunk)
        return True

    def _add(self, events: bytes) -> None:
        record = self._record
        awaited = record.ttft_s is None
        if awaited:
            record.read_progress(events)
        for event in split(events):
            if event.startswith(_OPENING) or (awaited and is_mere_progress(event)):
                continue
            found = parse(event)
            if isinstance(found, dict):
                if "error" in found:
                    raise ReplyError(engine_refusal(200, found))
                self._fold.add(found)
            record.pieces += 1
        if awaited and self._fold.begun:
            self._first()
