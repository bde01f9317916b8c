"""The record of requests, looked up: what is asked of it, a page of it, its sums; and how llama-swap tells them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, log2

from bercail.core.activity import Entry
from bercail.core.alike import alike
from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.sample import moment, stamp
from bercail.core.units import Seconds, Tokens

MOST_ROWS = 999
UNKNOWN = -1
"""llama-swap's word for a number that nobody told."""
_LEAST_BINS, _MOST_BINS = 5, 20
_LARGEST = 2**53
"""Beyond it JavaScript cannot tell whole numbers apart."""


class Column(StrEnum):
    """What rows are sorted by, in llama-swap's words."""

    ID = "id"
    TIME = "time"
    MODEL = "model"
    PATH = "req_path"
    STATUS = "resp_status_code"
    CONTENT_TYPE = "resp_content_type"
    CACHED = "cached"
    PROMPT = "prompt"
    GENERATED = "generated"
    DRAFTED = "drafted"
    PROMPT_SPEED = "prompt_speed"
    GENERATION_SPEED = "gen_speed"
    DURATION = "duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which rows are asked for.

    Attributes:
        page: the first is 1.
        limit: rows of a page.
        models: ids; none means all.
        start_s, end_s: unix seconds between which requests ended, both included; None is no bound.
        min_id, max_id: likewise.
    """

    page: int = 1
    limit: int = 25
    sort: Column = Column.ID
    descending: bool = True
    models: tuple[str, ...] = ()
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    min_id: int | None = None
    max_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request as it stands in the record."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, and how many there are beside them that meet the same wish."""

    rows: tuple[Row, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a speed is spread over requests, in tokens/s.

    Attributes:
        bins: how many requests lie in each of as many parts of the same width, from ``least`` to ``most``.
        p50, p95, p99: the least value that so many in a hundred do not exceed.
    """

    bins: tuple[int, ...]
    least: float
    most: float
    p50: float
    p95: float
    p99: float

    @property
    def width(self) -> float:
        """Of a bin; 0 where all values are the same."""
        return (self.most - self.least) / len(self.bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums of all requests, or of those of one model; a spread is None where no request tells a speed."""

    requests: int
    prompt_tokens: Tokens
    cached_tokens: Tokens
    generated_tokens: Tokens
    prefill: Spread | None
    decode: Spread | None


def bins_for(count: int) -> int:
    """How many parts ``count`` values are sorted into: Sturges' number, within bounds."""
    return min(_MOST_BINS, max(_LEAST_BINS, ceil(log2(count)) + 1))


_SORTS = tuple(column.value for column in Column)
_MEMBERS = ("page", "limit", "sort", "order", "model", "start", "end", "min_id", "max_id")


def wish_of(query: Iterable[tuple[str, str]]) -> Wish:
    """What a query asks for; what it leaves empty is not asked for, of what it says twice the last counts.

    Raises:
        UsageError: it says what nobody knows, or what is no number, moment or word of the list.
    """
    models: list[str] = []
    said: dict[str, str] = {}
    for name, value in query:
        _check(name, _MEMBERS)
        if value and name == "model":
            models.append(value)
        elif value:
            said[name] = value
    plain = Wish(models=tuple(models))
    return replace(
        plain,
        page=_number(said, "page", least=1) or plain.page,
        limit=_number(said, "limit", least=1, most=MOST_ROWS) or plain.limit,
        sort=Column(_word(said, "sort", _SORTS) or plain.sort),
        descending=_word(said, "order", ("asc", "desc")) != "asc",
        start_s=_moment(said, "start"),
        end_s=_moment(said, "end"),
        min_id=_number(said, "min_id", least=0),
        max_id=_number(said, "max_id", least=0),
    )


def model_of(query: Iterable[tuple[str, str]]) -> str:
    """The model whose sums a query asks for, the last that it names; empty for all.

    Raises:
        UsageError: it asks for something else.
    """
    model = ""
    for name, value in query:
        _check(name, ("model",))
        model = value
    return model


def _check(name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = alike(name, known)
        meant = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
        raise UsageError(f"{name[:40]!r} asks for nothing here", hint=meant)


def _number(said: Mapping[str, str], name: str, *, least: int, most: int = _LARGEST) -> int | None:
    text = said.get(name)
    if text is None:
        return None
    # Python would take other scripts' digits and underscores as well.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST)) and least <= int(text) <= most):
        bounds = f"{least} or more" if most == _LARGEST else f"{least} to {most}"
        raise UsageError(f"{name} is a whole number, {bounds}, not {text[:40]!r}")
    return int(text)


def _word(said: Mapping[str, str], name: str, words: Sequence[str]) -> str | None:
    text = said.get(name)
    if text is not None and text not in words:
        raise UsageError(f"{name} is one of {', '.join(words)}, not {text[:40]!r}")
    return text


def _moment(said: Mapping[str, str], name: str) -> Seconds | None:
    text = said.get(name)
    return None if text is None else moment(text, name)


def page_document(page: Page, wish: Wish) -> Json:
    """A page in llama-swap's members."""
    return {
        "data": [_row(row) for row in page.rows],
        "page": wish.page,
        "limit": wish.limit,
        "total": page.total,
        "total_pages": ceil(page.total / wish.limit),
    }


def _row(row: Row) -> Json:
    """llama-swap's members, and after them ours; what is unknown is -1 in the former and null in the latter."""
    entry = row.entry
    return {
        "id": row.id,
        "timestamp": stamp(entry.ended_s),
        "model": entry.model,
        "req_path": entry.path,
        "resp_content_type": entry.content_type,
        "resp_status_code": entry.status,
        "tokens": _tokens(entry),
        "duration_ms": UNKNOWN if entry.total_s is None else _ms(entry.total_s),
        "has_capture": entry.capture_id is not None,
        "error_msg": entry.error,
        "metadata": {"session": entry.session} if entry.session else {},
        "endpoint": entry.endpoint,
        "key_id": entry.key_id,
        "aborted": entry.aborted,
        "queue_ms": _ms(entry.queue_s),
        "load_ms": _ms(entry.load_s),
        "ttft_ms": _ms(entry.ttft_s),
        "trimmed_tokens": entry.trimmed_tokens,
        "capture_id": entry.capture_id,
    }


def _tokens(entry: Entry) -> Json:
    told = {
        "cache_tokens": entry.cached_tokens,
        "draft_tokens": entry.drafted_tokens,
        "draft_acc_tokens": entry.accepted_tokens,
        "input_tokens": entry.prompt_tokens,
        "output_tokens": entry.generated_tokens,
        "prompt_per_second": entry.prefill_tokens_per_s,
        "tokens_per_second": entry.decode_tokens_per_s,
    }
    return {name: UNKNOWN if value is None else value for name, value in told.items()}


def _ms(time_s: Seconds | None) -> int | None:
    return None if time_s is None else round(1000 * time_s)


def tally_document(tally: Tally) -> Json:
    """Sums in llama-swap's members."""
    return {
        "total_requests": tally.requests,
        "total_input_tokens": tally.prompt_tokens,
        "total_output_tokens": tally.generated_tokens,
        "total_cache_tokens": tally.cached_tokens,
        "prompt_histogram": _spread(tally.prefill),
        "gen_histogram": _spread(tally.decode),
    }


def _spread(spread: Spread | None) -> Json | None:
    if spread is None:
        return None
    return {
        "bins": list(spread.bins),
        "min": spread.least,
        "max": spread.most,
        "binSize": spread.width,
        "p50": spread.p50,
        "p95": spread.p95,
        "p99": spread.p99,
    }
