"""API keys and what was used, for people and as documents."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from bercail.core.access import Key, format_moment
from bercail.core.activity import Grouping, Total
from bercail.core.document import Json
from bercail.core.report import Section
from bercail.core.units import Seconds, format_rate, format_seconds, format_tokens


def key_document(key: Key, wall_s: Seconds) -> dict[str, Json]:
    """A key without its hash."""
    return {
        "id": key.id,
        "name": key.name,
        "in_force": key.in_force(wall_s),
        "scopes": [scope.value for scope in key.scopes],
        "models": list(key.models),
        "tokens_per_minute": key.limits.tokens_per_minute,
        "tokens_per_day": key.limits.tokens_per_day,
        "concurrency": key.limits.concurrency,
        "priority": key.priority,
        "overflow": key.overflow.value if key.overflow else None,
        "capture": key.capture,
        "created_s": key.created_s,
        "expires_s": key.expires_s,
        "revoked_s": key.revoked_s,
    }


def keys_document(keys: Iterable[Key], wall_s: Seconds, token: str | None = None) -> dict[str, Json]:
    """``bercail.keys/1``: API keys; ``token`` is that of a key which was just made."""
    made: dict[str, Json] = {"schema": "bercail.keys/1", "keys": [key_document(key, wall_s) for key in keys]}
    return made if token is None else made | {"token": token}


def usage_document(grouping: Grouping, days: int, totals: Sequence[Total]) -> dict[str, Json]:
    """``bercail.usage/1``: sums of requests."""
    return {
        "schema": "bercail.usage/1",
        "by": grouping.value,
        "days": days,
        "totals": [asdict(total) for total in totals],
    }


def keys_section(keys: Iterable[Key], wall_s: Seconds) -> Section:
    """API keys, those in force first."""
    order = sorted(keys, key=lambda key: (not key.in_force(wall_s), key.created_s, key.id))
    rows = tuple(
        (
            key.id,
            key.name,
            ", ".join(key.scopes),
            ", ".join(key.models) or "all",
            limits_text(key),
            key.overflow or "as the model",
            "may be kept" if key.capture else "never kept",
            format_moment(key.created_s),
            _state(key, wall_s),
        )
        for key in order
    )
    header = ("id", "name", "opens", "models", "limits", "overflow", "texts", "made", "state")
    return Section(title="API keys", rows=rows, header=header)


def limits_text(key: Key) -> str:
    """What a key may use."""
    limits = key.limits
    words = [
        f"{format_tokens(limits.tokens_per_minute)} tokens/min" if limits.tokens_per_minute else "",
        f"{format_tokens(limits.tokens_per_day)} tokens/day" if limits.tokens_per_day else "",
        f"{limits.concurrency} at once" if limits.concurrency else "",
    ]
    return ", ".join(word for word in words if word) or "none"


def _state(key: Key, wall_s: Seconds) -> str:
    if key.revoked_s is not None:
        return f"revoked {format_moment(key.revoked_s)}"
    if key.expires_s is None:
        return "in force"
    word = "in force until" if key.in_force(wall_s) else "expired"
    return f"{word} {format_moment(key.expires_s)}"


def usage_section(grouping: Grouping, days: int, totals: Sequence[Total]) -> Section:
    """Sums of requests."""
    rows = tuple(
        (
            total.name or "(none)",
            f"{total.requests:,}",
            f"{total.failed:,}",
            format_tokens(total.prompt_tokens),
            format_tokens(total.cached_tokens),
            format_tokens(total.generated_tokens),
            format_tokens(total.trimmed_tokens),
            _wait(total.queue_s),
            f"{total.loads:,} x {_wait(total.load_s)}" if total.loads else "none",
            _wait(total.answer_s),
            "?" if total.decode_tokens_per_s is None else format_rate(total.decode_tokens_per_s),
        )
        for total in totals
    )
    header = (
        grouping.value,
        "requests",
        "failed",
        "prompt",
        "from cache",
        "generated",
        "trimmed",
        "in line",
        "loads",
        "then first token",
        "decode",
    )
    title = "Requests of the last day" if days == 1 else f"Requests of the last {days} days"
    return Section(title=title, rows=rows, header=header)


def _wait(seconds: Seconds | None) -> str:
    return "?" if seconds is None else format_seconds(seconds)
