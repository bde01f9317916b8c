"""``bercail chat``: a conversation with a model, on the server that runs or on an engine started for it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote

from bercail.core import news
from bercail.core.access import shown
from bercail.core.alike import alike
from bercail.core.configuration import Configuration
from bercail.core.errors import BercailError, EngineError, NotFoundError, ReadError, UsageError
from bercail.core.launch import Address
from bercail.core.measure import Turn
from bercail.core.model import DEMO_ID, Findings, FoundModel
from bercail.core.units import Tokens
from bercail.flows.inspect import listed, looks_like_path, resolve
from bercail.flows.servers import ANY, Sought, meant, several
from bercail.flows.supervise import Supervisor
from bercail.ports import House, UpstreamResponse

_JSON = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A place to talk to a model.

    Attributes:
        context_tokens: what one conversation may hold, or None if unknown.
        running: it is a server that was there before.
        key: the API key for it, or empty.
    """

    address: Address
    model_id: str
    context_tokens: Tokens | None
    running: bool
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer as it arrives; ``thought`` if the model thinks aloud."""

    text: str
    thought: bool = False


Answer: TypeAlias = Piece | Turn


@asynccontextmanager
async def take_seat(
    house: House, name: str, tell: Callable[[news.News], None], key: str = "", sought: Sought = ANY
) -> AsyncIterator[Seat]:
    """A seat with the model that ``name`` means: at a running server if one serves it, else at an engine of our own.

    ``key`` is the API key for that server, or empty; ``sought`` what the user said of it.

    Raises:
        UsageError: the running server wants another key, or one at all; or several run, and no model is named.
        NotFoundError, ReadError, RefusedError, EngineError: the model cannot be had.
    """
    try:
        house = await _at_the_right_one(house, name, key, sought)
        address = _place(house)
        rows = await _served(house, address, key)
        name = name or _loaded(rows or {})
        if not name:
            what = f"no server with a model at {address}, and no model named"
            hint = (
                f"name a model: bercail chat MODEL (the one in the box: {DEMO_ID}); or start a server: bercail up MODEL"
            )
            raise NotFoundError(what, hint=hint)
        row = None if rows is None else rows.get(name) or await _by_another_name(house, address, name, key)
        if row is not None:
            if row["id"] != name:
                tell(news.Warned(text=f"{name} means {row['id']} at the running server"))
            context = row.get("context_length")
            tokens = context if isinstance(context, int) else None
            yield Seat(address=address, model_id=name, context_tokens=tokens, running=True, key=key)
        else:
            found = await _found(house, name, rows, address)
            if rows is None and sought.placed:
                tell(news.Warned(text=f"no server answers at {address}: {found.id} gets an engine of its own"))
            async with _own_seat(house, found, tell) as seat:
                yield seat
    finally:
        await house.upstream.close()


async def _at_the_right_one(house: House, name: str, key: str, sought: Sought) -> House:
    """The server that has the model, of several; where none has it, any of them."""
    houses = meant(house, sought)
    if len(houses) == 1 or looks_like_path(name):
        return houses[0]
    if not name:
        raise several(house.register.servers())
    for one in houses:
        rows = await _served(one, _place(one), key)
        if rows is not None and (name in rows or await _by_another_name(one, _place(one), name, key)):
            return one
    return houses[0]


def _place(house: House) -> Address:
    return Address(host=house.settings.server.host, port=house.settings.server.port)


def _loaded(rows: Mapping[str, Mapping[str, object]]) -> str:
    """The model that a server has loaded, else any it has, else nothing."""
    loaded = [name for name, row in rows.items() if row.get("loaded")]
    return next(iter(loaded or rows), "")


async def _found(house: House, name: str, rows: Mapping[str, object] | None, address: Address) -> FoundModel:
    """The model on disk that ``name`` means; if there is none, what the running server has is told as well.

    Raises:
        NotFoundError, ReadError: there is none, or its file cannot be read.
    """
    try:
        return await asyncio.to_thread(resolve, house.reader, name, house.settings.library.folders)
    except (NotFoundError, ReadError) as error:
        if looks_like_path(name) or not isinstance(error, NotFoundError):
            raise
        raise _nowhere(name, error, rows, address) from error


def _nowhere(name: str, error: NotFoundError, rows: Mapping[str, object] | None, address: Address) -> NotFoundError:
    """A name that means nothing at the running server, if there is one, nor here."""
    if rows is None:
        start = f"no server answers at {address}; bercail up MODEL starts one, --host and --port name another"
        return NotFoundError(error.message, hint=f"{error.hint}; {start}")
    near = alike(name, rows)
    meant = f"did you mean {near[0]}? " if near else ""
    what = f"no model {name!r}, neither at the running server nor here"
    return NotFoundError(what, hint=f"{meant}the server at {address} has {listed(rows)}; here {error.hint}")


@asynccontextmanager
async def _own_seat(house: House, found: FoundModel, tell: Callable[[news.News], None]) -> AsyncIterator[Seat]:
    """A seat at an engine of our own, which ends with it."""
    house = replace(house, configuration=Configuration())  # nobody else is served
    supervisor = Supervisor(house, Findings(models=(found,), looked=()), tell)
    try:
        lease = await supervisor.lease(found.id)
        yield Seat(
            address=lease.address,
            model_id=found.id,
            context_tokens=lease.model.slot_context_tokens,
            running=False,
        )
    finally:
        await supervisor.close()


async def _served(house: House, address: Address, key: str) -> dict[str, Any] | None:
    """The models of the server at an address by name, or None if nothing of ours listens there.

    Raises:
        UsageError: it is ours, and does not take the key.
    """
    try:
        response = await house.upstream.send(address, "GET", "/v1/models", shown(key), b"")
        listing = json.loads(await _whole(response))
        if response.status in (401, 403) and listing["error"]["type"] in ("authentication_error", "permission_error"):
            hint = "set BERCAIL_KEY to one that it takes (bercail keys create NAME)"
            raise UsageError(f"the server at {address} says: {listing['error']['message']}", hint=hint, code="api_key")
        return {str(row["id"]): row for row in listing["data"]}
    except (EngineError, ValueError, KeyError, TypeError):
        return None


async def _by_another_name(house: House, address: Address, name: str, key: str) -> dict[str, Any] | None:
    """The model that a name which it does not list means to the server at an address; None if it has none.

    Aliases, patterns and models that are not listed are known to the server alone.
    """
    if looks_like_path(name):
        return None
    try:
        response = await house.upstream.send(address, "GET", f"/v1/models/{quote(name)}", shown(key), b"")
        row = json.loads(await _whole(response))
        return {**row, "id": str(row["id"])} if response.status == 200 else None
    except (EngineError, ValueError, KeyError, TypeError):
        return None


async def ask(house: House, seat: Seat, messages: list[dict[str, str]]) -> AsyncGenerator[Answer, None]:
    """The answer to a conversation, piece by piece, and its figures at the end.

    Raises:
        EngineError: the answer broke off, or was refused; carries the server's words.
    """
    body = json.dumps({"model": seat.model_id, "messages": messages, "stream": True}).encode()
    started_s = house.clock.monotonic()
    response = await house.upstream.send(seat.address, "POST", "/v1/chat/completions", (*_JSON, *shown(seat.key)), body)
    if response.status != 200:
        raise _refusal(await _whole(response))
    ttft_s: float | None = None
    figures: dict[str, Any] = {}
    reason: str | None = None
    try:
        async for event in _events(response):
            for piece in _pieces(event):
                ttft_s = house.clock.monotonic() - started_s if ttft_s is None else ttft_s
                yield piece
            figures = event.get("timings") or figures
            reason = next((c["finish_reason"] for c in event.get("choices", ()) if c.get("finish_reason")), reason)
    finally:
        response.abort()
    yield _turn(figures, ttft_s, reason, seat)


async def _whole(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


async def _events(response: UpstreamResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    rest = b""
    async for chunk in response.chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        for event in filter(None, map(_event, lines)):
            yield event
    if last := _event(rest):
        yield last


def _event(line: bytes) -> dict[str, Any] | None:
    """The object in one line of a stream, or None if it holds none: comments, other fields, the end mark."""
    data = line.removeprefix(b"data:").strip()
    if data == line.strip() or data in (b"", b"[DONE]"):
        return None
    try:
        event = json.loads(data)
    except ValueError as error:
        raise EngineError(f"the server sent an event that is not JSON: {data[:100]!r}") from error
    if not isinstance(event, dict) or "error" in event:
        raise _refusal(data)
    return event


def _pieces(event: dict[str, Any]) -> list[Piece]:
    pieces: list[Piece] = []
    for choice in event.get("choices", ()):
        delta = choice.get("delta", {})
        if delta.get("reasoning_content"):
            pieces.append(Piece(text=delta["reasoning_content"], thought=True))
        if delta.get("content"):
            pieces.append(Piece(text=delta["content"]))
    return pieces


def _refusal(body: bytes) -> BercailError:
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error.get("code") or error.get("type"))
    except (ValueError, KeyError, TypeError):
        message, code = body.decode(errors="replace")[:500] or "an empty answer", "engine"
    hint = "start afresh with /clear" if code in ("context_length_exceeded", "exceed_context_size_error", "400") else ""
    return EngineError(message, hint=hint, code=code)


def _turn(figures: dict[str, Any], ttft_s: float | None, reason: str | None, seat: Seat) -> Turn:
    cached, computed = figures.get("cache_n"), figures.get("prompt_n")
    prompt = cached + computed if isinstance(cached, int) and isinstance(computed, int) else None
    return Turn(
        ttft_s=ttft_s,
        prompt_tokens=prompt,
        cached_tokens=cached,
        prefill_tokens_per_s=figures.get("prompt_per_second"),
        decode_tokens=figures.get("predicted_n"),
        decode_tokens_per_s=figures.get("predicted_per_second"),
        context_tokens=seat.context_tokens,
        finish_reason=reason,
    )
