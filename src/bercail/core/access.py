"""API keys: what one is, what its holder may do, and why a request is turned away.

A key is 256 random bits, shown once. Kept is its SHA-256: a slow hash would protect words that people choose, which can
be guessed; of 2**256 there is nothing to guess, and every request would pay for the slowness.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from hmac import compare_digest

from bercail.core.chat import KINDS, ApiError
from bercail.core.errors import UsageError
from bercail.core.overflow import Overflow
from bercail.core.quota import Window
from bercail.core.units import Seconds, Tokens

PREFIX = "bk-"
SECRET_BYTES = 32
ID_BYTES = 4
MINUTE_S: Seconds = 60.0
DAY_S: Seconds = 86_400.0
PATIENT_S = 60
"""A wait that clients are asked to sit out by themselves; a longer one is left to people."""


class Scope(StrEnum):
    """What a key opens."""

    INFERENCE = "inference"
    """Everything that reaches an engine."""
    MODELS = "models"
    """Lists of models, their states, and metrics."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a key may use; None is no limit.

    Attributes:
        tokens_per_minute: prompt tokens worked through and tokens generated; those found in a cache are free.
        tokens_per_day: the same within 24 hours.
        concurrency: requests at once.
    """

    tokens_per_minute: Tokens | None = None
    tokens_per_day: Tokens | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key as it is kept.

    Attributes:
        id: public, part of the key itself.
        name: whose it is, in the owner's words; unique among keys in force.
        hash: SHA-256 of the whole key in hexadecimal.
        models: patterns (``*``, ``?``, ``[...]``) of the ids of models it may use; empty is all.
        priority: in the queue for a model; 0 is ordinary; the higher, the sooner.
        overflow: what becomes of its prompts that are too long; None leaves it to the model.
        capture: its texts may be kept where the owner has texts kept.
        created_s, expires_s, revoked_s: unix seconds; None is never.
    """

    id: str
    name: str
    hash: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    priority: int = 0
    overflow: Overflow | None = None
    capture: bool = True
    created_s: Seconds
    expires_s: Seconds | None = None
    revoked_s: Seconds | None = None

    def may_use(self, model_id: str) -> bool:
        """Whether it may use a model."""
        return not self.models or any(fnmatchcase(model_id, pattern) for pattern in self.models)

    def may(self, scope: Scope) -> bool:
        """Whether it opens ``scope``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def in_force(self, wall_s: Seconds) -> bool:
        """Whether it is neither revoked nor over."""
        return self.revoked_s is None and (self.expires_s is None or wall_s < self.expires_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a key has used so far.

    Attributes:
        running: requests that came in and have not ended.
    """

    minute: Window = field(default_factory=lambda: Window(span_s=MINUTE_S))
    day: Window = field(default_factory=lambda: Window(span_s=DAY_S))
    running: int = 0

    def entered(self) -> "Usage":
        """With one request more."""
        return Usage(minute=self.minute, day=self.day, running=self.running + 1)

    def left(self, tokens: Tokens, now_s: Seconds) -> "Usage":
        """With one request less, which took ``tokens``."""
        if not tokens:
            return Usage(minute=self.minute, day=self.day, running=self.running - 1)
        minute, day = self.minute.charged(tokens, now_s), self.day.charged(tokens, now_s)
        return Usage(minute=minute, day=day, running=self.running - 1)

    def charged(self, tokens: Tokens, now_s: Seconds) -> "Usage":
        """With ``tokens`` more."""
        if not tokens:
            return self
        minute, day = self.minute.charged(tokens, now_s), self.day.charged(tokens, now_s)
        return Usage(minute=minute, day=day, running=self.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """What a key is to be; each member as in ``Key``."""

    name: str
    scopes: tuple[Scope, ...] = (Scope.INFERENCE, Scope.MODELS)
    models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    priority: int = 0
    overflow: Overflow | None = None
    capture: bool = True
    expires_s: Seconds | None = None


def mint(wish: KeyWish, secret: bytes, wall_s: Seconds) -> tuple[Key, str]:
    """A new key and the text that its holder is given.

    Args:
        wish: what it is to be.
        secret: 4 random bytes for its id and 32 for what nobody can guess.
        wall_s: unix seconds.
    """
    key_id = secret[:ID_BYTES].hex()
    token = f"{PREFIX}{key_id}-{urlsafe_b64encode(secret[ID_BYTES:]).decode().rstrip('=')}"
    made = Key(
        id=key_id, name=wish.name, hash=digest(token), scopes=wish.scopes, models=wish.models, limits=wish.limits,
        priority=wish.priority, overflow=wish.overflow, capture=wish.capture, created_s=wall_s,
        expires_s=wish.expires_s,
    )  # fmt: skip
    return made, token


def digest(token: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def whose(token: str, keys: Mapping[str, Key]) -> Key | None:
    """The key that ``token`` is, in force or not; compared in constant time."""
    key = keys.get(token.removeprefix(PREFIX).partition("-")[0]) if token.startswith(PREFIX) else None
    return key if key is not None and compare_digest(key.hash, digest(token)) else None


def declared_keys(tokens: Iterable[str]) -> tuple[Key, ...]:
    """The keys that a configuration holds: they open everything, without limits.

    They are told apart by their place in the file: people choose them, and part of a hash would help to guess a word.
    """
    return tuple(
        Key(id=f"config-{number}", name=f"apiKeys {number}", hash=digest(token), scopes=(Scope.ADMIN,), created_s=0.0)
        for number, token in enumerate(tokens, 1)
    )


def whose_declared(token: str, declared: Iterable[Key]) -> Key | None:
    """The key of a configuration that ``token`` is; all are compared, each in constant time."""
    shown, found = digest(token), None
    for key in declared:
        if compare_digest(key.hash, shown):
            found = key
    return found


def required(setting: str, keys: Mapping[str, Key] | None, *, declared: bool = False) -> bool:
    """Whether a request needs a key.

    Args:
        setting: ``server.require_key``.
        keys: every key, or None if none was ever made. Revoking the last one opens nothing.
        declared: a configuration holds keys.
    """
    return setting == "always" or (setting == "auto" and (keys is not None or declared))


def shown(token: str) -> tuple[tuple[bytes, bytes], ...]:
    """The header that shows a key to a server; none for an empty key."""
    return ((b"authorization", f"Bearer {token}".encode("latin-1", "replace")),) if token else ()


def unknown(token: str | None, keys: Mapping[str, Key] | None, *, declared: bool = False) -> ApiError:
    """The refusal of a request whose key is missing or none of ours; nothing of the key is repeated.

    Args:
        token: what was shown, or None.
        keys: every key, or None if none was ever made.
        declared: a configuration holds keys.
    """
    if not keys and not declared:
        hint = "the server's owner makes one with `bercail keys create NAME`"
        return _refused(401, f"this server needs an API key, and has none: {hint}", "no_keys")
    if token is None:
        return _refused(401, "this server needs an API key; send it as `Authorization: Bearer ...`", "missing_api_key")
    why = (
        "it is none of this server's"
        if declared or token.startswith(PREFIX)
        else f"keys of this server begin with {PREFIX}"
    )
    return _refused(401, f"the API key is wrong: {why}", "invalid_api_key")


def refusal(key: Key, scope: Scope | None, usage: Usage, *, wall_s: Seconds, now_s: Seconds) -> ApiError | None:
    """Why the holder of ``key`` may not come in now; None if nothing is against it.

    Tokens are charged when an answer has ended, so a request comes in as long as anything is left: a limit is passed by
    no more than the answers that were running at once.

    Args:
        key: the holder's.
        scope: what the request needs, or None if any key will do.
        usage: of this key so far.
        wall_s: unix seconds.
        now_s: on the clock of ``usage``.
    """
    if not key.in_force(wall_s):
        what = "was revoked" if key.revoked_s is not None else f"expired on {format_moment(key.expires_s or 0.0)}"
        code = "revoked_api_key" if key.revoked_s is not None else "expired_api_key"
        return _refused(401, f"the API key {key.id} {what}; ask the server's owner for another", code)
    if scope is not None and not key.may(scope):
        has = ", ".join(key.scopes)
        return _refused(403, f"this needs the scope {scope}; the API key {key.id} has {has}", "missing_scope")
    return _spent(key, usage, now_s) if scope is Scope.INFERENCE else None


def _spent(key: Key, usage: Usage, now_s: Seconds) -> ApiError | None:
    limits = key.limits
    if limits.concurrency is not None and usage.running >= limits.concurrency:
        words = f"the API key {key.id} may run {_counted(limits.concurrency, 'request')} at once, and does"
        return _refused(429, f"{words}; try again when one has ended", "concurrency_exceeded")
    minute, day = usage.minute, usage.day
    minute_s = 0 if limits.tokens_per_minute is None else minute.wait_s(limits.tokens_per_minute, now_s)
    day_s = 0 if limits.tokens_per_day is None else day.wait_s(limits.tokens_per_day, now_s)
    if not minute_s and not day_s:
        return None
    span, window, limit = ("day", day, limits.tokens_per_day) if day_s > minute_s else (
        "minute", minute, limits.tokens_per_minute
    )  # fmt: skip
    wait_s = max(minute_s, day_s)
    spent = f"{_counted(window.spent(now_s), 'token')} of {limit:,} a {span}"
    words = f"the API key {key.id} has used {spent}; there is room again in {wait_s:,} s"
    made = _refused(429, words, f"tokens_per_{span}_exceeded")
    return replace(made, retry_after_s=wait_s, final=wait_s > PATIENT_S)


def model_refusal(key: Key, model_id: str) -> ApiError | None:
    """Why the holder of ``key`` may not use a model; None if he may."""
    if key.may_use(model_id):
        return None
    words = f"the API key {key.id} may not use {model_id}; it may use {', '.join(key.models)}"
    return _refused(403, words, "model_forbidden", param="model")


def _refused(status: int, message: str, code: str, *, param: str | None = None) -> ApiError:
    return ApiError(status=status, message=message, kind=KINDS[status], param=param, code=code)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


_DURATION = re.compile(r"\s*(\d+)\s*(m|min|h|d|w)\s*", re.ASCII)
_UNITS_S = {"m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S = 100 * 366 * 86_400


def parse_expiry(text: str, wall_s: Seconds) -> Seconds:
    """Unix seconds of the moment that ``90d``, ``12h``, ``2w`` from now, or ``2027-01-31`` (0:00 UTC), means.

    Raises:
        UsageError: it is no such text, or the moment has passed, or is more than a hundred years away.
    """
    found = _DURATION.fullmatch(text[:64])
    try:
        moment_s = (
            wall_s + int(found[1]) * _UNITS_S[found[2]]
            if found
            else datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        )
    except ValueError as error:
        hint = "write 90d, 12h, 2w, or a day such as 2027-01-31"
        raise UsageError(f"{text[:64]!r} is no moment at which a key expires", hint=hint) from error
    if not wall_s < moment_s < wall_s + _LONGEST_S:
        hint = f"it is {format_moment(wall_s)} now; a key may last up to a hundred years"
        raise UsageError(f"a key cannot expire at {text.strip()!r}", hint=hint)
    return moment_s


def format_moment(wall_s: Seconds) -> str:
    """A moment for people: ``2027-01-31 00:00 UTC``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_scopes(words: Iterable[str]) -> tuple[Scope, ...]:
    """Scopes from their words, each once, in their usual order.

    Raises:
        UsageError: one is unknown.
    """
    asked = set(words)
    if strange := asked - set(Scope):
        known = ", ".join(Scope)
        raise UsageError(f"there is no scope {min(strange)!r}", hint=f"there are {known}")
    return tuple(scope for scope in Scope if scope in asked)
