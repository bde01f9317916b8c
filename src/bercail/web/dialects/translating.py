"""Anthropic's messages and OpenAI's responses: put into the words of its chat, which every engine speaks, and back.

A server that is not known to be llama.cpp's is asked in the dialect's own words first, for it may speak them itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from msgspec import json

from bercail.core.chat import ApiError, Endpoint, Json, engine_refusal, splice
from bercail.core.dialect import PASSAGES, Passage, absent
from bercail.core.fold import Fold
from bercail.core.recast import Wish
from bercail.core.route import ServedModel
from bercail.ports import Lease, UpstreamResponse
from bercail.web.asgi import JSON, Scope
from bercail.web.aside import look_aside
from bercail.web.desk import Desk, Errand
from bercail.web.dialects.passage import Passages, Peek, check, present
from bercail.web.dialects.retelling import Notes, retold
from bercail.web.dialects.tongue import Reply, Tongue, tongue_of, written
from bercail.web.errors import ReplyError
from bercail.web.gathering import Gathering
from bercail.web.relay import Outgoing, Take, exchange, gathered, incomplete
from bercail.web.request import decoded, encoded
from bercail.web.sse import DONE, parse, split
from bercail.web.turn import Turn

_CHAT = Outgoing(target="/v1/chat/completions")
_COUNTER = Outgoing(target="/v1/chat/completions/input_tokens")
_STREAM = b'"stream":true,"stream_options":{"include_usage":true}'
_PROGRESS = b',"return_progress":true'
_VERBOSE = b',"verbose":true'
_decoder = json.Decoder(dict[str, object])
_Way: TypeAlias = Callable[[Turn, Lease], Awaitable[None]]


class Translating:
    """Answers requests for messages and responses, and for their counts."""

    def __init__(self, desk: Desk, passages: Passages) -> None:
        self._desk = desk
        self._passages = passages
        self._notes = Notes()

    def errand(self, path: str) -> Errand:
        """What answers a request to one of ``SPOKEN``."""
        passage = PASSAGES[path]
        return Errand(label=passage.label, form=passage.form, attempt=partial(self._answer, passage))

    async def _answer(self, passage: Passage, turn: Turn, scope: Scope) -> None:
        body, peek, model = await self._passages.take(passage, turn, scope)
        tongue = tongue_of(passage)
        wish = None if model.plain else _read(tongue, body)
        if wish is not None:
            turn.payload = encoded(wish.body)
            # A request may wait for long, so that of one with up to the body limit nothing is kept twice.
            wish = replace(wish, body={"model": peek.model})
            if passage.shape is not None:
                look_aside(self._desk, turn, scope, model, turn.payload)
                body = b""
        self._passages.begin(passage, turn, peek, scope.get("push"))

        async def use(lease: Lease) -> None:
            check(passage, lease.model)
            put = partial(self._put, passage, tongue, wish or body)
            own = partial(self._own, passage, body, peek)
            if lease.model.plain and body:
                await _first((own, partial(self._put, passage, tongue, body)), turn, lease)
            else:
                await _first((put, own) if body else (put,), turn, lease)

        await self._desk.lend(turn, model, use)

    async def _own(self, passage: Passage, body: bytes, peek: Peek, turn: Turn, lease: Lease) -> None:
        """Ask the engine in the dialect's words."""
        turn.payload = body
        await self._passages.speak(passage, turn, lease, peek)

    async def _put(self, passage: Passage, tongue: Tongue, wish: Wish | bytes, turn: Turn, lease: Lease) -> None:
        """Ask the engine in those of OpenAI's chat."""
        if isinstance(wish, bytes):
            wish = _read(tongue, wish)
            turn.payload = encoded(wish.body)
        told = self._notes.headers(lease.model, wish.notes)
        turn.headers += told
        if turn.stream is not None:
            turn.stream.headers = [*turn.stream.headers, *told]
        upstream = self._desk.upstream
        if passage.shape is None:
            take = present(_COUNTER.target, lease.model, partial(self._take_count, tongue, turn))
            await exchange(upstream, turn, lease, _COUNTER, take, refused=False)
            return
        turn.payload = splice(turn.payload, _asked(wish, lease.model))
        name = lease.model.asked or lease.model.id
        take = present(_CHAT.target, lease.model, self._taker(tongue, turn, wish, str(wish.body.get("model") or name)))
        await exchange(upstream, turn, lease, _CHAT, take, refused=False)

    def _taker(self, tongue: Tongue, turn: Turn, wish: Wish, model: str) -> Take:
        name = turn.record.model if turn.substitutes else model
        if turn.stream is not None:
            return partial(self._take_stream, turn, tongue.reply(wish, name))
        return partial(self._take_whole, turn, lambda answer: tongue.whole(answer, wish, name))

    async def _take_stream(
        self, turn: Turn, reply: Reply, response: UpstreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        record, turn.farewell = turn.record, reply.farewell

        def tell(events: bytes) -> bytes:
            record.read_events(events)
            said = b"".join(map(written, _retold(reply, events)))
            if reply.begun:
                record.first_piece(self._desk.clock())
            return said

        said = await retold(turn, response, chunks, tell, brief=reply.brief, last=lambda events: events.endswith(DONE))
        if not reply.is_finished:
            raise incomplete()
        if record.prefill_tokens is None:
            record.read_answer({"usage": reply.counts()})
        await turn.end_stream(said + b"".join(map(written, reply.end())))

    async def _take_whole(
        self, turn: Turn, tell: Callable[[Json], Json], response: UpstreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        record = turn.record
        gathering = Gathering(Fold(Endpoint.CHAT), record, lambda: record.first_piece(self._desk.clock()))
        answer = await gathered(gathering, response, chunks)
        made = tell(answer)
        record.read_answer(answer)
        await turn.whole(200, [JSON], json.encode(made))

    async def _take_count(self, tongue: Tongue, turn: Turn, _: UpstreamResponse, chunks: AsyncIterator[bytes]) -> None:
        told = decoded(_decoder, b"".join([chunk async for chunk in chunks]))
        turn.record.first_piece(self._desk.clock())
        await turn.whole(200, [JSON], json.encode(tongue.counted(told.get("input_tokens"))))


def _read(tongue: Tongue, body: bytes) -> Wish:
    """A request, read.

    Raises:
        ReplyError: it is nested too deeply.
        UsageError: it asks for what cannot be done.
    """
    try:
        return tongue.read(decoded(_decoder, body))
    except RecursionError as error:
        message = "the body is nested too deeply to be read"
        raise ReplyError(ApiError(status=400, message=message, code="invalid_json")) from error


def _asked(wish: Wish, model: ServedModel) -> bytes:
    """What is added to a request: that it be a stream, and what llama.cpp can tell beside it."""
    if model.plain:
        return _STREAM
    return _STREAM + _PROGRESS + (_VERBOSE if wish.stops else b"")


async def _first(ways: Sequence[_Way], turn: Turn, lease: Lease) -> None:
    """Ask in the first way that the engine knows.

    Raises:
        ReplyError: it knows none, refused the request, or failed.
    """
    *others, last = ways
    for way in others:
        try:
            return await way(turn, lease)
        except ReplyError as fault:
            if fault.error.code != absent("").code:
                raise
    return await last(turn, lease)


def _retold(reply: Reply, events: bytes) -> list[Json]:
    made: list[Json] = []
    for event in split(events):
        found = parse(event)
        if isinstance(found, dict):
            if "error" in found:
                raise ReplyError(engine_refusal(200, found))
            made += reply.take(found)
    return made
