"""The dialects of clients: how each words an error, and the endpoints that an engine speaks by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bercail.core.chat import ApiError, Json
from bercail.core.model import Capability

LLAMA_CPP = "llama.cpp"
_OURS = frozenset({LLAMA_CPP, "openvino", "onnxruntime"})


class Form(StrEnum):
    """Whose words an answer is in."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


_ANTHROPIC_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


def error_body(error: ApiError, form: Form) -> Json:
    """The body of an answer that is an error."""
    match form:
        case Form.ANTHROPIC:
            return {"type": "error", "error": {"type": _anthropic_kind(error), "message": _wording(error)}}
        case Form.OLLAMA:
            return {"error": error.message}
        case _:
            return error.body()


def _anthropic_kind(error: ApiError) -> str:
    status = error.status
    if error.final and status == 503:
        return "api_error"  # what is overloaded is asked again and again
    return _ANTHROPIC_KINDS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def _wording(error: ApiError) -> str:
    """Agents on this dialect know a prompt that is too long by one sentence alone."""
    asked, limit = error.extra.get("n_prompt_tokens"), error.extra.get("n_ctx")
    if error.code != "context_length_exceeded" or asked is None or limit is None:
        return error.message
    return f"prompt is too long: {asked} tokens > {limit} maximum"


def error_event(error: ApiError, form: Form, number: int = 0) -> tuple[str, Json]:
    """The event that breaks a stream off: its name, empty if events have none there, and its data.

    Args:
        error: what happened.
        form: whose words.
        number: of the event, where events are numbered.
    """
    body = error_body(error, form)
    match form:
        case Form.ANTHROPIC:
            return "error", body
        case Form.RESPONSES:
            plain: Json = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
            plain["sequence_number"] = number
            return "error", plain | body
        case _:
            return "", body


class Shape(StrEnum):
    """What the stream of an endpoint is made of."""

    MESSAGES = "messages"
    RESPONSES = "responses"
    NATIVE = "native"
    """llama.cpp's own completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """An endpoint that engines speak by themselves.

    Attributes:
        label: its name in the metrics.
        target: its path at the engine.
        shape: of its streams; None if it has none.
        needs: what the model must be able to do, or None.
        engines: those of ours that speak it, by name.
        multipart: the body is a form with files.
        requires: a member of the body without which it is no request, a list; or empty.
    """

    label: str
    target: str
    form: Form = Form.OPENAI
    shape: Shape | None = None
    needs: Capability | None = None
    engines: frozenset[str] = frozenset({LLAMA_CPP})
    multipart: bool = False
    requires: str = ""


_MESSAGES = Passage(
    label="messages", target="/v1/messages", form=Form.ANTHROPIC, shape=Shape.MESSAGES, needs=Capability.CHAT,
    engines=_OURS, requires="messages",
)  # fmt: skip
_COUNT = Passage(
    label="messages/count_tokens", target="/v1/messages/count_tokens", form=Form.ANTHROPIC, needs=Capability.CHAT,
    engines=_OURS, requires="messages",
)  # fmt: skip
_RESPONSES = Passage(
    label="responses", target="/v1/responses", form=Form.RESPONSES, shape=Shape.RESPONSES, needs=Capability.CHAT,
    engines=_OURS,
)  # fmt: skip
_INPUT = Passage(
    label="responses/input_tokens", target="/v1/responses/input_tokens", form=Form.RESPONSES, needs=Capability.CHAT,
    engines=_OURS,
)  # fmt: skip
_RERANK = Passage(label="rerank", target="/v1/rerank", needs=Capability.RERANK)
_COMPLETION = Passage(
    label="completion", target="/completion", shape=Shape.NATIVE, needs=Capability.COMPLETION,
    engines=_OURS,
)  # fmt: skip
_INFILL = Passage(label="infill", target="/infill", shape=Shape.NATIVE, needs=Capability.COMPLETION)


def _plain(path: str, **changes: object) -> Passage:
    return Passage(label=path.removeprefix("/v1/").lstrip("/"), target=path, **changes)  # type: ignore[arg-type] # named


_NONE: frozenset[str] = frozenset()

PASSAGES: Mapping[str, Passage] = {
    "/v1/messages": _MESSAGES,
    "/v1/messages/count_tokens": _COUNT,
    "/v1/responses": _RESPONSES,
    "/responses": _RESPONSES,
    "/v1/responses/input_tokens": _INPUT,
    "/v1/chat/completions/input_tokens": _plain("/v1/chat/completions/input_tokens", engines=_OURS),
    "/v1/rerank": _RERANK,
    "/v1/reranking": _RERANK,
    "/rerank": _RERANK,
    "/reranking": _RERANK,
    "/completion": _COMPLETION,
    "/infill": _INFILL,
    "/tokenize": _plain("/tokenize", engines=_OURS),
    "/detokenize": _plain("/detokenize", engines=_OURS),
    "/apply-template": _plain("/apply-template"),
    "/v1/audio/transcriptions": _plain("/v1/audio/transcriptions", multipart=True, needs=Capability.AUDIO),
    "/v1/audio/translations": _plain("/v1/audio/translations", multipart=True, engines=_NONE),
    "/v1/audio/speech": _plain("/v1/audio/speech", engines=_NONE),
    "/v1/images/generations": _plain("/v1/images/generations", engines=_NONE),
    "/v1/images/edits": _plain("/v1/images/edits", multipart=True, engines=_NONE),
    "/v1/images/variations": _plain("/v1/images/variations", multipart=True, engines=_NONE),
    "/v1/audio/voices": _plain("/v1/audio/voices", engines=_NONE),
    "/sdapi/v1/txt2img": _plain("/sdapi/v1/txt2img", engines=_NONE),
    "/sdapi/v1/img2img": _plain("/sdapi/v1/img2img", engines=_NONE),
    "/audioapi/v1/tasks/run": _plain("/v1/tasks/run", engines=_NONE),
    "/embedding": _plain("/embedding", needs=Capability.EMBEDDINGS),
}
"""Endpoints by the path that clients write."""

STATES: Mapping[str, str] = {
    path: path for path in ("/props", "/slots", "/lora-adapters", "/sdapi/v1/loras", "/v1/audio/voices")
}
"""What of a loaded model may be looked at, by path; looking loads none."""


def missing(passage: Passage, engine: str | None, *, on_disk: bool) -> ApiError | None:
    """Why an endpoint cannot be had of a model, or None.

    Args:
        passage: the endpoint.
        engine: that runs the model, or None while none does.
        on_disk: the model is a file of ours, so that an engine of ours would run it.
    """
    if passage.engines:
        if engine is None or engine in passage.engines or engine not in _OURS:
            return None
        words = f"{engine} does not speak {passage.target}, {' and '.join(sorted(passage.engines))} does"
        return absent(f"{words}: serve a GGUF file of the model with --engine auto")
    if engine in _OURS or (engine is None and on_disk):
        who = engine or "no engine at hand"
        does = "does not speak" if engine else "speaks"
        return absent(f"{who} {does} {passage.target}: it takes a server made for it")
    return None


def absent(words: str) -> ApiError:
    """An endpoint that is not there."""
    return ApiError(status=501, message=words, kind="not_supported_error", code="not_supported", final=True)
