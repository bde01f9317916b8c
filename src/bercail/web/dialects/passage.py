"""Endpoints that engines speak themselves: the request goes through as it is, the answer comes back as it is."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import json

from bercail.core import access
from bercail.core.anthropic import BILLING, without_billing
from bercail.core.chat import ApiError, engine_refusal, splice
from bercail.core.dialect import PASSAGES, STATES, Form, Passage, Shape, absent, missing
from bercail.core.folds import fold_of
from bercail.core.passing import form_field, with_field
from bercail.core.route import ServedModel
from bercail.ports import Lease, UpstreamResponse
from bercail.web.asgi import JSON, Push, Scope
from bercail.web.desk import Desk, Errand, lease_at_once, take_body
from bercail.web.dialects.sift import PINGS, Sift, voice
from bercail.web.errors import ReplyError, check_needs
from bercail.web.media import check_parts
from bercail.web.relay import Outgoing, Take, exchange, forward, incomplete, refusal
from bercail.web.request import begins, decoded
from bercail.web.turn import Stream, Turn

First: TypeAlias = Callable[[], None]
"""Is called when the first piece of an answer has come."""


class Peek(msgspec.Struct):
    """The members that are read; all others are skipped unparsed.

    Attributes:
        kind: of a form with files, whose boundary it names.
    """

    model: str | None = None
    stream: bool | None = None
    return_progress: bool | None = None
    n_probs: int | float | None = None
    return_tokens: bool | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    kind: bytes = b""


_decoder = json.Decoder(Peek)
_anything = json.Decoder(dict[str, object])
_PROGRESS = b'"return_progress":true'


class Passages:
    """Endpoints by their paths."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is none of these."""
        return (*(("POST",) if path in PASSAGES else ()), *(("GET", "HEAD") if path in STATES else ()))

    def form(self, path: str) -> Form:
        """The words of a path's errors."""
        return PASSAGES[path].form if path in PASSAGES else Form.OPENAI

    def errand(self, path: str, method: str) -> Errand:
        """What answers a request to one of these paths."""
        if path in STATES and method != "POST":
            return Errand(label=path.lstrip("/"), attempt=partial(self._look, STATES[path]), need=access.Scope.MODELS)
        passage = PASSAGES[path]
        return Errand(label=passage.label, form=passage.form, attempt=partial(self._pass, passage))

    async def _pass(self, passage: Passage, turn: Turn, scope: Scope) -> None:
        body, peek, model = await self.take(passage, turn, scope)
        turn.payload = body
        del body
        self.begin(passage, turn, peek, scope.get("push"))

        async def use(lease: Lease) -> None:
            check(passage, lease.model)
            await self.speak(passage, turn, lease, peek)

        await self._desk.lend(turn, model, use)

    async def take(self, passage: Passage, turn: Turn, scope: Scope) -> tuple[bytes, Peek, ServedModel]:
        """A request's body, what it says, and the model that it is for.

        Raises:
            ReplyError: it is no request, or asks for what the model or its engine cannot do.
        """
        body = await take_body(turn, scope, self._desk)
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        peek = _peek_form(body, kind) if passage.multipart else _peek(passage, body)
        model = self._desk.find(turn, peek.model or "")
        turn.record.model = model.id
        check(passage, model)
        if passage.form in (Form.ANTHROPIC, Form.RESPONSES):
            check_parts(body, model)
        return body, peek, model

    def begin(self, passage: Passage, turn: Turn, peek: Peek, push: Push | None = None) -> None:
        """Begin a stream, if the client asked for one and the endpoint has any."""
        if not (peek.stream and passage.shape is not None):
            return
        turn.stream = Stream(
            turn.send, self._desk.silence, ping=PINGS[passage.form], voice=voice(passage.form), push=push
        )

    async def speak(self, passage: Passage, turn: Turn, lease: Lease, peek: Peek) -> None:
        """Ask the engine in the endpoint's own words, which are the turn's payload, and bring its answer.

        Raises:
            ReplyError: the engine refused the request, failed, or has no such endpoint.
        """
        folded = _is_folded(passage, peek)
        turn.payload = _payload(passage, turn.payload, peek, folded=folded, plain=lease.model.plain)
        headers = [(b"content-type", peek.kind)] if passage.multipart else [JSON]
        if passage.multipart and lease.sent_name:
            turn.payload = with_field(turn.payload, peek.kind, b"model", lease.sent_name.encode())
        outgoing = Outgoing(target=passage.target, headers=headers, as_is=passage.multipart)
        take = self._taker(passage, turn, peek, folded=folded)
        await exchange(
            self._desk.upstream, turn, lease, outgoing, present(passage.target, lease.model, take), refused=False
        )

    def _taker(self, passage: Passage, turn: Turn, peek: Peek, *, folded: bool) -> Take:
        def first() -> None:
            turn.record.first_piece(self._desk.clock())

        async def take(response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> None:
            if passage.shape is not None and turn.stream is not None:
                await _stream(
                    turn, Sift(passage.shape, drop_progress=not peek.return_progress), response, chunks, first
                )
            elif passage.shape is not None and folded:
                await _fold(turn, passage.shape, chunks, first)
            else:
                await _whole(turn, response, chunks, first)

        return take

    async def _look(self, target: str, turn: Turn, scope: Scope) -> None:
        """The state of a loaded model; never loads one."""
        await take_body(turn, scope, self._desk)
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        name = next((value for word, value in query if word == "model"), "")
        model = self._desk.find(turn, name)
        turn.record.model = model.id
        lease = await lease_at_once(self._desk.host, model, turn.visit)
        if lease is None:
            words = f"{model.id} is not loaded, and to look at {target} loads nothing: send it a request first"
            raise ReplyError(ApiError(status=409, message=words, param="model", code="model_not_loaded"))
        try:
            take = self._taker(Passage(label="", target=target), turn, Peek(), folded=False)
            rest = [(word, value) for word, value in query if word != "model"]
            if lease.model.plain and (sent := lease.sent_name or name):  # it may have several models of its own
                rest.append(("model", sent))
            place = f"{target}?{urlencode(rest)}" if rest else target
            outgoing = Outgoing(target=place, method="GET", as_is=True)
            await exchange(
                self._desk.upstream, turn, lease, outgoing, present(target, lease.model, take), refused=False
            )
        finally:
            lease.release()


def _peek(passage: Passage, body: bytes) -> Peek:
    peek = decoded(_decoder, body)
    if passage.requires and not begins(peek.messages, b"["):
        words = f"{passage.requires} must be a list"
        raise ReplyError(ApiError(status=400, message=words, param=passage.requires, code="invalid_type"))
    return peek


def _peek_form(body: bytes, content_type: bytes) -> Peek:
    return Peek(model=form_field(body, content_type, b"model"), kind=content_type)


def check(passage: Passage, model: ServedModel) -> None:
    """Refuse what the engine or the model cannot do.

    Raises:
        ReplyError: in words.
    """
    error = missing(passage, model.engine, on_disk=model.format is not None)
    if error is not None:
        raise ReplyError(error)
    if passage.needs is not None:
        check_needs(passage.needs, passage.target, model)


def _is_folded(passage: Passage, peek: Peek) -> bool:
    """Whether a stream is folded into the one answer that the client asked for."""
    if passage.shape is None or peek.stream:
        return False
    several = passage.shape is Shape.NATIVE and not begins(peek.prompt, b'"')
    return not (several or peek.n_probs or peek.return_tokens)


def _payload(passage: Passage, body: bytes, peek: Peek, *, folded: bool, plain: bool) -> bytes:
    """What the engine gets; one that is not known to be llama.cpp's is asked for no progress."""
    if passage.shape is Shape.MESSAGES and BILLING.encode() in body:
        body = json.encode(without_billing(decoded(_anything, body)))
    told = [b'"stream":true'] if folded else []
    if not plain and (folded or (peek.stream and passage.shape is not None and not peek.return_progress)):
        told.append(_PROGRESS)
    return splice(body, b",".join(told)) if told else body


def present(target: str, model: ServedModel, take: Take) -> Take:
    """``take`` for an endpoint that is there; one that is not is told with the engine's name."""

    async def look(response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> None:
        if response.status == 404:
            raise ReplyError(absent(f"{model.engine or 'the engine'} of {model.id} has no {target}"))
        if response.status != 200:
            raise await refusal(response.status, chunks)
        await take(response, chunks)

    return look


async def _stream(
    turn: Turn, sift: Sift, response: UpstreamResponse, chunks: AsyncIterator[bytes], first: First
) -> None:
    stream, record = turn.stream, turn.record
    if stream is None:
        raise RuntimeError("a stream needs its reply before it begins")
    async for chunk in chunks:
        if record.ttft_s is None:
            record.read_progress(chunk)
        events, error = sift.feed(chunk)
        record.pieces += events.count(b"\n\n")
        if events:
            first()
            record.response_bytes += len(events)
            if sift.ended:
                record.read_pair(sift.counts())
                return await turn.end_stream(events)
            await stream.write(events)
            await response.pour(partial(forward, sift, stream, record))
        if error is not None:
            raise ReplyError(engine_refusal(200, error))
    raise incomplete()


async def _fold(turn: Turn, shape: Shape, chunks: AsyncIterator[bytes], first: First) -> None:
    sift, fold, record = Sift(shape, drop_progress=True), fold_of(shape), turn.record
    async for chunk in chunks:
        if record.ttft_s is None:
            record.read_progress(chunk)
        events, error = sift.feed(chunk)
        record.pieces += events.count(b"\n\n")
        for event in sift.parsed(events):
            fold.add(event)
        if fold.begun:
            first()
        if error is not None:
            raise ReplyError(engine_refusal(200, error))
        if fold.complete:
            answer = json.encode(fold.answer())
            record.read_pair(fold.counts())
            return await turn.whole(200, [JSON], answer)
    raise incomplete()


async def _whole(turn: Turn, response: UpstreamResponse, chunks: AsyncIterator[bytes], first: First) -> None:
    body = b"".join([chunk async for chunk in chunks])
    first()
    turn.record.read_body(body)
    kind = next((value for name, value in response.headers if name == b"content-type"), JSON[1])
    await turn.whole(200, [(b"content-type", kind)], body)
