"""``/api/metrics/activity`` and ``/api/metrics/stats``: the record of requests, as llama-swap tells it to its page."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qsl

from msgspec import json

from bercail.core import access
from bercail.core.chat import ApiError, Json
from bercail.core.history import model_of, page_document, tally_document, wish_of
from bercail.ports import Ledger
from bercail.web.asgi import JSON, Scope
from bercail.web.desk import Desk, Errand, take_body
from bercail.web.errors import ReplyError
from bercail.web.turn import Turn

Query: TypeAlias = Sequence[tuple[str, str]]
Look: TypeAlias = Callable[[Ledger, Query], Json]

ACTIVITY, STATS = "/api/metrics/activity", "/api/metrics/stats"
_OFF = "no requests are recorded here: activity.days is 0, or the record could not be opened when the server started"


class History:
    """Looks up what requests have taken; the key of a request must open everything, for they are of all keys."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is none of these."""
        return ("GET", "HEAD") if path in (ACTIVITY, STATS) else ()

    def errand(self, path: str) -> Errand:
        """What answers a request to one of these paths."""
        look = _activity if path == ACTIVITY else _stats
        return Errand(label=path.removeprefix("/api/"), attempt=partial(self._tell, look), need=access.Scope.ADMIN)

    async def _tell(self, look: Look, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        ledger = self._desk.gate.ledger
        if ledger is None or ledger.latest() is None:
            raise ReplyError(ApiError(status=404, message=_OFF, code="activity_off"))
        query = scope.get("query_string", b"").decode("latin-1")
        told = await asyncio.to_thread(look, ledger, parse_qsl(query, keep_blank_values=True))
        await turn.whole(200, [JSON], json.encode(told))


def _activity(ledger: Ledger, query: Query) -> Json:
    wish = wish_of(query)
    return page_document(ledger.page(wish), wish)


def _stats(ledger: Ledger, query: Query) -> Json:
    return tally_document(ledger.tally(model_of(query)))
