"""What requests have taken: one entry each, and their sums. No text of prompts or answers is ever in them."""

from dataclasses import dataclass
from enum import StrEnum

from bercail.core.units import Seconds, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request that has ended; None is unknown.

    Attributes:
        ended_s: unix seconds.
        endpoint: the last part of its path.
        model: its id, or empty if it came to none.
        key_id: of the API key, or empty if none was asked for.
        status: of the answer; 499 if the client left before there was one.
        aborted: the client left, or the server cut it.
        prompt_tokens: prompt tokens the engine worked through.
        cached_tokens: prompt tokens it found in its cache.
        generated_tokens: tokens it generated.
        trimmed_tokens: of the prompt that were left out, as a policy asked; None if none were.
        queue_s, load_s: waited for a turn; waited while the model was loaded.
        ttft_s: from the end of the request to the first piece of its answer.
        prefill_tokens_per_s, decode_tokens_per_s: as the engine timed itself.
        total_s: from the end of the request to the end of its answer.
        capture_id: of its texts where the owner has them kept; they are not here.
        session: as its client names it; empty if it names none.
        path: of the request, its first letters.
        content_type: of the answer; empty if there was none.
        error: stable word for why it failed; empty if it did not, or an engine alone told why.
        drafted_tokens, accepted_tokens: guessed ahead; of these, right.
    """

    ended_s: Seconds
    endpoint: str
    model: str
    key_id: str
    status: int
    aborted: bool = False
    prompt_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    generated_tokens: Tokens | None = None
    trimmed_tokens: Tokens | None = None
    queue_s: Seconds | None = None
    load_s: Seconds | None = None
    ttft_s: Seconds | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    total_s: Seconds | None = None
    capture_id: int | None = None
    session: str = ""
    path: str = ""
    content_type: str = ""
    error: str = ""
    drafted_tokens: Tokens | None = None
    accepted_tokens: Tokens | None = None


class Grouping(StrEnum):
    """What requests are added up by."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Requests of one day (of this machine's calendar), one model, one key or one session.

    Attributes:
        name: ``2026-11-21``, the model's id, the key's, or what the client calls its session; empty for none.
        failed: answered with a status of 400 or more.
        loads: requests that waited while their model was loaded.
        queue_s, answer_s, decode_tokens_per_s: means over the requests that tell, or None: waited for a turn; from
            then, and from the end of the load, to the first piece of the answer.
        ttft_s: the whole of that wait, from the end of the request, or None.
        load_s: the mean over ``loads``, or None.
    """

    name: str
    requests: int
    failed: int
    prompt_tokens: Tokens
    cached_tokens: Tokens
    generated_tokens: Tokens
    trimmed_tokens: Tokens = 0
    loads: int = 0
    queue_s: Seconds | None = None
    load_s: Seconds | None = None
    answer_s: Seconds | None = None
    ttft_s: Seconds | None
    decode_tokens_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens that a key was charged for around one moment.

    Attributes:
        at_s: unix seconds, not before any of them was charged.
    """

    key_id: str
    at_s: Seconds
    tokens: Tokens
