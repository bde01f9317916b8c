"""What clients speak beside OpenAI's chat: what engines speak themselves, Ollama's interface, an engine's own paths."""

import re
from collections.abc import Sequence
from typing import Protocol

from bercail.core.chat import ApiError
from bercail.core.dialect import PASSAGES, STATES, Form
from bercail.ports import Log
from bercail.web.asgi import Scope
from bercail.web.desk import Desk, Errand, Notice, notice
from bercail.web.dialects.events import PATH as EVENTS
from bercail.web.dialects.events import Events
from bercail.web.dialects.history import ACTIVITY, STATS, History
from bercail.web.dialects.inflight import ROUTE as CANCEL
from bercail.web.dialects.inflight import Inflight
from bercail.web.dialects.logs import Logs
from bercail.web.dialects.memory import METHODS, Memory
from bercail.web.dialects.ollama import METHODS as OLLAMA
from bercail.web.dialects.ollama import Ollama
from bercail.web.dialects.passage import Passages
from bercail.web.dialects.through import Through
from bercail.web.dialects.tongue import SPOKEN
from bercail.web.dialects.translating import Translating
from bercail.web.errors import written

ROUTES = (
    *(f"POST {path}" for path in PASSAGES),
    *(f"GET {path}" for path in STATES),
    *(f"{'|'.join(methods)} {path}" for path, methods in METHODS.items()),
    f"GET {EVENTS}",
    f"GET {ACTIVITY}",
    f"GET {STATS}",
    CANCEL,
    "GET /logs",
    "GET /logs/stream",
    *(f"{'|'.join(methods)} {path}" for path, methods in OLLAMA.items()),
    "ANY /upstream/{model}/...",
    "ANY /comfyui/{path}",
)


class Teller(Protocol):
    """Answers requests to some paths."""

    def methods(self, path: str) -> tuple[str, ...]:
        """What a path takes; empty if it is none of these."""
        ...

    def errand(self, path: str) -> Errand:
        """What answers a request to one of these paths."""
        ...


class Dialects:
    """Finds who answers a request."""

    def __init__(self, desk: Desk) -> None:
        self._passages = Passages(desk)
        self._translating = Translating(desk, self._passages)
        self._ollama = Ollama(desk)
        self._through = Through(desk)
        self._tellers: tuple[Teller, ...] = (Memory(desk), History(desk), Inflight(desk))
        self._desk = desk
        self._following: tuple[Teller, ...] = (Events(desk, None),)

    def take_log(self, log: Log | None) -> None:
        """Have ``/logs`` tell what stands there; None tells nothing."""
        logs: tuple[Teller, ...] = () if log is None else (Logs(self._desk, log),)
        self._following = (Events(self._desk, log), *logs)

    def take_assets(self, expressions: Sequence[str]) -> None:
        """From now on load no model for paths of an engine that match one of these."""
        self._through.assets = tuple(re.compile(expression) for expression in expressions)

    def look_up(self, scope: Scope, path: str) -> Errand | Notice | None:
        """An errand, or a notice; None for a path of nobody's here.

        Args:
            scope: the request.
            path: decoded, without a slash at its end.
        """
        if path.startswith(("/upstream/", "/comfyui/")) or path == "/comfyui":
            return self._through.look_up(scope)
        for teller in (*self._tellers, *self._following):
            if methods := teller.methods(path):
                if scope["method"] in methods:
                    return teller.errand(path)
                return not_allowed(path, methods, scope["method"], Form.OPENAI)
        if path.startswith("/api/"):
            return self._ollama.look_up(scope["method"], path)
        found = self._passages.methods(path)
        if not found:
            return None
        if scope["method"] == "OPTIONS":
            return notice((204, [(b"allow", ", ".join((*found, "OPTIONS")).encode())], b""))
        if scope["method"] in found:
            return self._translating.errand(path) if path in SPOKEN else self._passages.errand(path, scope["method"])
        return not_allowed(path, (*found, "OPTIONS"), scope["method"], self._passages.form(path))


def not_allowed(path: str, methods: tuple[str, ...], method: str, form: Form) -> Notice:
    """The answer to a method that a path does not take."""
    allowed = ", ".join(methods)
    error = ApiError(status=405, message=f"{path[:200]} takes {allowed}, not {method}", code="method_not_allowed")
    headers, body = written(error, form)
    return notice((405, [*headers, (b"allow", allowed.encode())], body), form)
