"""``/api/events``: what happens here, as llama-swap tells it to its page: models, requests, lines of the log."""

from collections.abc import Iterator, Mapping

from msgspec import json

from bercail.core import access
from bercail.core.chat import Json
from bercail.core.log import OURS
from bercail.core.route import ServedModel
from bercail.ports import Log
from bercail.web.asgi import Scope
from bercail.web.desk import Desk, Errand
from bercail.web.dialects.inflight import rows
from bercail.web.dialects.memory import STATES
from bercail.web.dialects.statuses import follow
from bercail.web.turn import Turn

PATH = "/api/events"


class Events:
    """Tells who follows: first how everything stands, then what changes.

    Args:
        desk: the way to the models.
        log: lines are told of it, as requests are, to those whose key opens everything; None tells none.
    """

    def __init__(self, desk: Desk, log: Log | None) -> None:
        self._desk = desk
        self._log = log

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is not this one."""
        return ("GET",) if path == PATH else ()

    def errand(self, path: str) -> Errand:
        """What answers a request for it."""
        return Errand(label=path.rpartition("/")[2], attempt=self._follow, need=access.Scope.MODELS)

    async def _follow(self, turn: Turn, scope: Scope) -> None:
        told: dict[str, object] = {}
        private = _Private(self._desk, self._log)
        manages = turn.visit is None or turn.visit.may_manage

        def look() -> bytes:
            host = self._desk.sees(turn)
            now: dict[str, object] = {
                "modelStatus": [_row(model) for model in host.models()],
                "uiConfig": {"activity": {"session_id": list(self._desk.gate.sessions)}},
                "profileChanged": {"active": host.profiles().active or None},
            }
            news = [_event(kind, data) for kind, data in now.items() if told.get(kind) != data]
            told.update(now)
            return b"".join((*(private.lines() if manages else ()), *news, *(private.requests() if manages else ())))

        await follow(self._desk, turn, scope, look)


class _Private:
    """What one follower, who may know of everything, was told of requests and lines of the log."""

    def __init__(self, desk: Desk, log: Log | None) -> None:
        self._desk = desk
        self._log = log
        self._place: dict[str, int] = {}
        self._running: dict[str, Json] | None = None
        self._latest = self._recorded()

    def _recorded(self) -> int | None:
        ledger = self._desk.gate.ledger
        return None if ledger is None else ledger.latest()

    def requests(self) -> Iterator[bytes]:
        """Those that run: first all, then each that came, went on or ended; and that others were recorded."""
        before, now = self._running, rows(self._desk)
        self._running = now
        if before is None:
            yield _event("inflight", {"operation": "snapshot", "requests": list(now.values())})
        else:
            yield from (_event("inflight", change) for change in _changes(before, now))
        latest = self._recorded()
        if latest is not None and latest != self._latest:
            self._latest = latest
            yield _event("activity", {"id": latest})

    def lines(self) -> Iterator[bytes]:
        """Those that were said since: ours first, then those of engines."""
        if self._log is None:
            return
        excerpt = self._log.since(self._place, lambda _: True)
        self._place.update(excerpt.place)
        if excerpt.missed:
            yield _event("logData", {"source": "proxy", "data": f"... {excerpt.missed} lines left out\n"})
        ours = [line.text for line in excerpt.lines if line.source == OURS]
        theirs = [str(line) for line in excerpt.lines if line.source != OURS]
        for source, said in (("proxy", ours), ("upstream", theirs)):
            if said:
                yield _event("logData", {"source": source, "data": "".join(f"{text}\n" for text in said)})


def _changes(before: Mapping[str, Json], now: Mapping[str, Json]) -> Iterator[Json]:
    for number in (one for one in before if one not in now):
        yield {"operation": "remove", "id": number}
    for number, row in now.items():
        if number not in before or _lasting(before[number]) != _lasting(row):
            yield {"operation": "upsert", "request": row}


def _lasting(row: Json) -> Json:
    """What is told again if it changes; time passes anyway."""
    return row | {"elapsed_ms": 0}


def _row(model: ServedModel) -> Json:
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "state": STATES[model.phase],
        "unlisted": model.unlisted,
        "aliases": list(model.aliases),
    }


def _event(kind: str, data: object) -> bytes:
    """Its data is JSON within JSON, as llama-swap has it."""
    return b"event: message\ndata: " + json.encode({"type": kind, "data": json.encode(data).decode()}) + b"\n\n"
