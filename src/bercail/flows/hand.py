"""``bercail ps``, ``load``, ``unload``, ``profile``, ``logs``: a running server asked by hand."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bercail.core.access import shown
from bercail.core.errors import BercailError, EngineError, NotFoundError
from bercail.core.launch import Address
from bercail.ports import House, UpstreamResponse

_KEY_HINT = "set BERCAIL_KEY to a key that may; `bercail keys create NAME --scope admin --scope models` makes one"
_JSON = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A model that was brought in or let go of by hand.

    Attributes:
        id: its own name, whatever name it was called by.
        was: its state before, as ``running`` tells it; empty if the server does not say.
    """

    id: str
    was: str = ""


async def running(house: House, key: str = "") -> tuple[Mapping[str, Any], ...]:
    """What the running server has in memory: ``model``, ``state``, ``requests``, ``waiting`` and so on, per model.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it broke off.
    """
    told = await _asked(house, "GET", "/running", None, key)
    rows = told.get("running")
    return tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one of several servers said.

    Attributes:
        place: where it is.
        rows: as ``running`` gives them.
        error: why there are none; None where it answered.
    """

    place: str
    rows: tuple[Mapping[str, Any], ...] = ()
    error: BercailError | None = None


async def running_at(houses: Sequence[House], key: str = "") -> tuple[Told, ...]:
    """What servers have in memory; one of several that does not answer keeps nothing of the others back.

    Raises:
        NotFoundError, EngineError: none answers; that of the first.
    """
    told = [await _told(house, key) for house in houses]
    if (first := told[0].error) is not None and all(one.error for one in told):
        raise first
    return tuple(told)


async def _told(house: House, key: str) -> Told:
    place = str(_place(house))
    try:
        return Told(place=place, rows=await running(house, key))
    except (NotFoundError, EngineError) as error:
        return Told(place=place, error=error)


async def load(house: House, model: str, key: str = "") -> Moved:
    """Have the running server bring ``model`` in; returns when it is ready, what became of it.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it cannot, in its words.
    """
    return await _move(house, "/models/load", model, key)


async def unload(house: House, model: str, key: str = "") -> Moved:
    """Have the running server let go of ``model``; returns when its memory is free, what became of it.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it cannot, in its words.
    """
    return await _move(house, "/models/unload", model, key)


async def profiles(house: House, key: str = "") -> Mapping[str, Any]:
    """The profiles of the running server: ``profiles``, each with its ``name`` and ``pins``, and the ``active`` one.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it broke off.
    """
    return await _asked(house, "GET", "/api/profiles", None, key)


async def switch(house: House, profile: str | None, key: str = "") -> Mapping[str, Any]:
    """Have the running server put a profile in force, or none; its profiles then.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it has no such profile, in its words.
    """
    return await _asked(house, "PUT", "/api/profiles/active", {"name": profile}, key)


async def logs(house: House, whose: str = "", *, follow: bool = False, key: str = "") -> AsyncIterator[str]:
    """What the running server and its engines said last; with ``follow`` also what comes.

    Args:
        house: asks.
        whose: a model, ``proxy`` for what the server says itself, ``upstream`` for all engines; empty is everybody.
        follow: go on until the server ends.
        key: an API key, or empty.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it refuses, or broke off.
    """
    target = f"/logs{'/stream' if follow else ''}{f'/{quote(whose)}' if whose else ''}"
    try:
        response = await _sent(house, "GET", target, b"", key)
        if response.status != 200:
            _checked(house, response.status, b"".join([chunk async for chunk in response.chunks()]))
        rest = b""
        async for chunk in response.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):  # empty ones keep the connection alive
                yield line.decode("utf-8", "replace")
    finally:
        await house.upstream.close()


async def _move(house: House, target: str, model: str, key: str) -> Moved:
    told = await _asked(house, "POST", target, {"model": model}, key)
    return Moved(id=str(told.get("model") or model), was=str(told.get("was") or ""))


async def _asked(house: House, method: str, target: str, body: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    try:
        response = await _sent(house, method, target, json.dumps(body).encode() if body else b"", key)
        return _checked(house, response.status, b"".join([chunk async for chunk in response.chunks()]))
    finally:
        await house.upstream.close()


def _place(house: House) -> Address:
    return Address(host=house.settings.server.host, port=house.settings.server.port)


async def _sent(house: House, method: str, target: str, payload: bytes, key: str) -> UpstreamResponse:
    try:
        return await house.upstream.send(_place(house), method, target, (*_JSON, *shown(key)), payload)
    except EngineError as error:
        if error.code != "engine_unreachable":
            raise
        hint = "start one with `bercail up`, or name its place with --host and --port"
        raise NotFoundError(f"no server at {_place(house)}", hint=hint, code="no_server") from error


def _checked(house: House, status: int, answer: bytes) -> dict[str, Any]:
    try:
        told = json.loads(answer)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise NotFoundError(f"what listens at {_place(house)} is not Bercail", hint="see --host and --port")
    if status != 200:
        error_told = told.get("error")
        words = error_told.get("message") if isinstance(error_told, dict) else None
        hint = _KEY_HINT if status in (401, 403) else ""
        raise EngineError(str(words or f"the server answered with status {status}"), hint=hint, code="server_refused")
    return told
