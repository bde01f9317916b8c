"""A stream of an engine's told in the words of a dialect, event by event, and what of a request was not done."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

from bercail.core.errors import EngineError
from bercail.core.route import ServedModel
from bercail.ports import UpstreamResponse
from bercail.web.asgi import Headers
from bercail.web.relay import incomplete
from bercail.web.sse import DONE, Splitter
from bercail.web.turn import Stream, Turn

_log = logging.getLogger(__name__)
NOTE = b"x-bercail-note"
"""Header of what of a request was not done, or was done otherwise."""
_NOTES_KEPT = 1000
Tell: TypeAlias = Callable[[bytes], bytes]
"""Puts whole events of an engine into a client's words, b"" if they say nothing there."""
Brief: TypeAlias = Callable[[bytes], bytes]
"""Puts a few more words of an answer, a JSON string, into a client's; b"" if that takes more than words."""
_WORDS = re.compile(
    rb'data: \{[^\n]*"choices":\[\{(?:"index":0,"finish_reason":null|"finish_reason":null,"index":0),'
    rb'"delta":\{"content":("(?:[^"\\]|\\.)+")\}\}\][^\n]*\n\n'
)
"""A piece as llama.cpp and our workers write nearly all of them; inside a JSON string its quotes would be escaped."""
_APART = (b'"error"', b'"tool_calls"', b'"prompt_progress"')
"""Members of events that are not merely a few more words of an answer."""


async def retold(
    turn: Turn,
    response: UpstreamResponse,
    chunks: AsyncIterator[bytes],
    tell: Tell,
    *,
    brief: Brief,
    last: Callable[[bytes], bool],
) -> bytes:
    """Tell a stream to a client up to its last events; what these say is given back, for more follows it.

    In the middle of an answer its pieces go from connection to connection, without waking the request's task.

    Args:
        turn: that has a stream.
        response: the engine's.
        chunks: of it.
        tell: puts events into the client's words.
        brief: does so with the words of a piece that holds nothing else, without reading it as JSON.
        last: whether events that were told are the last ones.

    Raises:
        ReplyError: the stream tells of an error.
        EngineError: it ends too early, or tells what no client can be told.
    """
    splitter, record = Splitter(), turn.record
    if turn.stream is None:
        raise RuntimeError("a stream needs its reply before it begins")
    forward = partial(_forward, splitter, turn.stream, turn, (tell, brief))
    async for chunk in chunks:
        if record.ttft_s is None:
            record.read_progress(chunk)
        events = splitter.feed(chunk)
        said = tell(events)
        if last(events):
            return said
        if said:
            record.response_bytes += len(said)
            await turn.stream.write(said)
            await response.pour(forward)
    raise incomplete()


def _forward(splitter: Splitter, stream: Stream, turn: Turn, ways: tuple[Tell, Brief], chunk: bytes) -> bool:
    """Tell a piece of a stream; False, and nothing has been told, if that takes more than a moment."""
    if not (splitter.is_empty and chunk.endswith(b"\n\n") and not chunk.endswith(DONE)):
        return False
    if any(sign in chunk for sign in _APART) or not stream.push(b""):
        return False
    tell, brief = ways
    found = _WORDS.fullmatch(chunk)
    if found and (said := brief(found[1])):
        turn.record.pieces += 1
    else:
        try:
            said = tell(chunk)
        except EngineError:
            return False
    if said:
        turn.record.response_bytes += len(said)
        stream.push(said)
    return True


class Notes:
    """Tells what of requests is not done as asked."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def headers(self, model: ServedModel, notes: tuple[str, ...]) -> Headers:
        """A header for each note, each time; in the log only the first time."""
        made: Headers = []
        for note in notes:
            words = "".join(letter if " " <= letter <= "~" else "?" for letter in note)
            made.append((NOTE, words.encode()))
            if (line := f"{model.id}: {words}") not in self._told and len(self._told) < _NOTES_KEPT:
                self._told.add(line)
                _log.warning("%s", line)
        return made
