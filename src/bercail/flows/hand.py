"""``bercail ps``, ``load``, ``unload``, ``profile``: what a running server has in memory, and the wish to change it."""

import json
from collections.abc import Mapping
from typing import Any

from bercail.core.access import shown
from bercail.core.errors import EngineError, NotFoundError
from bercail.core.launch import Address
from bercail.ports import House

_KEY_HINT = "set BERCAIL_KEY to a key that may; `bercail keys create NAME --scope admin --scope models` makes one"
_JSON = ((b"content-type", b"application/json"),)


async def running(house: House, key: str = "") -> tuple[Mapping[str, Any], ...]:
    """What the running server has in memory: ``model``, ``state``, ``requests``, ``waiting`` and so on, per model.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it broke off.
    """
    told = await _asked(house, "GET", "/running", None, key)
    rows = told.get("running")
    return tuple(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


async def load(house: House, model: str, key: str = "") -> None:
    """Have the running server bring ``model`` in; returns when it is ready.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it cannot, in its words.
    """
    await _asked(house, "POST", "/models/load", {"model": model}, key)


async def unload(house: House, model: str, key: str = "") -> None:
    """Have the running server let go of ``model``; returns when its memory is free.

    Raises:
        NotFoundError: no server of ours listens where the settings say.
        EngineError: it cannot, in its words.
    """
    await _asked(house, "POST", "/models/unload", {"model": model}, key)


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


async def _asked(house: House, method: str, target: str, body: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    server = house.settings.server
    address = Address(host=server.host, port=server.port)
    try:
        headers, payload = (*_JSON, *shown(key)), json.dumps(body).encode() if body else b""
        response = await house.upstream.send(address, method, target, headers, payload)
        answer = b"".join([chunk async for chunk in response.chunks()])
        told = json.loads(answer)
    except EngineError as error:
        if error.code != "engine_unreachable":
            raise
        hint = "start one with `bercail up`, or name its place with --host and --port"
        raise NotFoundError(f"no server at {address}", hint=hint, code="no_server") from error
    except ValueError as error:
        raise NotFoundError(f"what listens at {address} is not Bercail", hint="see --host and --port") from error
    finally:
        await house.upstream.close()
    if not isinstance(told, dict):
        raise NotFoundError(f"what listens at {address} is not Bercail", hint="see --host and --port")
    if response.status != 200:
        error_told = told.get("error")
        words = error_told.get("message") if isinstance(error_told, dict) else None
        hint = _KEY_HINT if response.status in (401, 403) else ""
        raise EngineError(
            str(words or f"the server answered with status {response.status}"), hint=hint, code="server_refused"
        )
    return told
