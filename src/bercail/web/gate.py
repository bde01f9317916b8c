"""Who may come in: the key of a request, what it opens, what it has used, and what is kept of the request."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from bercail.core.access import (
    DAY_S,
    Key,
    Scope,
    Usage,
    declared_keys,
    model_refusal,
    refusal,
    required,
    unknown,
    whose,
    whose_declared,
)
from bercail.core.alike import names_there
from bercail.core.chat import ApiError
from bercail.core.configuration import SESSION_HEADERS, Profiles, SideRule
from bercail.core.errors import NotFoundError, StoreError
from bercail.core.news import Reloaded
from bercail.core.overflow import Overflow, decided
from bercail.core.route import ServedModel
from bercail.core.units import Seconds
from bercail.ports import Host, Keyring, Lease, Ledger, Watch
from bercail.web import asgi
from bercail.web.errors import ReplyError
from bercail.web.record import Record

_log = logging.getLogger(__name__)

SESSION_LETTERS = 128
_HEADERS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_QUERY = frozenset(("key", "api_key", "api-key", "apikey", "access_token", "token"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request that came in.

    Attributes:
        key: None where none is asked for.
        entered: it works an engine, and is in the books.
    """

    key: Key | None = None
    entered: bool = False

    @property
    def share(self) -> tuple[str, int]:
        """Whose share of an engine it takes, and its priority."""
        return ("", 0) if self.key is None else (self.key.id, self.key.priority)

    @property
    def may_manage(self) -> bool:
        """Whether it may say what stays in memory."""
        return self.key is None or self.key.may(Scope.ADMIN)

    def check(self, model: ServedModel) -> None:
        """Refuse a model that its key may not use.

        Raises:
            ReplyError: in words, with status 403.
        """
        if self.key is not None and (refused := model_refusal(self.key, model.id)):
            raise ReplyError(refused)

    @property
    def may_be_captured(self) -> bool:
        """Whether its texts may be kept where texts are."""
        return self.key is None or self.key.capture

    def overflow(self, model: ServedModel, otherwise: Overflow) -> Overflow:
        """What becomes of a prompt that is too long: as its key says, else as the model does, else as the server."""
        return decided(self.key.overflow if self.key else None, model.overflow, otherwise)

    def sees(self, host: Host) -> Host:
        """The host as this visitor sees it."""
        return host if self.key is None or not self.key.models else _Narrow(host, self.key)


_UNASKED = Visit()
_ENTERED = Visit(entered=True)


class Gate:
    """Lets requests in, and keeps the books.

    Args:
        keyring: the API keys, or None for none.
        ledger: the record of requests, or None for none.
        require: ``server.require_key``.
        clock: seconds that only grow.
        wall: unix seconds.

    Attributes:
        sessions: headers that name the session of a request, the first that it carries.
    """

    def __init__(
        self,
        keyring: Keyring | None = None,
        ledger: Ledger | None = None,
        *,
        require: str = "auto",
        clock: Callable[[], Seconds] = time.monotonic,
        wall: Callable[[], Seconds] = time.time,
    ) -> None:
        self._keyring = keyring
        self.ledger = ledger
        self._require = require
        self._clock = clock
        self.wall = wall
        self._usages: dict[str, Usage] = {}
        self._declared: tuple[Key, ...] = ()
        self.take_sessions(SESSION_HEADERS)

    def take_keys(self, tokens: Sequence[str]) -> None:
        """From now on let in whoever shows one of these keys, which a configuration holds."""
        self._declared = declared_keys(tokens)

    def take_sessions(self, headers: Sequence[str]) -> None:
        """From now on keep, with each request, what the first of these headers that it carries holds."""
        self.sessions = tuple(headers)
        self._session_headers = _lower(headers)

    def remember(self) -> None:
        """What keys have used within the last day, as recorded: a restart gives nobody a new quota."""
        wall_s, now_s = self.wall(), self._clock()
        try:
            found = self.ledger.spent(wall_s - DAY_S) if self.ledger else ()
        except StoreError as error:
            _log.warning("the quotas of API keys begin anew: %s", error)
            return
        for spent in found:
            at_s = now_s - max(0.0, wall_s - spent.at_s)
            usage = self._usages.get(spent.key_id) or Usage()
            self._usages[spent.key_id] = usage.charged(spent.tokens, at_s)

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in without a key."""
        keys = self._keyring.keys() if self._keyring else None
        return not required(self._require, keys, declared=bool(self._declared))

    def admit(self, scope: asgi.Scope, need: Scope | None) -> Visit:
        """Let a request in that is answered at once; where ``need`` is None, any key in force will do.

        Raises:
            ReplyError: 401 without a key in force, 403 with one that does not open this.
        """
        keys = self._keyring.keys() if self._keyring else None
        declared = self._declared
        if not required(self._require, keys, declared=bool(declared)):
            return _UNASKED
        token = _token(scope)
        key = whose(token, keys or {}) or whose_declared(token, declared) if token else None
        if key is None:
            raise ReplyError(unknown(token, keys, declared=bool(declared)))
        usage = self._usages.get(key.id) or Usage()
        if error := refusal(key, need, usage, wall_s=self.wall(), now_s=self._clock()):
            raise ReplyError(error)
        return Visit(key=key)

    def enter(self, scope: asgi.Scope, record: Record) -> Visit:
        """Let a request in that works an engine; it must ``leave``.

        Raises:
            ReplyError: as ``admit``, or 429 while its key has used what it may.
        """
        visit = self.admit(scope, Scope.INFERENCE)
        record.session = _session(scope["headers"], self._session_headers)
        if visit.key is not None:
            record.key_id = visit.key.id
            self._usages[visit.key.id] = (self._usages.get(visit.key.id) or Usage()).entered()
        return Visit(key=visit.key, entered=True) if visit.key is not None else _ENTERED

    def leave(self, visit: Visit | None, record: Record, headers: asgi.Headers) -> None:
        """A request has ended: charge its key, and keep what is known of it.

        Args:
            visit: None if it never came in; of those nothing is kept, for anybody could fill the record with them,
                nor of visits that only looked.
            record: of the request.
            headers: of its answer.
        """
        if visit is None or not visit.entered:
            return
        if visit.key is not None:
            usage = self._usages[visit.key.id]
            self._usages[visit.key.id] = usage.left(record.charged_tokens, self._clock())
        if self.ledger is not None:
            record.content_type = asgi.content_type(headers)
            self.ledger.note(record.entry(self.wall(), self._clock()))


def _lower(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode("latin-1", "replace") for name in names)


def _session(headers: asgi.Headers, names: Sequence[bytes]) -> str:
    """What names the session of a request, its first ``SESSION_LETTERS``; empty if nothing does."""
    found = dict(headers)
    for name in names:
        if name in found and (value := found[name].decode("latin-1").strip()):
            return value[:SESSION_LETTERS]
    return ""


def _token(scope: asgi.Scope) -> str | None:
    """The key that a request shows, or None.

    Raises:
        ReplyError: it shows two, or shows one where it would be written into logs.
    """
    shown: str | None = None
    for name, value in scope["headers"]:
        if name in _HEADERS and (found := _bare(name, value)):
            if shown not in (None, found):
                raise ReplyError(_unclear("the request carries two different API keys; send one", "two_api_keys"))
            shown = found
    query = scope.get("query_string", b"")
    if query and any(name in _QUERY for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)):
        words = (
            "an API key in the address ends up in logs; send it as `Authorization: Bearer bk-...`, and revoke this one"
        )
        raise ReplyError(_unclear(words, "api_key_in_address"))
    return shown


def _bare(name: bytes, value: bytes) -> str | None:
    """The key in a header; None if it is another kind of authorization."""
    text = value.decode("latin-1").strip()
    if name != b"authorization":
        return text or None
    kind, _, rest = text.partition(" ")
    return rest.strip() or None if kind.lower() == "bearer" else None


def _unclear(words: str, code: str) -> ApiError:
    return ApiError(status=401, message=words, kind="authentication_error", code=code)


class _Narrow:
    """A host of which only the models that a key may use are seen (``ports.Host``)."""

    def __init__(self, host: Host, key: Key) -> None:
        self._host = host
        self._key = key

    def models(self) -> tuple[ServedModel, ...]:
        """Those the key may use."""
        return tuple(model for model in self._host.models() if self._key.may_use(model.id))

    def find(self, model_id: str) -> ServedModel:
        """The model of that name.

        Raises:
            NotFoundError: there is none; names those that the key may use.
            ReplyError: there is, but the key may not use it.
        """
        try:
            found = self._host.find(model_id)
        except NotFoundError as error:
            names = [model.id for model in self.models() if not model.unlisted]
            hint = names_there(model_id, names) if names else "there are: none for this API key"
            raise NotFoundError(error.message, hint=hint, code=error.code) from error
        if refused := model_refusal(self._key, found.id):
            raise ReplyError(refused)
        return found

    async def load(self, model_id: str) -> None:
        """Bring in a model that was found."""
        await self._host.load(model_id)

    async def unload(self, model_id: str) -> None:
        """Let go of a model that was found."""
        await self._host.unload(model_id)

    def stay(self, model_id: str, stay_s: Seconds) -> str:
        """How long a model that was found may idle."""
        return self._host.stay(model_id, stay_s)

    def profiles(self) -> Profiles:
        """Those of the host, with what of their names the key may use."""
        profiles = self._host.profiles()
        known = tuple(replace(one, pins=dict(filter(self._may_know, one.pins.items()))) for one in profiles.known)
        return replace(profiles, known=known)

    def _may_know(self, pin: tuple[str, str | None]) -> bool:
        return pin[1] is None or self._key.may_use(pin[1])

    def switch(self, profile: str) -> None:
        """Nothing: it would change the names of models that the key may not use.

        Raises:
            ReplyError: always, with status 403.
        """
        words = "profiles are of all models, and this API key is of some"
        raise ReplyError(ApiError(status=403, message=words, kind="permission_error", code="model_forbidden"))

    def side_rules(self) -> Sequence[SideRule]:
        """Those of the host."""
        return self._host.side_rules()

    async def reload(self) -> Reloaded:
        """Nothing: it would change models that the key may not use.

        Raises:
            ReplyError: always, with status 403.
        """
        words = "the configuration is of all models, and this API key is of some"
        raise ReplyError(ApiError(status=403, message=words, kind="permission_error", code="model_forbidden"))

    async def lease(
        self,
        model_id: str,
        key: str = "",
        priority: int = 0,
        *,
        substitutes: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> Lease:
        """A lease on a model that was found."""
        return await self._host.lease(model_id, key, priority, substitutes=substitutes, watch=watch)

    def glance(self, model_id: str) -> Lease | None:
        """A lease on a model that was found, which counts for nothing."""
        return self._host.glance(model_id)
