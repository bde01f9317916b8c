"""A request and its answer as they are kept where the owner has switched that on: their texts, never a credential."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from bercail.core.chat import Json
from bercail.core.units import Seconds

Headers = Iterable[tuple[bytes, bytes]]

_SECRET = ("auth", "key", "token", "cookie", "secret", "password", "credential", "signature", "session")
"""A header whose name holds one of these is told without its value."""
_TEXT = ("json", "text/", "x-www-form-urlencoded", "xml")
HIDDEN = "[REDACTED]"
LEAST_SECRET = 4
"""A shorter value would be found everywhere by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A request and its answer.

    Attributes:
        at_s: when it ended, unix seconds.
        key_id: of the API key, or empty.
        request_body: None if it is no text, such as a form with files.
        response_body: likewise; empty if there was none.
        cut: there was more of the bodies than is kept of one request.
    """

    id: int
    at_s: Seconds
    endpoint: str
    path: str
    model: str
    key_id: str
    status: int
    request_headers: tuple[tuple[str, str], ...]
    request_body: bytes | None
    response_headers: tuple[tuple[str, str], ...]
    response_body: bytes | None
    cut: bool = False


def is_secret(name: bytes) -> bool:
    """Whether a header may prove who somebody is."""
    low = name.decode("latin-1").lower()
    return any(word in low for word in _SECRET)


def harmless(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Headers as they are kept."""
    return tuple(
        (name.decode("latin-1"), HIDDEN if is_secret(name) else value.decode("latin-1")) for name, value in headers
    )


def secrets_of(headers: Headers) -> tuple[bytes, ...]:
    """What must not be kept, wherever it stands: values of such headers, with and without the word before them."""
    values = [value for name, value in headers if is_secret(name)]
    words = {word for value in values for word in (value, value.rpartition(b" ")[2])}
    return tuple(sorted((word for word in words if len(word) >= LEAST_SECRET), key=len, reverse=True))


def without(body: bytes, secrets: Iterable[bytes]) -> bytes:
    """A body without these words."""
    for secret in secrets:
        body = body.replace(secret, HIDDEN.encode())
    return body


def is_text(headers: Headers) -> bool:
    """Whether a body of this type is kept; one of no type is taken for JSON, as it is when it is read."""
    kind = next((value.lower() for name, value in headers if name.lower() == b"content-type"), b"json")
    return any(word in kind.decode("latin-1") for word in _TEXT)


def row(captured: Captured) -> Json:
    """What a list tells of it."""
    return {
        "id": captured.id, "time_s": captured.at_s, "endpoint": captured.endpoint, "model": captured.model,
        "key_id": captured.key_id, "status": captured.status,
    }  # fmt: skip


def document(captured: Captured) -> Json:
    """All of it, in the members that llama-swap has, and ours; bodies in Base64."""
    return row(captured) | {
        "req_path": captured.path,
        "req_headers": dict(captured.request_headers),
        "req_body": _encoded(captured.request_body),
        "resp_headers": dict(captured.response_headers),
        "resp_body": _encoded(captured.response_body),
        "cut": captured.cut,
    }


def _encoded(body: bytes | None) -> str | None:
    return None if body is None else b64encode(body).decode()
