"""``/models/sse``: what becomes of models, as llama-server's router tells it; and how events are followed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from msgspec import json

from bercail.core.chat import Json
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Seconds
from bercail.web.asgi import Headers, Scope
from bercail.web.desk import Desk, take_body
from bercail.web.request import ClientGoneError
from bercail.web.turn import Turn

EVERY_S: Seconds = 0.5
"""Between two looks at the models, while somebody follows."""
SLOW_S: Seconds = 30.0
"""Whoever takes nothing for so long is let go of."""
_HEADERS: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
_WORDS = {Phase.LOADED: "loaded", Phase.LOADING: "loading", Phase.UNLOADED: "unloaded", Phase.FAILED: "failed"}


async def follow_statuses(desk: Desk, turn: Turn, scope: Scope) -> None:
    """Tell where every model stands, then each change."""
    told = dict[str, Json]()

    def look() -> bytes:
        found = {model.id: _standing(model) for model in desk.sees(turn).models()}
        news = b"".join(_line(event) for event in _events(told, found))
        told.clear()
        told.update(found)
        return news

    await follow(desk, turn, scope, look)


async def follow(desk: Desk, turn: Turn, scope: Scope, look: Callable[[], bytes]) -> None:
    """Tell what ``look`` finds, again and again, until the client leaves or the server stops.

    Args:
        desk: tells whether it does.
        turn: of the client.
        scope: its request.
        look: events that were not told yet; b"" if there are none.
    """
    await take_body(turn, scope, desk)
    await turn.begin(200, _HEADERS)
    loop = asyncio.get_running_loop()
    said_s = loop.time()
    while not desk.stopping():
        news = look()
        if news or loop.time() - said_s >= desk.options.keep_alive:
            await _write(turn, news or b": ping\n\n")
            said_s = loop.time()
        await asyncio.sleep(EVERY_S)
    await turn.piece(b"", more=False)


def _events(before: Mapping[str, Json], now: Mapping[str, Json]) -> Iterator[Json]:
    if before and before.keys() != now.keys():
        yield {"model": "", "event": "models_reload", "data": {}}
    for name, standing in now.items():
        if before.get(name) != standing:
            yield {"model": name, "event": "model_status", "data": standing}


def _standing(model: ServedModel) -> Json:
    standing: Json = {"status": _WORDS[model.phase]}
    return standing if model.progress is None else standing | {"progress": {"value": model.progress}}


def _line(event: Json) -> bytes:
    return b"data: " + json.encode(event) + b"\n\n"


async def _write(turn: Turn, data: bytes) -> None:
    """Send events.

    Raises:
        ClientGoneError: nobody reads them.
    """
    try:
        async with asyncio.timeout(SLOW_S):
            await turn.piece(data)
    except TimeoutError as error:
        raise ClientGoneError from error
