"""The part of a request that the gateway must understand: what was asked, and what went wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

from bercail.core.errors import BercailError, EngineError

Json: TypeAlias = dict[str, object]
"""A JSON object as a parser gives it."""


class Endpoint(StrEnum):
    """What a client asks for; the value is the last part of the path, below ``/v1/``."""

    CHAT = "chat/completions"
    COMPLETION = "completions"
    EMBEDDINGS = "embeddings"


class Way(StrEnum):
    """How an answer gets from the engine to the client."""

    STREAM = "stream"
    """A stream to a client that asked for one."""
    FOLD = "fold"
    """A stream from the engine, folded into one answer, so that the engine notices a client that left."""
    WHOLE = "whole"
    """One answer from the engine, handed on as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the gateway has to know of a request.

    Attributes:
        model: the name the client wrote, or empty.
        wants_progress: the client wants to see the progress of prefill itself.
        choices: answers per prompt (``n``).
        token_details: log probabilities are asked for, or reasoning in the old format: what a stream of the engine
            tells differs there from what its single answer tells, so the two cannot be exchanged.
        dimensions: values that each embedding is to have; None is as many as the model makes.
        plain: its server is not known to be llama.cpp's: nothing is added that another might refuse.
        gap: it has a ``suffix``, and what comes before that is to be made.
    """

    endpoint: Endpoint
    model: str
    stream: bool = False
    wants_progress: bool = False
    choices: int = 1
    token_details: bool = False
    dimensions: int | None = None
    plain: bool = False
    gap: bool = False

    @property
    def way(self) -> Way:
        """How the answer is to travel."""
        if self.endpoint is Endpoint.EMBEDDINGS:
            return Way.WHOLE
        if self.stream:
            return Way.STREAM
        return Way.WHOLE if self.token_details or self.plain else Way.FOLD


_PROGRESS = b'"return_progress":true'
_FOLDED = b'"stream":true,' + _PROGRESS + b',"stream_options":{"include_usage":true}'


def forwarded(body: bytes, ask: Ask) -> bytes:
    """The body for the engine: the client's bytes, with what we need added before the last brace.

    The engine's parser takes the last of equal keys (tested against llama.cpp b11549), so an addition overrules.

    Args:
        body: a valid JSON object, possibly with white space around it.
        ask: what was found in it.
    """
    match ask.way:
        case Way.WHOLE:
            return body
        case Way.STREAM:
            return body if ask.wants_progress or ask.plain else splice(body, _PROGRESS)
        case Way.FOLD:
            return splice(body, _FOLDED)
        case _ as unreachable:
            assert_never(unreachable)


def splice(body: bytes, addition: bytes) -> bytes:
    """A JSON object with members added at its end.

    Args:
        body: a valid JSON object, possibly with white space around it.
        addition: members without braces, such as ``"a":1,"b":2``.
    """
    end = body.rindex(b"}")
    last = end - 1
    while body[last] in b" \t\r\n":
        last -= 1
    comma = b"" if body[last] == ord("{") else b","
    return b"".join((memoryview(body)[:end], comma, addition, b"}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """An error as OpenAI clients know it.

    Attributes:
        kind: the ``type`` of the error body.
        param: the part of the request that is wrong, or None.
        code: a stable word, or None.
        extra: further members of the error body.
        retry_after_s: when to try again, or None.
        final: trying again is no use, whatever the status says.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    retry_after_s: int | None = None
    final: bool = False

    def body(self) -> Json:
        """The body, ready to be written as JSON."""
        error: Json = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error | dict(self.extra)}


LOG_LINES = 12
"""Lines of an engine's log that an error carries to the client."""

KINDS: Mapping[int, str] = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "invalid_request_error",
    429: "rate_limit_error", 501: "not_supported_error", 503: "unavailable_error",
}  # fmt: skip

FAULT = 500
"""From this status on it is the server that failed, not the request."""


def error_from(
    error: BercailError,
    status: int,
    *,
    param: str | None = None,
    retry_after_s: int | None = None,
    final: bool = False,
) -> ApiError:
    """An error of ours as an API error: its sentence, its hint, its code and the last lines of the engine's log."""
    tail = error.log_tail[-LOG_LINES:] if isinstance(error, EngineError) else ()
    return ApiError(
        status=status,
        message=f"{error.message}: {error.hint}" if error.hint else error.message,
        kind=KINDS.get(status, "server_error" if status >= FAULT else "invalid_request_error"),
        param=param,
        code=error.code,
        extra={"log_tail": list(tail)} if tail else {},
        retry_after_s=retry_after_s,
        final=final,
    )


_UNNAMED = frozenset(("stopping", "context_length_exceeded", "slow_body"))
"""Errors that are of the whole server, of the request, or known to agents by their very words."""
LEAST_NAMED = 422
"""Below this status a request is wrong, and its sender knows which model it asked."""


def named(error: ApiError, model: str) -> ApiError:
    """The same error with the name of its model in front, unless it tells it already; an empty name is none."""
    if not model or error.status < LEAST_NAMED or error.code in _UNNAMED:
        return error
    if re.search(rf"(?<![\w/-]){re.escape(model)}(?![\w/-])", error.message):
        return error
    return replace(error, message=f"{model}: {error.message}")


def engine_refusal(status: int, answer: object, text: str = "") -> ApiError:
    """What an engine answered instead of a result, as an API error; a context overflow in the words agents match.

    Args:
        status: HTTP status of the answer, or 200 for an error inside a stream, which then carries its own.
        answer: the parsed body or event, or None if it is not JSON.
        text: the body as text, for answers in no known shape.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        words = f"the engine answered with status {status} and no error of a known shape"
        detail = f": {text[:200]}" if text.strip() else ""
        return ApiError(status=_real(status), message=words + detail, kind="server_error", code="engine")
    code = error.get("code")
    status = _real(code if isinstance(code, int) and not isinstance(code, bool) else status)
    message, kind = str(error.get("message") or "the engine gave no reason"), str(error.get("type") or "")
    if kind == "exceed_context_size_error" or "is too large to process" in message:  # so of texts to embed
        return overflow(error, message)
    return wrong_member(message) or ApiError(
        status=status,
        message=message,
        kind=kind or KINDS.get(status, "server_error"),
        param=error["param"] if isinstance(error.get("param"), str) else None,
        code=code if isinstance(code, str) else None,
    )


_FIELD = re.compile(r"Field '([^']+)': (.+)", re.DOTALL)
_UNREAD = re.compile(r"Failed to parse (messages|tools): (.+)", re.DOTALL)
_TYPES = re.compile(r"\[json\.exception\.type_error\.\d+\] type must be (\w+), but is (\w+)")
_KINDS = {
    "number": "a number", "string": "a text", "boolean": "true or false", "array": "a list", "object": "an object",
}  # fmt: skip


def wrong_member(message: str) -> ApiError | None:
    """What llama.cpp (b11549) says of a member that it cannot read, in our words; None if it says no such thing.

    It calls its own failure what is wrong within messages and tools.
    """
    found, types = _FIELD.fullmatch(message) or _UNREAD.fullmatch(message), _TYPES.search(message)
    if types:
        wanted, given = (_KINDS.get(types[place], types[place]) for place in (1, 2))
        words = f"{wanted} was expected, not {given}"
    elif found:
        words = found[2].strip()
    else:
        return None
    param = found[1] if found else None
    message = f"{param or 'a member of the request'}: {words}"
    return ApiError(status=400, message=message, param=param, code="invalid_type" if types else None)


def _real(status: int) -> int:
    return status if 400 <= status < 600 else 502


_COUNTS = re.compile(r"(input \d+: )?(?:\w+ )?\((\d+) tokens\).*?(?:\((\d+) tokens\)|size: (\d+)\))")


def overflow(error: Mapping[str, object], message: str) -> ApiError:
    """The refusal of a prompt that is longer than the context, in both wordings that agents look for."""
    asked, limit, found = error.get("n_prompt_tokens"), error.get("n_ctx"), _COUNTS.search(message)
    if not (isinstance(asked, int) and isinstance(limit, int)):
        asked, limit = (int(found[2]), int(found[3] or found[4])) if found else (None, None)
    if asked is None or limit is None:
        return ApiError(status=400, message=message, code="context_length_exceeded")
    place = found[1] or "" if found else ""
    words = (
        f"{place}This model's maximum context length is {limit} tokens. However, you requested {asked} tokens. "
        f"Shorten the prompt, or start the model with a larger context. "
        f"llama.cpp: request ({asked} tokens) exceeds the available context size ({limit} tokens), try increasing it"
    )
    counts = {"n_prompt_tokens": asked, "n_ctx": limit}
    return ApiError(status=400, message=words, code="context_length_exceeded", extra=counts)
