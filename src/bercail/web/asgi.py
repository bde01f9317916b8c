"""The shapes that an ASGI server and its application exchange."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, NotRequired, TypeAlias, TypedDict

from bercail.core.units import Seconds

Watch: TypeAlias = Callable[[Callable[[], None]], None]
"""Takes what to call when the connection ends; it is called at once if that has happened."""

Push: TypeAlias = Callable[[bytes], bool]
"""Takes a piece of an answer; whether it was written."""


class Scope(TypedDict):
    """A request's line and headers.

    Attributes:
        raw_path: the path as it came, percent-encoding untouched.
        query_string: what follows its question mark, likewise.
        client: address and port that it came from; None where there is none.
        push: an extension of our own server: writes a piece of an answer that has begun, without a task that waits for
            it; False, and nothing is written, where that has to be waited for.
        take: another: the connection itself, which leaves HTTP with it.
        watch: another; with any other the end of a connection is waited for by ``receive``.
        whole: another: the whole body if it has come, without a task that waits for it, else None.
    """

    type: str
    method: str
    path: str
    raw_path: NotRequired[bytes]
    query_string: NotRequired[bytes]
    headers: list[tuple[bytes, bytes]]
    client: NotRequired[tuple[str, int] | None]
    push: NotRequired[Push]
    watch: NotRequired[Watch]
    take: NotRequired[Callable[[], asyncio.Transport]]
    whole: NotRequired[Callable[[], bytes | None]]


Message: TypeAlias = MutableMapping[str, Any]
"""An event; its members depend on its ``type``, which is why they have no narrower type than Any."""
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
CLOSE: tuple[bytes, bytes] = (b"connection", b"close")


def content_type(headers: Headers) -> str:
    """Of an answer; empty if it says none."""
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"content-type"), "")


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


LINGER_S: Seconds = 1.0
"""How long the rest of a refused body is read and thrown away, so that its sender gets to see the answer."""


async def refuse(receive: Receive, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer to a request whose body has not been read.

    It goes out before the connection is closed, which would else reset it under the sender.
    """
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
