"""What is known of one request: filled while it runs, read when it has ended."""

import re
from collections.abc import Mapping

from msgspec import Struct

from bercail.core.activity import Entry
from bercail.core.units import Bytes, Seconds, Tokens
from bercail.web.sse import parse, split

TAIL_BYTES: Bytes = 4096
"""How much of both ends of a whole answer is searched for its counts."""

PATH_LETTERS = 256
"""Of a path so much is kept; those of engines may be as long as a request's head."""

# Inside a JSON string the quotes are escaped, so these bytes appear only as names of members.
_TIMINGS = b'"timings"'
_PROGRESS = b'"prompt_progress"'
_PROGRESS_BYTES: Bytes = 256
"""Longer than any engine's account of how far it has read."""
_READ = re.compile(rb'"cache"\s*:\s*(\d+)\s*,\s*"processed"\s*:\s*(\d+)')
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_TIMED = re.compile(rb'"timings"\s*:\s*(\{[^{}]*\})')


class Record(Struct, kw_only=True):  # a dataclass would take five times as long to make
    """One request; None is unknown.

    Attributes:
        model: the id of a model of ours, or empty if it never came that far.
        key_id: of the API key it came with, or empty.
        status: of the answer; 499 if the client left before there was one.
        aborted: the client left, or the server cut it.
        arrived_s: when its body had come, on the gateway's clock.
        queue_s: waited for its turn, loading not counted.
        load_s: waited while its model was loading.
        ttft_s: from ``arrived_s`` to the first piece of the answer.
        prefill_tokens: prompt tokens the engine worked through.
        cached_tokens: prompt tokens it found in its cache.
        decode_tokens: tokens it generated.
        trimmed_tokens: of the prompt that were left out, as a policy asked.
        prefill_tokens_per_s, decode_tokens_per_s: as it timed itself; of several choices, the last to end.
        capture_id: of its texts, if they are kept.
        session: what its client calls the conversation it belongs to; empty if it does not say.
        path: of the request.
        content_type: of the answer; empty if there was none.
        error: stable word for why it failed here; empty if it did not.
        drafted_tokens, accepted_tokens: that the engine guessed ahead; of these, right.
        pieces: events of the answer so far, about one for each token.
    """

    endpoint: str
    model: str = ""
    key_id: str = ""
    status: int = 0
    aborted: bool = False
    arrived_s: Seconds | None = None
    queue_s: Seconds | None = None
    load_s: Seconds | None = None
    ttft_s: Seconds | None = None
    prefill_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    decode_tokens: Tokens | None = None
    trimmed_tokens: Tokens | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    capture_id: int | None = None
    session: str = ""
    path: str = ""
    content_type: str = ""
    error: str = ""
    drafted_tokens: Tokens | None = None
    accepted_tokens: Tokens | None = None
    request_bytes: Bytes = 0
    response_bytes: Bytes = 0
    pieces: int = 0
    _progress: bytes = b""

    def waited(self, wait_s: Seconds, load_s: Seconds) -> None:
        """It has got its lease after ``wait_s``, of which the model was loading for ``load_s``."""
        self.load_s = min(load_s, wait_s)
        self.queue_s = wait_s - self.load_s

    def first_piece(self, now_s: Seconds) -> None:
        """A piece of the answer has come; only the first counts."""
        if self.ttft_s is None and self.arrived_s is not None:
            self.ttft_s = now_s - self.arrived_s

    def read_pair(self, counts: tuple[Tokens, Tokens] | None) -> None:
        """Take prompt tokens worked through and tokens generated; None leaves them unknown."""
        if counts is not None:
            self.prefill_tokens, self.decode_tokens = counts

    def read_progress(self, chunk: bytes) -> None:
        """Take from a stream how far prefill has come, in case the answer never tells."""
        at = chunk.rfind(_PROGRESS)
        if at >= 0:
            self._progress = chunk[at : at + _PROGRESS_BYTES]

    def read_events(self, events: bytes) -> None:
        """Take the counts from events of a stream that end a choice; those of several choices add up."""
        self.pieces += events.count(b"\n\n")
        if _TIMINGS not in events:
            return
        for event in split(events):
            found = parse(event) if _TIMINGS in event else None
            if isinstance(found, dict) and _is_last(found):
                self.read_timings(found.get("timings"))

    def read_timings(self, timings: object) -> None:
        """Add the counts of a choice; of another shape, they stay as they are."""
        if not isinstance(timings, dict):
            return
        prompt, generated = _count(timings, "prompt_n"), _count(timings, "predicted_n")
        if prompt is None or generated is None:
            return
        self.prefill_tokens = (self.prefill_tokens or 0) + prompt
        self.decode_tokens = (self.decode_tokens or 0) + generated
        if (cached := _count(timings, "cache_n")) is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached
        if (drafted := _count(timings, "draft_n")) is not None:
            self.drafted_tokens = (self.drafted_tokens or 0) + drafted
            self.accepted_tokens = (self.accepted_tokens or 0) + (_count(timings, "draft_n_accepted") or 0)
        self.prefill_tokens_per_s = _rate(timings, "prompt_per_second", prompt)
        self.decode_tokens_per_s = _rate(timings, "predicted_per_second", generated)

    def read_answer(self, answer: Mapping[str, object]) -> None:
        """Take the counts from one whole answer: its usage is of all choices, its timings of one."""
        self.read_timings(answer.get("timings"))
        usage = answer.get("usage")
        prompt = _count(usage, "prompt_tokens") if isinstance(usage, dict) else None
        if not isinstance(usage, dict) or prompt is None:
            return
        details = usage.get("prompt_tokens_details")
        told = _count(details, "cached_tokens") if isinstance(details, dict) else None
        cached = self.cached_tokens if told is None else told
        self.cached_tokens, self.prefill_tokens = cached, max(0, prompt - (cached or 0))
        self.decode_tokens = _count(usage, "completion_tokens") or 0

    def read_body(self, body: bytes, choices: int = 1) -> None:
        """Take the counts from the ends of an answer that is handed on unparsed.

        Of several choices llama.cpp then counts one alone (b11549), which is taken for each of them.
        """
        ends = body if len(body) <= 2 * TAIL_BYTES else body[:TAIL_BYTES] + body[-TAIL_BYTES:]
        found: dict[str, object] = {}
        for name, pattern in (("usage", _USAGE), ("timings", _TIMED)):
            for match in pattern.finditer(ends):  # the last one counts: of a stream, it is that of the whole
                found[name] = parse(b"data: " + match[1])
        self.read_answer(found)
        if self.decode_tokens is not None:
            self.decode_tokens *= choices

    def settle(self, choices: int = 1) -> None:
        """The answer has ended: its choices share a prompt, and one that broke off is counted as far as it came."""
        if self.prefill_tokens is None:
            told = _READ.search(self._progress)
            cached, read = (int(told[1]), int(told[2])) if told else (0, 0)
            if self.pieces or read or cached:
                self.cached_tokens, self.prefill_tokens, self.decode_tokens = cached, max(0, read - cached), self.pieces
        elif choices > 1:
            self.prefill_tokens //= choices
            self.cached_tokens = None if self.cached_tokens is None else self.cached_tokens // choices

    @property
    def charged_tokens(self) -> Tokens:
        """What counts for a quota: tokens that the engine worked for, not those found in its cache."""
        return (self.prefill_tokens or 0) + (self.decode_tokens or 0)

    def entry(self, wall_s: Seconds, now_s: Seconds) -> Entry:
        """What is kept of it, when it has ended at ``wall_s`` (unix), ``now_s`` on the gateway's clock."""
        return Entry(
            ended_s=wall_s, endpoint=self.endpoint, model=self.model, key_id=self.key_id, status=self.status,
            aborted=self.aborted, prompt_tokens=self.prefill_tokens, cached_tokens=self.cached_tokens,
            generated_tokens=self.decode_tokens, trimmed_tokens=self.trimmed_tokens, capture_id=self.capture_id,
            session=self.session, path=self.path[:PATH_LETTERS], content_type=self.content_type, error=self.error,
            drafted_tokens=self.drafted_tokens, accepted_tokens=self.accepted_tokens,
            queue_s=self.queue_s, load_s=self.load_s, ttft_s=self.ttft_s,
            prefill_tokens_per_s=self.prefill_tokens_per_s, decode_tokens_per_s=self.decode_tokens_per_s,
            total_s=None if self.arrived_s is None else now_s - self.arrived_s,
        )  # fmt: skip


class Ends:
    """Both ends of a body that is handed on as it comes."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        """The next piece."""
        room = TAIL_BYTES - len(self._head)
        self._head += chunk[:room]
        self._tail = (self._tail + chunk[room:])[-TAIL_BYTES:]

    @property
    def bytes(self) -> bytes:
        """The first and the last ``TAIL_BYTES``; all of a body that is no longer."""
        return self._head + self._tail


def _is_last(chunk: Mapping[str, object]) -> bool:
    """A chunk that ends a choice, or follows the end of one; some engines time every token."""
    choices = chunk.get("choices")
    ends = (
        [choice.get("finish_reason") for choice in choices if isinstance(choice, dict)]
        if isinstance(choices, list)
        else []
    )
    return not ends or any(reason is not None for reason in ends)


def _count(counts: Mapping[str, object], name: str) -> Tokens | None:
    found = counts.get(name)
    return found if type(found) is int and found >= 0 else None  # a bool is none


def _rate(timings: Mapping[str, object], name: str, tokens: Tokens) -> float | None:
    """A speed; that of a token or none says nothing."""
    found = timings.get(name)
    return float(found) if isinstance(found, int | float) and tokens > 1 else None
