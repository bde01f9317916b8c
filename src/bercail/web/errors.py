"""Errors of ours as answers: which status each gets, and how it is written."""

from msgspec import json

from bercail.core.chat import ApiError, Endpoint, error_from
from bercail.core.dialect import Form, error_body, error_event
from bercail.core.errors import (
    CANNOT_BE_HAD,
    LASTING,
    BercailError,
    BusyError,
    EngineError,
    NotFoundError,
    ReadError,
    RefusedError,
    SettingsError,
    StoppingError,
    UsageError,
)
from bercail.core.model import Capability
from bercail.core.route import ServedModel
from bercail.core.vectors import not_made
from bercail.web.asgi import JSON, Headers

STOPPING_RETRY_S = 5
ENGINE_RETRY_S = 2


class ReplyError(Exception):
    """Carries an API error to where it is answered.

    Attributes:
        error: what to answer.
    """

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def api_error(error: BercailError, *, started: bool) -> ApiError:
    """The API error for an error of ours.

    Args:
        error: what was raised.
        started: the request had already been sent to an engine.
    """
    match error:
        case NotFoundError():
            return error_from(error, 404)
        case UsageError():
            return error_from(error, 400)
        case SettingsError():
            return error_from(error, 422)
        case StoppingError():
            return error_from(error, 503, retry_after_s=STOPPING_RETRY_S)
        case BusyError(status=status, retry_after_s=retry_after_s):
            return error_from(error, status, retry_after_s=retry_after_s)
        case RefusedError(code=code) if code == CANNOT_BE_HAD:
            return error_from(error, 422)
        case RefusedError() | ReadError():
            return error_from(error, 503, final=True)
        case EngineError():
            return _engine_error(error, started=started)
        case _:
            return error_from(error, 500)


def _engine_error(error: EngineError, *, started: bool) -> ApiError:
    if error.code == "engine_timeout":
        return error_from(error, 504)
    if started:
        return error_from(error, 502)
    if error.code in LASTING:
        return error_from(error, 503, final=True)
    return error_from(error, 503, retry_after_s=ENGINE_RETRY_S)


def written(error: ApiError, form: Form = Form.OPENAI) -> tuple[Headers, bytes]:
    """Headers and body of an error in a client's words."""
    headers: Headers = [JSON]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="bercail"'))
    if error.final:
        # Read by OpenAI's own clients, which otherwise try every 5xx again.
        headers.append((b"x-should-retry", b"false"))
    return headers, json.encode(error_body(error, form))


def event(error: ApiError, form: Form = Form.OPENAI, number: int = 0) -> bytes:
    """An error within a stream: a server-sent event, the ``number``-th where they are counted, or a line of JSON."""
    name, data = error_event(error, form, number)
    if form is Form.OLLAMA:
        return json.encode(data) + b"\n"
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + json.encode(data) + b"\n\n"


_NEEDED = {
    Endpoint.CHAT: Capability.CHAT,
    Endpoint.COMPLETION: Capability.COMPLETION,
    Endpoint.EMBEDDINGS: Capability.EMBEDDINGS,
}


def check_capability(endpoint: Endpoint, model: ServedModel) -> None:
    """Refuse what the model cannot do; nothing is refused while its capabilities are unknown.

    Raises:
        ReplyError: in words, with status 400.
    """
    if endpoint is Endpoint.CHAT and model.chat_refusal:
        message = f"chat is disabled for {model.id}: {model.chat_refusal}; /v1/completions still works"
        raise ReplyError(ApiError(status=400, message=message, param="model", code="chat_disabled"))
    needed = _NEEDED[endpoint]
    if not model.capabilities or needed in model.capabilities:
        return
    if endpoint is Endpoint.EMBEDDINGS:
        words = (
            "generates text and was not started for embeddings; start it with --embedding, or ask an embedding model"
        )
    elif Capability.EMBEDDINGS in model.capabilities:
        words = "is an embedding model and generates no text; use /v1/embeddings"
    elif Capability.COMPLETION in model.capabilities:
        words = "has no chat template; use /v1/completions"
    else:
        words = f"offers only {', '.join(model.capabilities)}"
    raise ReplyError(
        ApiError(status=400, message=f"{model.id} {words}", param="model", code=f"{needed.value}_unsupported")
    )


def check_size(dimensions: int | None, model: ServedModel) -> None:
    """Refuse embeddings of a size that the model does not make, where that is known beforehand.

    Raises:
        ReplyError: in words, with status 400.
    """
    error = not_made(model.vector_values, dimensions, model.id)
    if error is not None:
        raise ReplyError(error)


_INSTEAD = {
    Capability.CHAT: "generates no chat",
    Capability.COMPLETION: "generates no text",
    Capability.EMBEDDINGS: "was not started for embeddings; start it with --embedding, or ask an embedding model",
    Capability.RERANK: "is no reranking model",
    Capability.AUDIO: "hears no sound",
}


def check_needs(needed: Capability, target: str, model: ServedModel) -> None:
    """Refuse what the model cannot do for an endpoint; nothing is refused while its capabilities are unknown.

    Raises:
        ReplyError: in words, with status 400.
    """
    if needed is Capability.CHAT:
        check_capability(Endpoint.CHAT, model)
    elif model.capabilities and needed not in model.capabilities:
        offers = ", ".join(model.capabilities)
        words = f"{target}: {model.id} {_INSTEAD[needed]}; it offers {offers}"
        raise ReplyError(ApiError(status=400, message=words, param="model", code=f"{needed.value}_unsupported"))
