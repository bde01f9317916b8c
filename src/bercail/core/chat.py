"""The part of a request that the gateway must understand: what was asked, what went wrong, chunks to one answer."""

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
    """

    endpoint: Endpoint
    model: str
    stream: bool = False
    wants_progress: bool = False
    choices: int = 1
    token_details: bool = False
    dimensions: int | None = None
    plain: bool = False

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
        kind=KINDS.get(status, "server_error"),
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
    return ApiError(
        status=status,
        message=message,
        kind=kind or KINDS.get(status, "server_error"),
        param=error["param"] if isinstance(error.get("param"), str) else None,
        code=code if isinstance(code, str) else None,
    )


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


class Fold:
    """Folds the chunks of a stream into the one answer that the engine would have given without streaming."""

    def __init__(self, endpoint: Endpoint, *, choices_per_prompt: int = 1) -> None:
        self._chat = endpoint is Endpoint.CHAT
        self._per_prompt = max(1, choices_per_prompt)
        self._top: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._usages: list[Json] = []
        self._timings: tuple[int, object] | None = None
        self._latest = 0

    @property
    def begun(self) -> bool:
        """There is something of an answer."""
        return any(choice.texts or choice.calls for choice in self._choices.values())

    @property
    def complete(self) -> bool:
        """There is an answer, and every choice has been finished."""
        return bool(self._choices) and all(choice.finish_reason is not None for choice in self._choices.values())

    def add(self, chunk: Json) -> None:
        """Take in the next chunk, which is used up; those that only report progress add nothing but their ids."""
        self._add_choices(chunk.pop("choices", None))
        if isinstance(usage := chunk.pop("usage", None), dict):
            self._usages.append(usage)
        if "timings" in chunk:
            timings = chunk.pop("timings")
            if self._timings is None or self._latest <= self._timings[0]:
                self._timings = (self._latest, timings)
        chunk.pop("prompt_progress", None)
        self._top.update(chunk)

    def _add_choices(self, choices: object) -> None:
        for item in choices if isinstance(choices, list) else ():
            if isinstance(item, dict):
                index = item.get("index")
                self._latest = index if isinstance(index, int) else 0
                choice = self._choices.setdefault(self._latest, _Choice())
                choice.add(item, chat=self._chat)

    def answer(self) -> Json:
        """The answer so far."""
        made: Json = {
            "choices": [choice.folded(index, chat=self._chat) for index, choice in sorted(self._choices.items())]
        }
        made |= self._top
        made["object"] = "chat.completion" if self._chat else "text_completion"
        if self._usages:
            made["usage"] = self._usage()
        if self._timings is not None:
            made["timings"] = self._timings[1]
        return made

    def _usage(self) -> Json:
        """Tokens over all choices; a prompt that several choices share counts once."""
        if len(self._usages) == 1:
            return self._usages[0]
        made = _sum(self._usages)
        prompt = _count(made, "prompt_tokens") // self._per_prompt
        details = made.get("prompt_tokens_details")
        if isinstance(details, dict):
            made["prompt_tokens_details"] = {name: _count(details, name) // self._per_prompt for name in details}
        return made | {"prompt_tokens": prompt, "total_tokens": prompt + _count(made, "completion_tokens")}


class _Choice:
    """One choice while it grows."""

    __slots__ = ("calls", "finish_reason", "function_call", "logprobs", "others", "role", "texts")

    def __init__(self) -> None:
        self.role: object = "assistant"
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, Json] = {}
        self.function_call: Json | None = None
        self.logprobs: object = None
        self.finish_reason: object = None
        self.others: Json = {}

    def add(self, item: Json, *, chat: bool) -> None:
        """Take in what a chunk says of this choice, which is used up."""
        item.pop("index", None)
        self._add_delta(item.pop("delta", None))
        if (reason := item.pop("finish_reason", None)) is not None:
            self.finish_reason = reason
        for name, value in item.items():
            if name == "text" and not chat:
                self._add_text(name, value)
            elif name == "logprobs":
                self.logprobs = _joined(self.logprobs, value)
            else:
                self.others[name] = value

    def _add_delta(self, delta: object) -> None:
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name == "role":
                self.role = value or self.role
            elif name == "tool_calls":
                self._add_calls(value)
            elif name == "function_call":
                self.function_call = _grown(self.function_call or {}, value)
            else:
                self._add_text(name, value)

    def _add_text(self, name: str, value: object) -> None:
        if isinstance(value, str):
            self.texts.setdefault(name, []).append(value)
        elif value is not None:
            self.others[name] = value

    def _add_calls(self, calls: object) -> None:
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                index = call.get("index")
                at = index if isinstance(index, int) else len(self.calls)
                rest = {name: value for name, value in call.items() if name != "index"}
                self.calls[at] = _grown(self.calls.get(at, {"type": "function"}), rest)

    def folded(self, index: int, *, chat: bool) -> Json:
        """This choice in the shape of a single answer."""
        texts = {name: "".join(parts) for name, parts in self.texts.items()}
        if not chat:
            made: Json = {"text": texts.pop("text", ""), "index": index, "logprobs": self.logprobs}
            return made | self.others | texts | {"finish_reason": self.finish_reason}
        message: Json = {"role": self.role, "content": texts.pop("content", "")} | texts | self.others
        if self.calls:
            message["tool_calls"] = [call for _, call in sorted(self.calls.items())]
        if self.function_call is not None:
            message["function_call"] = self.function_call
        made = {"finish_reason": self.finish_reason, "index": index, "message": message}
        return made if self.logprobs is None else made | {"logprobs": self.logprobs}


def _grown(known: Json, delta: object) -> Json:
    """A tool call with a delta added: arguments grow, everything else is told once."""
    made = dict(known)
    for name, value in delta.items() if isinstance(delta, dict) else ():
        before = made.get(name)
        if name == "function":
            made[name] = _grown(before if isinstance(before, dict) else {"name": "", "arguments": ""}, value)
        elif name == "arguments" and isinstance(value, str):
            made[name] = (before if isinstance(before, str) else "") + value
        elif value is not None:
            made[name] = value
    return made


def _joined(known: object, more: object) -> object:
    """Log probabilities with more appended, list by list."""
    if not isinstance(more, dict):
        return known
    if not isinstance(known, dict):
        return dict(more)
    made = dict(known)
    for name, value in more.items():
        before = made.get(name)
        made[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return made


def _count(counts: Mapping[str, object], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0


def _sum(usages: list[Json]) -> Json:
    """Counters added up, nested ones too."""
    made: Json = {}
    for usage in usages:
        for name, value in usage.items():
            before = made.get(name)
            if isinstance(value, dict):
                made[name] = _sum([before, value]) if isinstance(before, dict) else dict(value)
            elif isinstance(value, int):
                made[name] = value + (before if isinstance(before, int) else 0)
    return made
