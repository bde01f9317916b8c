"""One request to a worker of ours: its body, its client that may leave, its answer or refusal."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from bercail.core.units import Tokens

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FAILED = "failed: "
"""Begins the reason of an answer that the library could not finish."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": status, "message": message, "type": kind, **more}}

    @classmethod
    def too_long(cls, tokens: Tokens, context: Tokens, where: str = "") -> "RefusedError":
        """More than the model may read at once, in llama.cpp's words, with both numbers."""
        what = f"{where}request ({tokens} tokens) exceeds the available context size ({context} tokens)"
        kind = "exceed_context_size_error"
        return cls(400, f"{what}, try increasing it", kind, n_prompt_tokens=tokens, n_ctx=context)


async def read_body(receive: Receive) -> bytes:
    """All of the request."""
    body = b""
    while True:
        message = await receive()
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body"):
            return body


async def left(receive: Receive) -> None:
    """Returns once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_left(receive: Receive, work: Awaitable[None], cancel: Callable[[], None]) -> None:
    """Wait for ``work``, and no longer than the client does; ``cancel`` is called at its end in any case."""
    leaving = asyncio.create_task(left(receive))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((leaving, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    finally:
        cancel()
        leaving.cancel()


async def answer(send: Send, status: int, body: object) -> None:
    """All of an answer, as JSON."""
    content = msgspec.json.encode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def event(value: object) -> bytes:
    """A piece of a stream, as JSON."""
    return b"data: %s\n\n" % msgspec.json.encode(value)
