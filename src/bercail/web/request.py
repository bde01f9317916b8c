"""A request as it comes in: its body within bounds, and the few members of it that the gateway must know."""

import asyncio
import re
from operator import attrgetter
from typing import TypeAlias, TypeVar

import msgspec

from bercail.core.chat import ApiError, Ask, Endpoint, Json
from bercail.core.units import Bytes, Seconds
from bercail.web.asgi import Headers, Scope
from bercail.web.errors import ReplyError
from bercail.web.turn import Turn

T = TypeVar("T")
STALL_S: Seconds = 30.0
"""Longest silence within a body."""
TOTAL_S: Seconds = 600.0
"""Longest time for a whole body."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""


Whole: TypeAlias = int | float
"""A whole number, which may be written as 5.0."""


class _Peek(msgspec.Struct):
    """The members that are read; all others are skipped unparsed."""

    model: str | None = None
    dimensions: int | None = None


class _Generation(_Peek):
    """Those of chats and completions: what is of another type is refused here, by its name.

    llama.cpp (b11549) refuses some in the words of its JSON library, passes over others, and cuts fractions off whole
    numbers. What may be long is not read: its first byte tells what it is.
    """

    stream: bool | None = None
    return_progress: bool | None = None
    n: Whole | None = None
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    seed: Whole | None = None
    top_k: Whole | None = None
    top_logprobs: Whole | None = None
    n_probs: Whole | None = None
    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    logprobs: bool | int | None = None
    reasoning_format: str | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    suffix: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")


_NO_SUFFIX = (b"", b"null", b'""')
_decoder = msgspec.json.Decoder(_Peek)
_generation = msgspec.json.Decoder(_Generation)
_WHOLE = tuple(field.name for field in msgspec.structs.fields(_Generation) if field.type == Whole | None)
_whole = attrgetter(*_WHOLE)


def peek(endpoint: Endpoint, body: bytes) -> Ask:
    """What the gateway must know of a body.

    Raises:
        ReplyError: it is not a JSON object, or one of these members has the wrong type.
    """
    if endpoint is Endpoint.EMBEDDINGS:
        vectors = decoded(_decoder, body)
        return Ask(endpoint=endpoint, model=vectors.model or "", dimensions=vectors.dimensions)
    seen = decoded(_generation, body)
    _check(endpoint, seen)
    return Ask(
        endpoint=endpoint,
        model=seen.model or "",
        stream=bool(seen.stream),
        wants_progress=bool(seen.return_progress),
        choices=int(seen.n) if seen.n and 1 <= seen.n <= 1024 else 1,
        token_details=bool(seen.logprobs or seen.n_probs or seen.reasoning_format == "deepseek-legacy"),
        gap=endpoint is Endpoint.COMPLETION and bytes(seen.suffix) not in _NO_SUFFIX,
    )


def _check(endpoint: Endpoint, seen: _Generation) -> None:
    """Refuse fractions of whole numbers, and what begins otherwise than it must.

    Raises:
        ReplyError: there is one.
    """
    if float in map(type, values := _whole(seen)):
        for name, value in zip(_WHOLE, values, strict=True):
            if isinstance(value, float) and not value.is_integer():
                raise ReplyError(_wrong_type(name, "a whole number", f"{value:g}"))
    if endpoint is Endpoint.CHAT:
        if not begins(seen.messages, b"[", b""):
            raise ReplyError(_wrong_type("messages", "a list", _told(seen.messages)))
        if not begins(seen.tools, b"[", b"n", b""):
            raise ReplyError(_wrong_type("tools", "a list", _told(seen.tools)))
    elif not begins(seen.suffix, b'"', b"n", b""):
        raise ReplyError(_wrong_type("suffix", "a text", _told(seen.suffix)))
    elif bytes(seen.suffix) not in _NO_SUFFIX and not begins(seen.prompt, b'"', b"n", b""):
        raise ReplyError(_wrong_type("prompt", "a text where there is a suffix", _told(seen.prompt)))
    elif not begins(seen.prompt, b'"', b"[", b"{", b"n", b""):
        raise ReplyError(_wrong_type("prompt", "a text or a list", _told(seen.prompt)))


def begins(value: msgspec.Raw, *firsts: bytes) -> bool:
    """Whether the first byte of a value is one of these; none at all is that of a value that is missing."""
    return memoryview(value)[:1] in firsts


_KINDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "array": "a list", "object": "an object",
    "bool": "true or false",
}  # fmt: skip
"""Types as msgspec names them."""
_FIRSTS = {b"[": "a list", b"{": "an object", b'"': "a text", b"t": "true", b"f": "false", b"n": "null"}


def _told(value: msgspec.Raw) -> str:
    return _FIRSTS.get(bytes(memoryview(value)[:1]), "a number")


def _wrong_type(param: str, wanted: str, found: str) -> ApiError:
    message = f"{param} must be {wanted}, not {found}"
    return ApiError(status=400, message=message, param=param, code="invalid_type")


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


_MISMATCH = re.compile(r"Expected `([^`]+)`, got `(\w+)`")


def _invalid(words: str) -> ApiError:
    """A wrong type in words: the member is named after ``$.``, or the body itself is not an object."""
    if "$." not in words:
        return ApiError(status=400, message="the body must be a JSON object", code="invalid_json")
    told, _, param = words.rstrip("`").partition(" - at `$.")
    found = _MISMATCH.match(told)
    if found is None:
        return ApiError(status=400, message=f"{param}: {told}", param=param, code="invalid_type")
    wanted = found[1].removesuffix(" | null").replace("int | float", "int")
    kinds = " or ".join(_KINDS.get(kind, kind) for kind in wanted.split(" | "))
    return _wrong_type(param, kinds, _KINDS.get(found[2], found[2]))


def body_at_once(scope: Scope, turn: Turn, limit_bytes: Bytes) -> bytes | None:
    """The whole body if it has come; None if it has to be waited for.

    Raises:
        ReplyError: it is longer than ``limit_bytes``, or encoded.
    """
    _check_encoding(scope["headers"])
    whole = scope["whole"]() if "whole" in scope else None
    if whole is not None and len(whole) > limit_bytes:
        turn.unread = False
        raise ReplyError(_too_long(limit_bytes))
    return whole


async def read_body(scope: Scope, turn: Turn, limit_bytes: Bytes) -> bytes:
    """The whole body; one that is too slow stops the turn.

    Raises:
        ReplyError: it is longer than ``limit_bytes``.
        ClientGoneError: the client left before the end.
    """
    _check_length(scope["headers"], limit_bytes)
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


def _check_length(headers: Headers, limit_bytes: Bytes) -> None:
    """Refuse before it is read what says of itself that it is too long."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise ReplyError(_too_long(limit_bytes))


def _check_encoding(headers: Headers) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            message = f"content-encoding {value.decode('latin-1')} is not supported; send the body as it is"
            raise ReplyError(ApiError(status=415, message=message, code="unsupported_encoding"))


def _too_long(limit_bytes: Bytes) -> ApiError:
    words = f"the body is longer than {limit_bytes} bytes; the server's owner can raise the limit with --body-limit"
    return ApiError(status=413, message=words, code="body_too_large", final=True)
