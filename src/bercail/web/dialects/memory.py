"""What is in memory, and the wish to change it: the routes of llama-server's router and of llama-swap, and our own."""

import math
from functools import partial
from typing import Any

from msgspec import json

from bercail.core import access
from bercail.core.chat import ApiError
from bercail.core.configuration import Profiles
from bercail.core.cpulist import format_cpulist
from bercail.core.route import Phase, ServedModel
from bercail.web.asgi import JSON, Headers, Scope
from bercail.web.desk import Desk, Errand, take_body
from bercail.web.dialects.statuses import follow_statuses
from bercail.web.errors import ReplyError
from bercail.web.turn import Turn

_ADMIN = access.Scope.ADMIN
_NAMED = "/api/models/unload/"
STATES = {Phase.LOADED: "ready", Phase.LOADING: "starting", Phase.FAILED: "failed", Phase.UNLOADED: "stopped"}
_TEXT: Headers = [(b"content-type", b"text/plain; charset=utf-8")]
METHODS = {
    "/api/profiles": ("GET", "HEAD"),
    "/api/profiles/active": ("PUT",),
    "/running": ("GET", "HEAD"),
    "/unload": ("GET", "POST"),
    "/models/sse": ("GET",),
    "/models/load": ("POST",),
    "/models/unload": ("POST",),
    "/api/models/unload": ("POST",),
    "/api/config/reload": ("POST",),
}


class Memory:
    """Tells what is in memory, and lets models in and out of it by hand."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self, path: str) -> tuple[str, ...]:
        """Those that a path takes; none if it is not one of ours."""
        return ("POST",) if path.startswith(_NAMED) else METHODS.get(path, ())

    def errand(self, path: str) -> Errand:
        """What answers a request to one of these paths."""
        if path == "/running":
            return Errand(label="running", attempt=self._running, need=access.Scope.MODELS)
        if path.startswith(_NAMED):
            return Errand(label="unload", attempt=partial(self._unload_named, path[len(_NAMED) :]), need=_ADMIN)
        if path in ("/unload", "/api/models/unload"):
            return Errand(label="unload", attempt=partial(self._unload_all, path), need=_ADMIN)
        if path == "/models/sse":
            return Errand(label="models/sse", attempt=partial(follow_statuses, self._desk), need=access.Scope.MODELS)
        if path == "/api/profiles":
            return Errand(label="profiles", attempt=self._profiles, need=access.Scope.MODELS)
        if path == "/api/profiles/active":
            return Errand(label="profiles", attempt=self._switch, need=_ADMIN)
        if path == "/api/config/reload":
            return Errand(label="reload", attempt=self._reload, need=_ADMIN)
        return Errand(label=path.rpartition("/")[2], attempt=partial(self._change, path), need=_ADMIN)

    async def _running(self, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        manages = turn.visit is None or turn.visit.may_manage
        models = self._desk.sees(turn).models()
        rows = [_row(model, whole=manages) for model in models if model.phase in (Phase.LOADED, Phase.LOADING)]
        await turn.whole(200, [JSON], json.encode({"running": rows}))

    async def _profiles(self, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        await turn.whole(200, [JSON], json.encode(_told(self._desk.sees(turn).profiles())))

    async def _switch(self, turn: Turn, scope: Scope) -> None:
        profile = _profile_in(await take_body(turn, scope, self._desk))
        host = self._desk.sees(turn)
        host.switch(profile)
        await turn.whole(200, [JSON], json.encode(_told(host.profiles())))

    async def _change(self, path: str, turn: Turn, scope: Scope) -> None:
        model = self._desk.find(turn, _model_in(await take_body(turn, scope, self._desk)))
        turn.record.model = model.id
        change = self._desk.host.load if path.endswith("/load") else self._desk.host.unload
        await change(model.id)
        await turn.whole(200, [JSON], json.encode({"success": True, "model": model.id, "was": STATES[model.phase]}))

    async def _unload_named(self, name: str, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        model = self._desk.find(turn, name)
        turn.record.model = model.id
        await self._desk.host.unload(model.id)
        await turn.whole(200, _TEXT, b"OK")

    async def _unload_all(self, path: str, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        for model in self._desk.sees(turn).models():
            if model.phase in (Phase.LOADED, Phase.LOADING):
                await self._desk.host.unload(model.id)
        if path == "/unload":
            await turn.whole(200, _TEXT, b"OK")
        else:
            await turn.whole(200, [JSON], json.encode({"msg": "ok"}))

    async def _reload(self, turn: Turn, scope: Scope) -> None:
        await take_body(turn, scope, self._desk)
        done = await self._desk.sees(turn).reload()
        await turn.whole(200, [JSON], json.encode(done))


def _row(model: ServedModel, *, whole: bool) -> dict[str, Any]:
    """What llama-swap tells of a model, and more; command lines may hold secrets and are for who manages the server."""
    return {
        "model": model.id,
        "state": STATES[model.phase],
        "name": model.name,
        "description": model.description,
        "cmd": model.started_by if whole else "",
        "proxy": model.address if whole else "",
        "ttl": math.ceil(model.ttl_s or 0),
        "engine": model.engine,
        "requests": model.requests,
        "waiting": model.waiting,
        "slots": model.slots,
        "context_length": model.slot_context_tokens,
        "cores": format_cpulist(model.cores) or None,
        "numa": model.numa,
        "cores_because": model.cores_because or None,
    }


def _told(profiles: Profiles) -> dict[str, Any]:
    known = [{"name": one.id, "description": one.description, "pins": dict(one.pins)} for one in profiles.known]
    return {"profiles": known, "active": profiles.active or None}


def _profile_in(body: bytes) -> str:
    """The name in a request, empty for none.

    Raises:
        ReplyError: it does not say.
    """
    try:
        found = json.decode(body)
    except (ValueError, RecursionError):
        found = None
    name = found.get("name", "") if isinstance(found, dict) else ""
    if name == "" or not isinstance(name, str | None):
        words = 'name the profile: {"name": "..."}, or null for none'
        raise ReplyError(ApiError(status=400, message=words, param="name", code="profile_required"))
    return name or ""


def _model_in(body: bytes) -> str:
    """The name in a request.

    Raises:
        ReplyError: there is none.
    """
    try:
        found = json.decode(body)
    except (ValueError, RecursionError):
        found = None
    name = found.get("model") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name:
        words = 'name the model: {"model": "..."}'
        raise ReplyError(ApiError(status=400, message=words, param="model", code="model_required"))
    return name
