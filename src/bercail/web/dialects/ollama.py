"""Ollama's interface: requests put into the words of our engines, answers put into Ollama's."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial

from msgspec import Raw, json

from bercail import __version__
from bercail.core import access
from bercail.core.chat import ApiError, Json, engine_refusal, splice
from bercail.core.dialect import Form
from bercail.core.model import Capability
from bercail.core.ollama import Way, Wish, found_name, lacking, model_in, notes, read_chat, read_embed, read_generate
from bercail.core.ollama_reply import INTERFACE, Reply, embeddings, loaded, running, shown, vectors, whole
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.ports import Host, Lease, UpstreamResponse
from bercail.web.asgi import JSON, Headers, Scope
from bercail.web.aside import look_aside
from bercail.web.desk import Answer, Desk, Errand, Notice, notice, take_body
from bercail.web.dialects.retelling import Notes, retold
from bercail.web.errors import ReplyError, check_needs, written
from bercail.web.filling import check_gap, filled
from bercail.web.media import check_media
from bercail.web.models import listing
from bercail.web.relay import Outgoing, exchange, incomplete
from bercail.web.request import decoded, encoded
from bercail.web.sse import DONE, Splitter, parse, split
from bercail.web.turn import Stream, Turn

_decoder = json.Decoder(dict[str, object])
_GETS = ("/api/tags", "/api/ps", "/api/version")
METHODS = dict.fromkeys(_GETS, ("GET",)) | dict.fromkeys(
    ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"), ("POST",)
)
_NOT_HERE = ("/api/pull", "/api/push", "/api/create", "/api/delete", "/api/copy")
_STREAM = b'"stream":true,"return_progress":true,"stream_options":{"include_usage":true}'
_LINES: Headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-cache")]


class Ollama:
    """Everything below ``/api/``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._notes = Notes()
        self._posts: dict[str, Errand] = {
            "/api/chat": self._errand("api/chat", partial(self._generate, read_chat, chat=True)),
            "/api/generate": self._errand("api/generate", partial(self._generate, read_generate, chat=False)),
            "/api/embed": self._errand("api/embed", partial(self._embed, "input")),
            "/api/embeddings": self._errand("api/embeddings", partial(self._embed, "prompt")),
            "/api/show": Errand(label="api/show", form=Form.OLLAMA, attempt=self._show, need=access.Scope.MODELS),
        }

    @staticmethod
    def _errand(label: str, attempt: Callable[..., object]) -> Errand:
        return Errand(label=label, form=Form.OLLAMA, attempt=attempt)  # type: ignore[arg-type] # partials lose it

    def look_up(self, method: str, path: str) -> Errand | Notice | None:
        """An errand, an answer, or None for a path that Ollama does not have."""
        if path in _NOT_HERE or path.startswith("/api/blobs"):
            words = "models are files of this machine's owner; nothing is fetched, made or deleted over the network"
            return _refused(ApiError(status=403, message=words, code="models_are_files"))
        allowed = ("POST",) if path in self._posts else ("GET", "HEAD") if path in _GETS else ()
        if not allowed:
            return None
        if method == "OPTIONS":
            return notice((204, [(b"allow", ", ".join((*allowed, "OPTIONS")).encode())], b""))
        if method not in allowed:
            words = f"{path} takes {', '.join(allowed)}, not {method}"
            return _refused(ApiError(status=405, message=words, code="method_not_allowed"))
        if path in self._posts:
            return self._posts[path]
        return Notice(tell=partial(_read, path), form=Form.OLLAMA, need=access.Scope.MODELS)

    def _find(self, turn: Turn, name: str) -> ServedModel:
        known = {model.id for model in self._desk.host.models()}
        return self._desk.find(turn, found_name(name, known.__contains__))

    async def _show(self, turn: Turn, scope: Scope) -> None:
        body = decoded(_decoder, await take_body(turn, scope, self._desk))
        model = self._find(turn, model_in(body))
        turn.record.model = model.id
        await turn.whole(200, [JSON], json.encode(shown(model, _listed(model))))

    async def _generate(self, read: Callable[[Json], Wish], turn: Turn, scope: Scope, *, chat: bool) -> None:
        wish = read(decoded(_decoder, await take_body(turn, scope, self._desk)))
        model = self._find(turn, wish.model)
        turn.record.model = model.id
        _check(wish, model)
        if wish.unloads:
            await self._unload(turn, wish, model, chat=chat)
            return
        if wish.gap:
            check_gap(model)
        payload = encoded(wish.body)
        check_media(payload, model)
        if wish.way is Way.CHAT:
            look_aside(self._desk, turn, scope, model, payload)
        turn.payload = splice(payload, _STREAM)
        begun_s = self._desk.clock()
        reply = Reply(model=wish.model or model.id, chat=chat)
        if wish.stream and wish.way is not Way.NONE:
            turn.stream = Stream(
                turn.send,
                self._desk.silence,
                ping=_line(reply.piece(_now())),
                headers=_LINES,
                voice=_silent,
                push=scope.get("push"),
            )

        async def use(lease: Lease) -> None:
            reply.load_s = self._desk.clock() - begun_s
            if turn.record.model != model.id:
                reply.model = lease.model.id
            _check(wish, lease.model)
            told = self._tell(turn, wish, lease.model)
            if wish.way is Way.NONE:
                made = loaded(reply.model, _now(), reply.load_s, chat=chat)
                await turn.whole(200, [JSON, *told], json.encode(made))
                return
            if turn.stream is not None:
                turn.stream.headers = [*turn.stream.headers, *told]
            if wish.gap:
                turn.payload = await filled(self._desk.upstream, lease, turn.payload)
            take = partial(self._take, turn, reply, told, begun_s)
            await exchange(self._desk.upstream, turn, lease, Outgoing(target=wish.way.value), take)

        await self._desk.lend(turn, model, use)
        self._let_go(turn, wish, model)

    async def _take(
        self,
        turn: Turn,
        reply: Reply,
        told: Headers,
        begun_s: Seconds,
        response: UpstreamResponse,
        chunks: AsyncIterator[bytes],
    ) -> None:
        """Put the engine's stream into lines, or all lines into one answer."""
        if turn.stream is None:
            pieces = await self._gathered(turn, reply, chunks)
            turn.record.read_timings(reply.counts())
            last = reply.end(_now(), self._desk.clock() - begun_s)
            return await turn.whole(200, [JSON, *told], json.encode(whole(pieces, last)))

        def tell(events: bytes) -> bytes:
            return b"".join(_line(piece) for piece in self._pieces(turn, reply, events))

        def brief(words: bytes) -> bytes:
            return _line(reply.piece(_now(), Raw(words)))

        said = await retold(turn, response, chunks, tell, brief=brief, last=_is_last)
        turn.record.read_timings(reply.counts())
        await turn.end_stream(said + _line(reply.end(_now(), self._desk.clock() - begun_s)))
        return None

    async def _gathered(self, turn: Turn, reply: Reply, chunks: AsyncIterator[bytes]) -> list[Json]:
        splitter, pieces = Splitter(), list[Json]()
        async for chunk in chunks:
            if turn.record.ttft_s is None:
                turn.record.read_progress(chunk)
            events = splitter.feed(chunk)
            pieces += self._pieces(turn, reply, events)
            if _is_last(events):
                return pieces
        raise incomplete()

    def _pieces(self, turn: Turn, reply: Reply, events: bytes) -> list[Json]:
        made = _pieces(reply, events)
        turn.record.pieces += len(made)
        if reply.begun:
            turn.record.first_piece(self._desk.clock())
        return made

    async def _embed(self, member: str, turn: Turn, scope: Scope) -> None:
        wish = read_embed(decoded(_decoder, await take_body(turn, scope, self._desk)), member)
        model = self._find(turn, wish.model)
        turn.record.model = model.id
        check_needs(Capability.EMBEDDINGS, "/api/embed", model)
        turn.payload = encoded(wish.body)
        begun_s = self._desk.clock()

        async def use(lease: Lease) -> None:
            load_s = self._desk.clock() - begun_s
            check_needs(Capability.EMBEDDINGS, "/api/embed", lease.model)
            told = self._tell(turn, wish, lease.model)

            async def take(response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> None:
                answer = decoded(_decoder, b"".join([chunk async for chunk in chunks]))
                turn.record.first_piece(self._desk.clock())
                turn.record.read_answer(answer)
                total_s = self._desk.clock() - begun_s
                found = vectors(answer)
                one: Json = {"embedding": found[0] if found else []}
                made = embeddings(wish.model, answer, total_s, load_s) if member == "input" else one
                await turn.whole(200, [JSON, *told], json.encode(made))

            await exchange(self._desk.upstream, turn, lease, Outgoing(target="/v1/embeddings"), take)

        await self._desk.lend(turn, model, use)
        self._let_go(turn, wish, model)

    async def _unload(self, turn: Turn, wish: Wish, model: ServedModel, *, chat: bool) -> None:
        """Let go of a model that nobody else uses; one that is not there is not loaded for that."""
        is_in = model.phase in (Phase.LOADED, Phase.LOADING)
        refused = _forbidden(turn) or (self._desk.host.stay(model.id, 0) if is_in else "")
        made = loaded(wish.model or model.id, _now(), 0, chat=chat, reason="load" if refused and is_in else "unload")
        await turn.whole(200, [JSON, *self._notes.headers(model, (refused,) if refused else ())], json.encode(made))

    def _let_go(self, turn: Turn, wish: Wish, model: ServedModel) -> None:
        """Unload a model after the answer, if that is asked for and nobody else uses it."""
        if wish.stay_s == 0 and not _forbidden(turn):
            self._desk.host.stay(model.id, 0)

    def _tell(self, turn: Turn, wish: Wish, model: ServedModel) -> Headers:
        """Let the model stay as long as it is to; what is not done as asked is told."""
        refused = _forbidden(turn) if wish.stay_s is not None else ""
        if wish.stay_s and not refused:
            refused = self._desk.host.stay(model.id, wish.stay_s)
        return self._notes.headers(model, (*notes(wish, model), refused) if refused else notes(wish, model))


def _forbidden(turn: Turn) -> str:
    """Why the sender of a request may not say how long a model stays; empty if he may."""
    if turn.visit is None or turn.visit.may_manage:
        return ""
    return "keep_alive is not heeded: how long a model stays is up to keys of the scope admin"


def _read(path: str, host: Host) -> Answer:
    models, found = host.models(), dict[str, object]()
    match path:
        case "/api/version":
            found = {"version": INTERFACE, "server": "bercail", "server_version": __version__}
        case "/api/ps":
            pairs = [(model, _listed(model)) for model in models]
            found = {"models": [made for model, listed in pairs if (made := running(model, listed)) is not None]}
        case _:
            found = {"models": listing(models)["models"]}
    return 200, [JSON], json.encode(found)


def _check(wish: Wish, model: ServedModel) -> None:
    """Refuse what cannot be done.

    Raises:
        ReplyError: in words.
    """
    if words := lacking(wish, model):
        raise ReplyError(ApiError(status=400, message=words, param="model", code="unsupported"))


def _pieces(reply: Reply, events: bytes) -> list[Json]:
    made: list[Json] = []
    for event in split(events):
        found = parse(event)
        if not isinstance(found, dict):
            continue
        if "error" in found:
            raise ReplyError(engine_refusal(200, found))
        piece = reply.take(found, _now())
        if piece is not None:
            made.append(piece)
    return made


def _is_last(events: bytes) -> bool:
    return events.endswith(DONE)


def _silent(_: str) -> bytes:
    """Lines of JSON have no place for comments: empty pieces fill the silence."""
    return b""


def _line(piece: Json) -> bytes:
    return json.encode(piece) + b"\n"


def _listed(model: ServedModel) -> Json:
    found = listing((model,))["models"]
    return found[0] if isinstance(found, list) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _refused(error: ApiError) -> Notice:
    headers, body = written(error, Form.OLLAMA)
    return notice((error.status, headers, body), Form.OLLAMA)
