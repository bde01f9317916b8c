"""``/api/events``: what happens here, as llama-swap tells it to its page: models, lines of the log, the profile."""

from collections.abc import Iterator

from msgspec import json

from bercail.core import access
from bercail.core.chat import Json
from bercail.core.log import OURS
from bercail.core.route import ServedModel
from bercail.ports import Log
from bercail.web.asgi import Scope
from bercail.web.desk import Desk, Errand
from bercail.web.dialects.memory import STATES
from bercail.web.dialects.statuses import follow
from bercail.web.turn import Turn

PATH = "/api/events"


class Events:
    """Tells who follows: first how everything stands, then what changes.

    Args:
        desk: the way to the models.
        log: lines are told of it to those whose key opens everything; None tells none.
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
        place: dict[str, int] = {}
        manages = turn.visit is None or turn.visit.may_manage

        def look() -> bytes:
            host = self._desk.sees(turn)
            now: dict[str, object] = {
                "modelStatus": [_row(model) for model in host.models()],
                "profileChanged": {"active": host.profiles().active or None},
            }
            news = [_event(kind, data) for kind, data in now.items() if told.get(kind) != data]
            told.update(now)
            lines = self._lines(place) if manages else ()
            return b"".join((*(_event("logData", one) for one in lines), *news))

        await follow(self._desk, turn, scope, look)

    def _lines(self, place: dict[str, int]) -> Iterator[Json]:
        """What was said since ``place``, which moves on: ours first, then that of engines."""
        if self._log is None:
            return
        excerpt = self._log.since(place, lambda _: True)
        place.update(excerpt.place)
        if excerpt.missed:
            yield {"source": "proxy", "data": f"... {excerpt.missed} lines left out\n"}
        ours = [line.text for line in excerpt.lines if line.source == OURS]
        theirs = [str(line) for line in excerpt.lines if line.source != OURS]
        for source, said in (("proxy", ours), ("upstream", theirs)):
            if said:
                yield {"source": source, "data": "".join(f"{text}\n" for text in said)}


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
