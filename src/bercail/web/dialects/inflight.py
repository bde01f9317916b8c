"""Requests that are running: how llama-swap tells them, and ``/api/inflight/{id}/cancel``, which ends one."""

from collections.abc import Iterator
from functools import partial

from msgspec import json

from bercail.core import access
from bercail.core.captured import harmless
from bercail.core.chat import ApiError, Json
from bercail.core.sample import stamp
from bercail.web.asgi import JSON, Scope
from bercail.web.desk import Desk, Errand, take_body
from bercail.web.errors import ReplyError
from bercail.web.turn import Asked, Turn

_ROOT, _END = "/api/inflight/", "/cancel"
ROUTE = f"POST {_ROOT}{{id}}{_END}"
_ENDED = ApiError(
    status=503,
    message="this request was ended by whoever manages the server",
    kind="unavailable_error",
    code="cancelled",
    final=True,
)


class Inflight:
    """Ends requests; the key of whoever asks for that must open everything."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is none of these."""
        return ("POST",) if path.startswith(_ROOT) and path.endswith(_END) else ()

    def errand(self, path: str) -> Errand:
        """What answers a request to one of these paths."""
        name = path[len(_ROOT) : -len(_END)]
        return Errand(label="inflight", attempt=partial(self._cancel, name), need=access.Scope.ADMIN)

    async def _cancel(self, name: str, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        found = next((one for one, asked in running(self._desk) if str(asked.number) == name), None)
        if found is None or not found.stop(_ENDED):
            words = f"no request {name[:40]!r} is running: there never was one, or it has ended"
            raise ReplyError(ApiError(status=404, message=words, code="no_request"))
        await turn.whole(200, [JSON], json.encode({"cancelled": name}))


def running(desk: Desk) -> Iterator[tuple[Turn, Asked]]:
    """Requests that work an engine, or wait for one, in the order in which they came."""
    found = [(one, one.asked) for one in desk.turns if one.asked is not None and one.visit and one.visit.entered]
    return iter(sorted(found, key=lambda pair: pair[1].number))


def rows(desk: Desk) -> dict[str, Json]:
    """Each of them by its number, in llama-swap's members; credentials in headers are left out."""
    wall_s = desk.gate.wall()
    return {str(asked.number): _row(turn, asked, wall_s) for turn, asked in running(desk)}


def _row(turn: Turn, asked: Asked, wall_s: float) -> Json:
    record = turn.record
    return {
        "id": str(asked.number),
        "timestamp": stamp(asked.at_s),
        "model": record.model,
        "req_path": record.path,
        "method": asked.method,
        "req_headers": dict(harmless(asked.headers)),
        "remote_ip": asked.client,
        "resp_headers": dict(harmless(turn.answer_headers)),
        "resp_bytes": record.response_bytes,
        "elapsed_ms": max(0, round(1000 * (wall_s - asked.at_s))),
        "metadata": {"session": record.session} if record.session else {},
    }
