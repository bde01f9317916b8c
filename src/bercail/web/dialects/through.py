"""``/upstream/{model}/...``: an engine's own paths, its page among them, as they are."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial

from bercail.core.chat import ApiError
from bercail.core.configuration import ASSETS
from bercail.core.dialect import Form
from bercail.core.errors import EngineError, UsageError
from bercail.core.passing import (
    COMFYUI,
    COMFYUI_MODEL,
    UPSTREAM,
    Place,
    place_in,
    request_headers,
    response_headers,
    wants_websocket,
)
from bercail.core.pattern import is_pattern
from bercail.core.route import ServedModel
from bercail.core.units import Seconds
from bercail.ports import Host, Lease, Tunnel, UpstreamResponse
from bercail.web.asgi import Scope
from bercail.web.desk import Answer, Desk, Errand, Notice, Use, lease_at_once, notice, take_body
from bercail.web.errors import ReplyError, api_error, written
from bercail.web.record import Ends
from bercail.web.relay import Outgoing, exchange, explained
from bercail.web.turn import Turn
from bercail.web.wire import Wire, join

_REFUSED = ("CONNECT", "TRACE")
SWITCHING = 101


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
        if raw == COMFYUI or raw.startswith(COMFYUI + b"/"):
            return self._errand(scope, _page_of_comfyui(self._desk.host, raw))
        host = self._desk.host
        names = {name: model.id for model in host.models() for name in (model.id, *model.aliases)}
        patterns = {name: owner for name, owner in names.items() if is_pattern(name)}
        known = (names.keys() - patterns.keys()) | host.profiles().pins.keys()
        try:
            place = place_in(raw, known, patterns) if raw.startswith(UPSTREAM) else None
        except UsageError as error:
            return notice(_answered(api_error(error, started=False)))
        return self._errand(scope, place)

    def _errand(self, scope: Scope, place: Place | None) -> Errand | Notice:
        if place is None:
            return Notice(tell=_nobody)
        raw = scope.get("raw_path", b"")
        if scope["method"] in _REFUSED:
            words = f"{scope['method']} is not handed on"
            return notice(_answered(ApiError(status=405, message=words, code="method_not_allowed")))
        if not place.rest:
            query = scope.get("query_string", b"")
            target = raw + b"/" + (b"?" + query if query else b"")
            return notice((301 if scope["method"] in ("GET", "HEAD") else 308, [(b"location", target)], b""))
        websocket = wants_websocket(scope["method"], scope["headers"]) and "take" in scope
        return Errand(label="upstream", attempt=partial(self._connect if websocket else self._pass, place))

    async def _pass(self, place: Place, turn: Turn, scope: Scope) -> None:
        turn.payload = await take_body(turn, scope, self._desk)
        model = self._desk.find(turn, place.model)
        turn.record.model = model.id
        # The client of engines speaks no HEAD: its answer is that of GET, of which the body is left out.
        head = scope["method"] == "HEAD"
        method = "GET" if head else scope["method"]
        outgoing = Outgoing(_target(place, scope), method, request_headers(scope["headers"]), as_is=True)

        async def use(lease: Lease) -> None:
            take = partial(_hand_on, turn, self._desk.clock, head=head)
            await exchange(self._desk.upstream, turn, lease, outgoing, take, refused=False)

        await self._with_lease(place, turn, model, use)

    async def _connect(self, place: Place, turn: Turn, scope: Scope) -> None:
        """Join a websocket of the client with one of the engine, byte for byte; its lease lasts while it is open."""
        await take_body(turn, scope, self._desk)
        model = self._desk.find(turn, place.model)
        turn.record.model = model.id
        headers = request_headers(scope["headers"])

        async def use(lease: Lease) -> None:
            try:
                tunnel = await self._desk.upstream.tunnel(lease.address, _target(place, scope), headers)
            except EngineError as error:
                raise ReplyError(api_error(await explained(error, lease), started=True)) from error
            try:
                await _join(turn, scope, tunnel)
            finally:
                tunnel.close()

        if not model.ignores_websockets:
            await self._with_lease(place, turn, model, use)
        elif (lease := self._desk.host.glance(model.asked or model.id)) is not None:
            await use(lease)
        else:
            raise _absent(f"{model.id} is not loaded, and websockets do not load it")

    async def _with_lease(self, place: Place, turn: Turn, model: ServedModel, use: Use) -> None:
        """Use the model; for a path of its page's files only if it is there."""
        if not place.matches(self.assets) and (place.rest == b"/" or not place.page_loads):
            await self._desk.lend(turn, model, use)
            return
        lease = await lease_at_once(self._desk.host, model, turn.visit)
        if lease is None:
            raise _absent(f"{model.id} is not loaded, and no model is loaded for a file of its page")
        try:
            await use(lease)
        finally:
            lease.release()


def _page_of_comfyui(host: Host, raw: bytes) -> Place | None:
    here = any(model.id == COMFYUI_MODEL for model in host.models())
    return Place(model=COMFYUI_MODEL, rest=raw.removeprefix(COMFYUI), page_loads=True) if here else None


def _absent(words: str) -> ReplyError:
    return ReplyError(ApiError(status=409, message=words, code="model_not_loaded"))


def _target(place: Place, scope: Scope) -> str:
    query = scope.get("query_string", b"")
    return (place.rest + (b"?" + query if query else b"")).decode("ascii", "replace")


async def _join(turn: Turn, scope: Scope, tunnel: Tunnel) -> None:
    """Hand the client's connection over to the engine, if that agrees.

    Raises:
        ReplyError: it does not.
    """
    if tunnel.status != SWITCHING:
        words = f"the engine opens no websocket there: it answered with status {tunnel.status}"
        status = tunnel.status if 400 <= tunnel.status < 600 else 502
        raise ReplyError(ApiError(status=status, message=words, code="websocket_refused"))
    turn.begun, turn.record.status = True, SWITCHING
    wire = Wire(scope["take"]())
    lines = [name + b": " + value for name, value in response_headers(tunnel.headers)]
    lines += [b"connection: Upgrade", b"upgrade: websocket"]
    await wire.write(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""]))

    def count(length: int) -> None:
        turn.record.response_bytes += length

    await join(wire, tunnel, count)


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
    names = ", ".join(model.id for model in host.models() if not model.unlisted) or "none"
    words = f"no model here begins this path; there are: {names}"
    return _answered(ApiError(status=404, message=words, code="model_not_found"))


def _answered(error: ApiError) -> Answer:
    headers, body = written(error, Form.OPENAI)
    return error.status, headers, body
