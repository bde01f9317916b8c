"""The ASGI callable: which request goes where."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from msgspec import json

from bercail.core import access
from bercail.core.chat import ApiError, Endpoint, Json, Way, error_from, forwarded
from bercail.core.dialect import Form
from bercail.core.errors import BercailError, NotFoundError, StoppingError
from bercail.core.options import ServerOptions
from bercail.core.origin import guests, turned_away
from bercail.core.overflow import Overflow
from bercail.core.route import ServedModel
from bercail.core.sample import KEPT_S
from bercail.core.units import Seconds
from bercail.ports import Archive, Host, Lease, Log, Upstream
from bercail.web.asgi import CLOSE, JSON, Receive, Scope, Send, answer, refuse
from bercail.web.aside import look_aside, told_aside
from bercail.web.captures import Captures
from bercail.web.desk import Answer, Desk, Errand, Notice, notice, take_body
from bercail.web.dialects import Dialects
from bercail.web.errors import STOPPING_RETRY_S, ReplyError, api_error, check_capability, check_size, written
from bercail.web.filling import check_gap, filled
from bercail.web.gate import Gate, Visit
from bercail.web.media import check_media
from bercail.web.metrics import CONTENT_TYPE, Metrics
from bercail.web.models import entry, health, listing, lm_studio_entry, lm_studio_listing
from bercail.web.origin import readable
from bercail.web.pages import PATHS as PAGES
from bercail.web.pages import page
from bercail.web.performance import Performance
from bercail.web.record import Record
from bercail.web.relay import Relay
from bercail.web.request import ClientGoneError, peek
from bercail.web.routes import LISTED, unknown_route
from bercail.web.silence import Silence
from bercail.web.tidings import Tidings, as_thought
from bercail.web.turn import Asked, Stream, Turn

_log = logging.getLogger(__name__)

_POSTS: dict[str, Endpoint] = {f"{root}/{one.value}": one for one in Endpoint for root in ("/v1", "")}
_HEALTH = ("/v1/health", "/health", "/wol-health")
_LM_STUDIO = "/api/v0/models"
_GETS = ("/v1/models", "/models", _LM_STUDIO, *_HEALTH, "/metrics", *PAGES)
_MODEL = ("/v1/models/", "/models/", f"{_LM_STUDIO}/")
LEAST_REFUSED = 400
CLIENT_GONE = 499
"""Status in the metrics for a client that left before it was answered; never sent."""


class App:
    """Answers what can be answered here and hands the rest to engines.

    Attributes:
        turns: requests that are running.
        stopping: no new request is taken any more.
        guests: pages of the web that may use the server, and names that it goes by.
    """

    def __init__(
        self,
        host: Host,
        upstream: Upstream,
        options: ServerOptions,
        clock: Callable[[], Seconds],
        gate: Gate | None = None,
        archive: Archive | None = None,
    ) -> None:
        self._host = host
        self._gate = gate or Gate()
        self._numbers = count(1)
        self.turns: set[Turn] = set()
        self._relay = Relay(upstream, clock)
        self._desk = Desk(
            host=host, upstream=upstream, options=options, clock=clock, find=self._find, lend=self._lend,
            stopping=lambda: self.stopping, turns=self.turns, gate=self._gate,
            silence=Silence(hold_s=options.header_hold, keep_alive_s=options.keep_alive),
        )  # fmt: skip
        self._dialects = Dialects(self._desk)
        self._performance = Performance(None, KEPT_S)
        self._overflow = Overflow(options.overflow)
        self._captures = Captures(options.capture, archive=archive)
        self._errands = {one: Errand(label=one.value, attempt=partial(self._chat, one)) for one in Endpoint}
        self.metrics = Metrics()
        self.stopping = False
        self.guests = guests(options.origins, options.hosts)

    def take_log(self, log: Log | None) -> None:
        """Have ``/logs`` tell what stands there; None tells nothing."""
        self._dialects.take_log(log)

    def take_performance(self, performance: Performance) -> None:
        """Have ``/api/performance`` tell what it samples."""
        self._performance = performance

    def take_assets(self, expressions: Sequence[str]) -> None:
        """From now on load no model for paths of an engine that match one of these."""
        self._dialects.take_assets(expressions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"].rstrip("/") or "/"
        send = readable(send, scope["headers"], method, self.guests)
        foreign = turned_away(scope["headers"], self.guests, page=path in PAGES)
        if foreign and self._gate.is_open:
            await refuse(receive, send, *_failed(_foreign(foreign), _form_of(path)))
            return
        endpoint = _POSTS.get(path)
        found: Errand | Notice | None
        if endpoint is not None and method == "POST":
            found = self._errands[endpoint]
        else:
            found = self._captures.look_up(method, path) or self._dialects.look_up(scope, path)
            found = self._performance.look_up(scope, path) or found or self._look_up(method, path)
        if isinstance(found, Errand) and not self._is_bare_preflight(scope):
            await self._serve(found, scope, receive, send)
        elif isinstance(found, Errand):
            await answer(send, 204, [], b"")
        elif path in _HEALTH and method in ("GET", "HEAD"):
            await answer(send, *self._health(scope))
        elif shown := page(method, path, scope["headers"]):
            await answer(send, *shown)
        else:
            told = self._tell(found, scope)
            await (answer(send, *told) if told[0] < LEAST_REFUSED else refuse(receive, send, *told))

    def _is_bare_preflight(self, scope: Scope) -> bool:
        """A browser asks for leave to use an engine's own path, and shows no key: it never does when it asks."""
        if scope["method"] != "OPTIONS" or all(name != _PREFLIGHT for name, _ in scope["headers"]):
            return False
        try:
            self._gate.admit(scope, None)
        except (ReplyError, BercailError):
            return True
        return False

    def _tell(self, found: Notice, scope: Scope) -> Answer:
        """What a notice says to the sender of a request; a preflight needs no key."""
        try:
            preflight = scope["method"] == "OPTIONS"
            host = self._host if preflight else self._gate.admit(scope, found.need).sees(self._host)
            return found.tell(host)
        except (ReplyError, BercailError) as fault:
            return _failed(_told(fault), found.form)

    def _health(self, scope: Scope) -> Answer:
        """How the server is; without a key no more than that."""
        try:
            host: Host | None = self._gate.admit(scope, access.Scope.MODELS).sees(self._host)
        except (ReplyError, BercailError):
            host = None
        status, found = (503, _STOPPING) if self.stopping else health((host or self._host).models())
        return status, [JSON], json.encode(found if host else {"status": found["status"]})

    def _look_up(self, method: str, path: str) -> Notice:
        """Everything that needs no engine."""
        known = path in _GETS or path.startswith(_MODEL)
        allowed = "GET, HEAD, OPTIONS" if known else "POST, OPTIONS" if path in _POSTS else ""
        if not allowed:
            form = _form_of(path)
            return notice(_failed(unknown_route(path), form), form)
        allow = (b"allow", allowed.encode())
        if method == "OPTIONS":
            return notice((204, [allow], b""))
        if method not in allowed.split(", "):
            message = f"{path[:200]} takes {allowed}, not {method}"
            status, headers, body = _failed(ApiError(status=405, message=message, code="method_not_allowed"))
            return notice((status, [*headers, allow], body))
        return Notice(tell=partial(self._get, path), need=access.Scope.MODELS)

    def _get(self, path: str, host: Host) -> Answer:
        models = host.models()
        match path:
            case "/v1/models" | "/models":
                return 200, [JSON], json.encode(listing(models))
            case "/api/v0/models":
                return 200, [JSON], json.encode(lm_studio_listing(models))
            case "/metrics" if host is not self._host:
                return _failed(_METRICS)
            case "/metrics":
                return 200, [(b"content-type", CONTENT_TYPE)], self.metrics.text(models)
            case "/":
                hint = {"server": "bercail", "routes": ", ".join(LISTED), "models": [model.id for model in models]}
                return 200, [JSON], json.encode(hint)
            case _:
                told = lm_studio_entry if path.startswith(_LM_STUDIO) else entry
                return 200, [JSON], json.encode(told(host.find(path.partition("models/")[2])))

    async def _serve(self, errand: Errand, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request that an engine may be needed for, unless the server is stopping."""
        if self.stopping:
            status, headers, body = self._tell(_stopping(errand), scope)
            return await refuse(receive, send, status, [*headers, CLOSE], body)
        take = self._captures.begin(scope) if errand.need is access.Scope.INFERENCE else None
        if take is not None:
            receive, send = take.hear(receive), take.tell(send)
            scope.pop("whole", None)  # it is heard as it is received
            if "push" in scope:
                scope["push"] = take.push(scope["push"])
        turn = Turn(receive, send, Record(endpoint=errand.label, path=scope["path"]), errand.form)
        turn.asked = self._asked(scope)
        self.turns.add(turn)
        try:
            await self._attempt(turn, errand, scope)
        except CancelledError:
            if not turn.was_stopped():
                raise
            if turn.cut is not None:
                await turn.fail_cut(turn.cut)
        finally:
            turn.close()
            self.turns.discard(turn)
            if turn.gone:
                turn.record.aborted = True
                turn.record.status = turn.record.status or CLIENT_GONE
            turn.record.settle()
            self.metrics.add(turn.record)
            if take is not None:
                self._captures.end(take, turn.record, keep=bool(turn.visit and turn.visit.may_be_captured))
            self._gate.leave(turn.visit, turn.record, turn.answer_headers)

    def _asked(self, scope: Scope) -> Asked:
        client = scope.get("client")
        return Asked(
            next(self._numbers), self._gate.wall(), scope["method"], scope["headers"], client[0] if client else ""
        )

    async def _attempt(self, turn: Turn, errand: Errand, scope: Scope) -> None:
        try:
            if errand.need is access.Scope.INFERENCE:
                turn.visit = self._gate.enter(scope, turn.record)
            else:
                turn.visit = self._gate.admit(scope, errand.need)
            await errand.attempt(turn, scope)
        except ClientGoneError:
            turn.gone = True
        except ReplyError as fault:
            await turn.fail(fault.error)
        except BercailError as error:
            error.__traceback__ = None  # why a model failed is kept for others who ask, and this request not with it
            await turn.fail(api_error(error, started=False))
        except Exception:  # noqa: BLE001 - whatever breaks, the client gets an answer and the log the trace
            _log.exception("a request failed inside the gateway")
            message = "the gateway failed on this request; the server's log has the details"
            await turn.fail(ApiError(status=500, message=message, kind="server_error", code="internal"))

    async def _chat(self, endpoint: Endpoint, turn: Turn, scope: Scope) -> None:
        body = await take_body(turn, scope, self._desk)
        ask = peek(endpoint, body)
        model = self._find(turn, ask.model)
        turn.record.model = model.id
        check_capability(endpoint, model)
        check_media(body, model)
        if model.plain:
            ask = replace(ask, plain=True, gap=False)
        if ask.gap:
            check_gap(model)
        if endpoint is Endpoint.CHAT:
            look_aside(self._desk, turn, scope, model, body)
        turn.payload = forwarded(body, ask)
        del body  # up to the body limit each, and a request may wait for long
        if ask.way is Way.STREAM:
            turn.stream = Stream(turn.send, self._desk.silence, push=scope.get("push"))
            if endpoint is Endpoint.CHAT:
                turn.stream.voice = partial(as_thought, ask.model or model.id)

        async def use(lease: Lease) -> None:
            check_capability(endpoint, lease.model)
            check_size(ask.dimensions, lease.model)
            if ask.gap:
                turn.payload = await filled(self._desk.upstream, lease, turn.payload)
            await self._relay.run(turn, lease, ask)

        await self._lend(turn, model, use)

    def _find(self, turn: Turn, name: str) -> ServedModel:
        """The model that is meant by a name, which may be empty.

        Raises:
            ReplyError: no model at all, none of that name, none named where there are several, or none for its key.
        """
        host = self._desk.sees(turn)
        try:
            found = host.find(name)
            return found if found.asked or not name else replace(found, asked=name)
        except NotFoundError as error:
            if not host.models():
                empty = NotFoundError(error.message, hint=error.hint, code="no_model")
                raise ReplyError(error_from(empty, 503, final=True)) from error
            if not name:
                unnamed = NotFoundError(error.message, hint=error.hint, code="model_required")
                raise ReplyError(error_from(unnamed, 400, param="model")) from error
            raise ReplyError(error_from(error, 404, param="model")) from error

    async def _lend(self, turn: Turn, model: ServedModel, use: Callable[[Lease], Awaitable[None]]) -> None:
        """Wait for the model and this request's turn there, then use it."""
        metrics, visit, asked_s = self.metrics, turn.visit or Visit(), self._desk.clock()
        tells = model.tells_loading and turn.stream and not turn.substitutes
        tidings = Tidings(turn.stream, self._desk.clock) if tells and turn.stream else None
        metrics.queued[model.id] += 1
        try:
            watch = tidings.watch if tidings else None
            name = model.asked or model.id
            lease = await self._host.lease(name, *visit.share, substitutes=turn.substitutes, watch=watch)
        finally:
            metrics.queued[model.id] -= 1
        metrics.running[lease.model.id] += 1
        turn.record.waited(self._desk.clock() - asked_s, lease.load_s)
        try:
            told_aside(turn, model, lease)
            turn.overflow = visit.overflow(lease.model, self._overflow)
            visit.check(lease.model)  # a name may mean one of several models, which one is decided here
            if tidings is not None:
                await tidings.end(lease.model.id)
            await use(lease)
        finally:
            metrics.running[lease.model.id] -= 1
            lease.release()


_STOPPING: Json = {"status": "stopping"}
_PREFLIGHT = b"access-control-request-method"
_METRICS = ApiError(
    status=403,
    message="metrics are of all models, and this API key is of some",
    kind="permission_error",
    code="model_forbidden",
)


def _form_of(path: str) -> Form:
    return Form.OLLAMA if path.startswith("/api/") else Form.OPENAI


def _foreign(words: str) -> ApiError:
    return ApiError(status=403, message=words, kind="permission_error", code="foreign_page")


def _stopping(errand: Errand) -> Notice:
    error = error_from(StoppingError("the server is stopping"), 503, retry_after_s=STOPPING_RETRY_S)
    return Notice(tell=lambda _: _failed(error, errand.form), form=errand.form, need=errand.need)


def _told(fault: ReplyError | BercailError) -> ApiError:
    return fault.error if isinstance(fault, ReplyError) else api_error(fault, started=False)


def _failed(error: ApiError, form: Form = Form.OPENAI) -> Answer:
    headers, body = written(error, form)
    return error.status, headers, body
