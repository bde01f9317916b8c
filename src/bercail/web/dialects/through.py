"""``/upstream/{model}/...``: an engine's own paths, its page among them, as they are."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial

from bercail.core.chat import ApiError
from bercail.core.configuration import ASSETS
from bercail.core.dialect import Form
from bercail.core.errors import UsageError
from bercail.core.passing import UPSTREAM, Place, place_in, request_headers, response_headers
from bercail.core.units import Seconds
from bercail.ports import Host, Lease, UpstreamResponse
from bercail.web.asgi import Scope
from bercail.web.desk import Answer, Desk, Errand, Notice, lease_at_once, notice, take_body
from bercail.web.errors import ReplyError, api_error, written
from bercail.web.record import Ends
from bercail.web.relay import Outgoing, exchange
from bercail.web.turn import Turn

_REFUSED = ("CONNECT", "TRACE")


class Through:
    """Finds the model in a path and hands everything on.

    Attributes:
        assets: paths that match one of these load no model.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.assets: tuple[re.Pattern[str], ...] = (re.compile(ASSETS),)

    def look_up(self, scope: Scope) -> Errand | Notice:
        """An errand, or why there is none."""
        raw = scope.get("raw_path", b"")
        host = self._desk.host
        known = {name for model in host.models() for name in (model.id, *model.aliases)} | host.profiles().pins.keys()
        try:
            place = place_in(raw, known) if raw.startswith(UPSTREAM) else None
        except UsageError as error:
            return notice(_answered(api_error(error, started=False)))
        if place is None:
            return Notice(tell=_nobody)
        if scope["method"] in _REFUSED:
            words = f"{scope['method']} is not handed on"
            return notice(_answered(ApiError(status=405, message=words, code="method_not_allowed")))
        if not place.rest:
            query = scope.get("query_string", b"")
            target = raw + b"/" + (b"?" + query if query else b"")
            return notice((301 if scope["method"] in ("GET", "HEAD") else 308, [(b"location", target)], b""))
        return Errand(label="upstream", attempt=partial(self._pass, place))

    async def _pass(self, place: Place, turn: Turn, scope: Scope) -> None:
        turn.payload = await take_body(turn, scope, self._desk)
        model = self._desk.find(turn, place.model)
        turn.record.model = model.id
        query = scope.get("query_string", b"")
        target = place.rest + (b"?" + query if query else b"")
        # The client of engines speaks no HEAD: its answer is that of GET, of which the body is left out.
        head = scope["method"] == "HEAD"
        method = "GET" if head else scope["method"]
        outgoing = Outgoing(target.decode("ascii", "replace"), method, request_headers(scope["headers"]), as_is=True)

        async def use(lease: Lease) -> None:
            take = partial(_hand_on, turn, self._desk.clock, head=head)
            await exchange(self._desk.upstream, turn, lease, outgoing, take, refused=False)

        if not place.matches(self.assets):
            await self._desk.lend(turn, model, use)
            return
        lease = await lease_at_once(self._desk.host, model, turn.visit)
        if lease is None:
            words = f"{model.id} is not loaded, and no model is loaded for a file of its page"
            raise ReplyError(ApiError(status=409, message=words, code="model_not_loaded"))
        try:
            await use(lease)
        finally:
            lease.release()


async def _hand_on(
    turn: Turn,
    clock: Callable[[], Seconds],
    response: UpstreamResponse,
    chunks: AsyncIterator[bytes],
    *,
    head: bool,
) -> None:
    """The engine's answer as it comes; one that breaks off breaks off here too."""
    await turn.begin(response.status, response_headers(response.headers))
    if head:
        response.abort()
    else:
        ends = Ends()
        async for chunk in chunks:
            ends.add(chunk)
            turn.record.first_piece(clock())
            await turn.piece(chunk)
        turn.record.read_body(ends.bytes)
    await turn.piece(b"", more=False)


def _nobody(host: Host) -> Answer:
    names = ", ".join(model.id for model in host.models()) or "none"
    words = f"no model here begins this path; there are: {names}"
    return _answered(ApiError(status=404, message=words, code="model_not_found"))


def _answered(error: ApiError) -> Answer:
    headers, body = written(error, Form.OPENAI)
    return error.status, headers, body
