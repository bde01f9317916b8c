"""From a lease on an engine to the client: the request goes out, the answer comes back the way it was asked for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeAlias

from msgspec import DecodeError, json

from bercail.core.chat import Ask, Endpoint, Json, Way, engine_refusal
from bercail.core.errors import EngineError
from bercail.core.fold import Fold
from bercail.core.overflow import Overflow
from bercail.core.units import Bytes, Seconds
from bercail.core.vectors import other_size
from bercail.ports import Lease, Upstream, UpstreamResponse
from bercail.web.asgi import JSON, Headers
from bercail.web.errors import ReplyError, api_error
from bercail.web.gathering import Gathering
from bercail.web.record import Record
from bercail.web.sse import DONE, Sieve
from bercail.web.trim import Trimmer, is_overflow
from bercail.web.turn import Stream, Turn

_HEADERS: Headers = [JSON]
_REFUSAL_BYTES: Bytes = 64 * 1024
REST_S: Seconds = 1.0
"""How long the connection of an answer whose last event was seen may take to end it."""
FAILURE_POLLS = 50
FAILURE_POLL_S: Seconds = 0.02


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The line and headers of a request to an engine.

    Attributes:
        as_is: its body is handed on untouched, also where a configuration changes bodies: it need not be JSON.
    """

    target: str
    method: str = "POST"
    headers: Sequence[tuple[bytes, bytes]] = field(default_factory=lambda: _HEADERS)
    as_is: bool = False


_OUTGOING = {one: Outgoing(target=f"/v1/{one.value}") for one in Endpoint}
Take: TypeAlias = Callable[[UpstreamResponse, AsyncIterator[bytes]], Awaitable[None]]
"""Brings an engine's answer to the client."""


class Passes(Protocol):
    """Knows what of a stream goes through as it is."""

    def passes(self, chunk: bytes) -> bool:
        """Whether these bytes do, whatever came before them."""
        ...


class Relay:
    """Sends one request to an engine and brings its answer to the client."""

    def __init__(self, upstream: Upstream, clock: Callable[[], Seconds]) -> None:
        self._upstream = upstream
        self._clock = clock

    def run(self, turn: Turn, lease: Lease, ask: Ask) -> Awaitable[None]:
        """The whole exchange; whatever happens, the engine's connection is closed or given back at the end.

        Raises:
            ReplyError: the engine refused the request, or failed.
        """
        match ask.way:
            case Way.STREAM:
                take = self._stream
            case Way.FOLD:
                take = self._fold
            case Way.WHOLE:
                take = self._whole
        begun_s = self._clock() if turn.record.arrived_s is None else turn.record.arrived_s
        answer = partial(take, turn, ask, begun_s)
        return exchange(self._upstream, turn, lease, _OUTGOING[ask.endpoint], answer)

    async def _stream(
        self, turn: Turn, ask: Ask, begun_s: Seconds, response: UpstreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        stream, record = turn.stream, turn.record
        if stream is None:
            raise RuntimeError("a stream needs its reply before it begins")
        sieve = Sieve(drop_progress=not ask.wants_progress)
        push = partial(forward, sieve, stream, record)
        async for chunk in chunks:
            if record.ttft_s is None:
                record.read_progress(chunk)
            events, error = sieve.feed(chunk)
            if events:
                if record.ttft_s is None:
                    record.ttft_s = self._clock() - begun_s
                record.response_bytes += len(events)
                record.read_events(events)
                if events.endswith(DONE):
                    record.settle(ask.choices)
                    return await turn.end_stream(events)
                await stream.write(events)
                await response.pour(push)
            if error is not None:
                raise ReplyError(engine_refusal(200, error))
        raise incomplete()

    async def _fold(
        self, turn: Turn, ask: Ask, begun_s: Seconds, response: UpstreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        record = turn.record

        def first() -> None:
            record.ttft_s = self._clock() - begun_s

        gathering = Gathering(Fold(ask.endpoint, choices_per_prompt=ask.choices), record, first)
        answer = await gathered(gathering, response, chunks)
        record.read_answer(answer)
        await turn.whole(200, [JSON], json.encode(answer))

    async def _whole(
        self, turn: Turn, ask: Ask, begun_s: Seconds, response: UpstreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        body = b"".join([chunk async for chunk in chunks])
        turn.record.ttft_s = self._clock() - begun_s
        turn.record.read_body(body, ask.choices)
        if ask.endpoint is Endpoint.EMBEDDINGS and ask.dimensions is not None:
            _check_size(body, ask.dimensions, turn.record.model)
        kind = next((value for name, value in response.headers if name == b"content-type"), JSON[1])
        await turn.whole(200, [(b"content-type", kind)], body)


async def gathered(gathering: Gathering, response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> Json:
    """The one answer that a stream stands for.

    Raises:
        ReplyError: the stream tells of an error.
        EngineError: it ends too early.
    """
    async for chunk in chunks:
        if answer := gathering.feed(chunk):
            return answer
        await response.pour(gathering.take)
    raise incomplete()


async def exchange(
    upstream: Upstream, turn: Turn, lease: Lease, outgoing: Outgoing, take: Take, *, refused: bool = True
) -> None:
    """Send a turn's payload and let ``take`` have the answer; at the end its connection is closed or given back.

    Args:
        upstream: the client towards engines.
        turn: whose payload is sent, and then forgotten.
        lease: on the engine.
        outgoing: the line and headers.
        take: gets the answer.
        refused: an answer whose status is not 200 is no result and raises ``ReplyError``.

    A request that the engine finds too long is sent once more, shorter, where a policy asks for it.

    Raises:
        ReplyError: the engine refused the request, or failed.
    """
    if not outgoing.as_is:
        turn.payload = lease.rewrite(turn.payload)
    may_trim = turn.overflow is not Overflow.ERROR and not outgoing.as_is
    take = partial(_expect, take) if refused else take
    try:
        try:
            await _send(upstream, turn, lease, outgoing, take, keep=may_trim)
        except ReplyError as fault:
            if not (turn.payload and is_overflow(fault.error)):
                raise
            trimmer = Trimmer(
                upstream=upstream, lease=lease, target=outgoing.target, policy=turn.overflow, error=fault.error
            )
            turn.payload, trimmed = await trimmer.trim(turn.payload)
            await turn.tell_trimmed(trimmed)
            await _send(upstream, turn, lease, outgoing, take, keep=False)
    except EngineError as error:
        raise ReplyError(api_error(await explained(error, lease), started=True)) from error


async def _send(upstream: Upstream, turn: Turn, lease: Lease, outgoing: Outgoing, take: Take, *, keep: bool) -> None:
    """One attempt; with ``keep`` the turn has its payload for as long as nothing but a refusal has come."""
    payload, turn.payload = turn.payload, turn.payload if keep else b""
    response = await upstream.send(lease.address, outgoing.method, outgoing.target, outgoing.headers, payload)
    del payload  # up to the body limit, and not needed while the answer comes
    if response.status == 200:
        turn.payload = b""
    chunks = response.chunks()
    try:
        await take(response, chunks)
        # Not waited for: the client has its answer, and what it asks next finds this request in the books.
        response.let_go(REST_S)
    except BaseException:
        response.abort()
        raise
    finally:
        if (close := getattr(chunks, "aclose", None)) is not None:  # a generator's, as fakes are
            await close()


def _expect(take: Take, response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> Awaitable[None]:
    """``take`` for an answer that is a result; what raises ``ReplyError`` for a refusal."""
    return take(response, chunks) if response.status == 200 else _raise_refusal(response.status, chunks)


async def _raise_refusal(status: int, chunks: AsyncIterator[bytes]) -> None:
    raise await refusal(status, chunks)


def forward(sieve: Passes, stream: Stream, record: Record, chunk: bytes) -> bool:
    """Send a piece of a stream on as it is; False, and nothing has happened, if it needs more than that."""
    if not (sieve.passes(chunk) and stream.push(chunk)):
        return False
    record.response_bytes += len(chunk)
    record.read_events(chunk)
    return True


def _check_size(body: bytes, dimensions: int, model: str) -> None:
    """Refuse to hand on vectors of another size than was asked for.

    Raises:
        ReplyError: they have one.
    """
    try:
        answer = json.decode(body)
    except (DecodeError, UnicodeDecodeError):
        return  # the client is to see it as it is
    error = other_size(answer, dimensions, model) if isinstance(answer, dict) else None
    if error is not None:
        raise ReplyError(error)


async def refusal(status: int, chunks: AsyncIterator[bytes]) -> ReplyError:
    """What the engine answered instead of a result."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _REFUSAL_BYTES:
            break
    try:
        answer: object = json.decode(body)
    except (DecodeError, UnicodeDecodeError):
        answer = None
    return ReplyError(engine_refusal(status, answer, body.decode("utf-8", "replace")))


def incomplete() -> EngineError:
    """A stream that ended before its last event."""
    return EngineError("the engine ended its answer before it was complete", code="engine_cut")


async def explained(error: EngineError, lease: Lease) -> EngineError:
    """The reason why an engine broke off: its death is noticed a moment after its connections break."""
    site = lease.address.site
    if site is not None and not site.ours:
        return error  # nobody sees a server elsewhere die
    for _ in range(FAILURE_POLLS):
        failure = lease.failure()
        if failure is not None:
            return failure
        await asyncio.sleep(FAILURE_POLL_S)
    return error
