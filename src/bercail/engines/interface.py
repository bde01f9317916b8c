"""The HTTP interface of ``llama-server`` for a library in this process; our own workers serve it.

Served are chats, completions and counts of their tokens, or embeddings, the list of models and health, in the shapes of
llama.cpp b11549, so that the gateway and clients meet one kind of engine. What a library cannot do is refused with its
name, never left out in silence.
"""

from typing import TypeAlias

from bercail.engines.counting import PATHS as COUNTS
from bercail.engines.counting import count
from bercail.engines.embedding import PATHS, Embeds, embed
from bercail.engines.exchange import Receive, RefusedError, Scope, Send, answer
from bercail.engines.generating import KINDS, Generates, generate

Library: TypeAlias = Generates | Embeds
"""What a worker serves: it does one or the other."""


class Interface:
    """An ASGI application around a library."""

    def __init__(self, library: Library, model_id: str) -> None:
        self._library = library
        self._model_id = model_id
        self._numbers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(str(scope["method"]), str(scope["path"]), receive, send)
        except RefusedError as refused:
            await answer(send, refused.status, refused.body)

    async def _route(self, method: str, path: str, receive: Receive, send: Send) -> None:
        if method == "POST" and (path in KINDS or path in PATHS or path in COUNTS):
            await self._work(path, receive, send)
        elif path in ("/health", "/v1/health"):
            await answer(send, 200, {"status": "ok"})
        elif path in ("/v1/models", "/models"):
            meta = {"n_ctx": self._library.context_tokens, "lacks": sorted(self._library.lacks)}
            model = {"id": self._model_id, "object": "model", "owned_by": self._library.name, "meta": meta}
            await answer(send, 200, {"object": "list", "data": [model]})
        else:
            raise RefusedError(404, "File Not Found", "not_found_error")

    async def _work(self, path: str, receive: Receive, send: Send) -> None:
        library, kind = self._library, KINDS.get(path)
        if isinstance(library, Embeds):
            if path not in PATHS:
                raise _other(library, "embed, not to generate: ask /v1/embeddings")
            await embed(library, self._model_id, receive, send)
        elif path in COUNTS:
            await count(library, path, receive, send)
        elif kind is None:
            raise _other(library, "generate, not to embed")
        else:
            self._numbers += 1
            await generate(library, (f"{kind.prefix}{self._numbers}", self._model_id), kind, receive, send)


def _other(library: Library, purpose: str) -> RefusedError:
    return RefusedError(501, f"{library.name} was started to {purpose}", "not_supported_error")
