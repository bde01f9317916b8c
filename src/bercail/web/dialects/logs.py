"""What we and engines say: the routes of llama-swap for the latest lines, and for those to come."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl

from bercail.core import access
from bercail.core.chat import ApiError
from bercail.core.log import OURS, excerpt_text
from bercail.core.units import Seconds
from bercail.ports import Log
from bercail.web.asgi import Headers, Scope
from bercail.web.desk import Desk, Errand, take_body
from bercail.web.errors import ReplyError
from bercail.web.request import ClientGoneError
from bercail.web.turn import Turn

_ROOT, _STREAM = "/logs", "/logs/stream"
_HEADERS: Headers = [
    (b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]  # fmt: skip
PACE_S: Seconds = 0.1
"""Lines are gathered for so long: an engine that loads says a thousand within a second."""
SLOW_S: Seconds = 60.0
"""A follower that has not read what it was sent by then is cut."""


class Logs:
    """Lines for people; the key of a request must open everything."""

    def __init__(self, desk: Desk, log: Log) -> None:
        self._desk = desk
        self._log = log

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is none of these."""
        return ("GET", "HEAD") if path == _ROOT or path.startswith(f"{_ROOT}/") else ()

    def errand(self, path: str) -> Errand:
        """What answers a request to one of these paths."""
        follows = path == _STREAM or path.startswith(f"{_STREAM}/")
        name = path[len(_STREAM if follows else _ROOT) :].lstrip("/")
        attempt = partial(self._follow if follows else self._tell, name)
        return Errand(label="logs/stream" if follows else "logs", attempt=attempt, need=access.Scope.ADMIN)

    async def _tell(self, name: str, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        wanted, bare = self._whose(turn, name)
        text = excerpt_text(self._log.since({}, wanted), bare=bare)
        await turn.whole(200, _HEADERS, text.encode("utf-8", "replace"))

    async def _follow(self, name: str, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        wanted, bare = self._whose(turn, name)
        query = scope.get("query_string", b"").decode("latin-1")
        history = all(word != "no-history" for word, _ in parse_qsl(query, keep_blank_values=True))
        place: Mapping[str, int] = {} if history else self._log.since({}, wanted).place
        await turn.begin(200, _HEADERS)
        loop, goes_on = asyncio.get_running_loop(), scope["method"] != "HEAD"
        said_s = loop.time()
        while True:
            excerpt = self._log.since(place, wanted)
            place, text = excerpt.place, excerpt_text(excerpt, bare=bare)
            due_s = said_s + self._desk.options.keep_alive
            if text or loop.time() >= due_s:
                await _write(turn, text or "\n")
                said_s = loop.time()
            if not goes_on:
                break
            goes_on = await self._next(excerpt.last, said_s + self._desk.options.keep_alive)
        await turn.piece(b"", more=False)

    async def _next(self, last: int, due_s: Seconds) -> bool:
        """Whether there will be more; returns when there is, or when silence has lasted long enough."""
        try:
            async with asyncio.timeout_at(due_s):
                more = await self._log.wait(last)
        except TimeoutError:
            return True
        if more:
            await asyncio.sleep(PACE_S)
        return more

    def _whose(self, turn: Turn, name: str) -> tuple[Callable[[str], bool], bool]:
        """Whose lines a path means, and whether they are of one alone.

        Raises:
            ReplyError: nobody's.
        """
        if name in ("", "proxy", "upstream"):
            return {"": _anybody, "proxy": OURS.__eq__, "upstream": OURS.__ne__}[name], name == "proxy"
        try:
            return self._desk.find(turn, name).id.__eq__, True
        except ReplyError as fault:
            words = f"no log of {name[:200]!r}: name a model, proxy or upstream; {fault.error.message}"
            raise ReplyError(ApiError(status=400, message=words, code="model_not_found")) from fault


def _anybody(source: str) -> bool:
    return True


async def _write(turn: Turn, text: str) -> None:
    """Send lines, or an empty one that keeps the connection alive.

    Raises:
        ClientGoneError: nobody reads them.
    """
    try:
        async with asyncio.timeout(SLOW_S):
            await turn.piece(text.encode("utf-8", "replace"))
    except TimeoutError as error:
        raise ClientGoneError from error
