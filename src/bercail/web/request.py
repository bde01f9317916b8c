"""A request as it comes in: its body within bounds, and the few members of it that the gateway must know."""

import asyncio
from typing import TypeVar

import msgspec

from bercail.core.chat import ApiError, Ask, Endpoint, Json
from bercail.core.units import Bytes, Seconds
from bercail.web.asgi import Scope
from bercail.web.errors import ReplyError
from bercail.web.turn import Turn

T = TypeVar("T")
STALL_S: Seconds = 30.0
"""Longest silence within a body."""
TOTAL_S: Seconds = 600.0
"""Longest time for a whole body."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class _Peek(msgspec.Struct):
    """The members that are read; all others are skipped unparsed."""

    model: str | None = None
    stream: bool | None = None
    return_progress: bool | None = None
    n: int | float | None = None
    logprobs: bool | int | None = None
    n_probs: int | float | None = None
    reasoning_format: str | None = None
    dimensions: int | None = None


_decoder = msgspec.json.Decoder(_Peek)


def peek(endpoint: Endpoint, body: bytes) -> Ask:
    """What the gateway must know of a body.

    Raises:
        ReplyError: it is not a JSON object, or one of these members has the wrong type.
    """
    seen = decoded(_decoder, body)
    return Ask(
        endpoint=endpoint,
        model=seen.model or "",
        stream=bool(seen.stream),
        wants_progress=bool(seen.return_progress),
        choices=int(seen.n) if seen.n and 1 <= seen.n <= 1024 else 1,
        token_details=bool(seen.logprobs or seen.n_probs or seen.reasoning_format == "deepseek-legacy"),
        dimensions=seen.dimensions,
    )


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A body read by ``decoder``.

    Raises:
        ReplyError: it is not a JSON object, or one of the members that are looked at has the wrong type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ReplyError(_invalid(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = "the body is empty; it must be a JSON object" if not body else f"the body is not valid JSON: {error}"
        raise ReplyError(ApiError(status=400, message=what, code="invalid_json")) from error
    except RecursionError as error:
        what = "the body is nested too deeply to be read"
        raise ReplyError(ApiError(status=400, message=what, code="invalid_json")) from error


def encoded(body: Json) -> bytes:
    """A body for the engine.

    Raises:
        ReplyError: it is nested too deeply to be written.
    """
    try:
        return msgspec.json.encode(body)
    except RecursionError as error:
        message = "the body is nested too deeply to be read"
        raise ReplyError(ApiError(status=400, message=message, code="invalid_json")) from error


def _invalid(words: str) -> ApiError:
    """A wrong type in words: the member is named after ``$.``, or the body itself is not an object."""
    if "$." not in words:
        return ApiError(status=400, message="the body must be a JSON object", code="invalid_json")
    found, _, param = words.rstrip("`").partition(" - at `$.")
    return ApiError(status=400, message=f"{param}: {found.lower()}", param=param, code="invalid_type")


async def read_body(scope: Scope, turn: Turn, limit_bytes: Bytes) -> bytes:
    """The whole body; one that is too slow stops the turn.

    Raises:
        ReplyError: it is longer than ``limit_bytes``, or encoded.
        ClientGoneError: the client left before the end.
    """
    _check_headers(scope["headers"], limit_bytes)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + TOTAL_S
    length, parts, more = 0, list[bytes](), True
    while more:
        stall = loop.call_at(min(loop.time() + STALL_S, deadline_s), turn.stop, _SLOW)
        try:
            message = await turn.receive()
        finally:
            stall.cancel()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        more = message.get("more_body", False)
        if length > limit_bytes:
            raise ReplyError(_too_long(limit_bytes))
    return parts[0] if len(parts) == 1 else b"".join(parts)


_SLOW = ApiError(
    status=408,
    message=f"the body did not arrive in time: nothing came for {STALL_S:.0f} s, or {TOTAL_S:.0f} s passed in all",
    code="slow_body",
    final=True,
)


def _check_headers(headers: list[tuple[bytes, bytes]], limit_bytes: Bytes) -> None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise ReplyError(_too_long(limit_bytes))
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            message = f"content-encoding {value.decode('latin-1')} is not supported; send the body as it is"
            raise ReplyError(ApiError(status=415, message=message, code="unsupported_encoding"))


def _too_long(limit_bytes: Bytes) -> ApiError:
    words = f"the body is longer than {limit_bytes} bytes; the server's owner can raise the limit with --body-limit"
    return ApiError(status=413, message=words, code="body_too_large", final=True)
