"""A request handed through to an engine as it is: its path, its headers, the model that a form names."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from bercail.core.errors import UsageError
from bercail.core.pattern import meant_by

Headers = Sequence[tuple[bytes, bytes]]

_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
_KEYS = frozenset({b"authorization", b"x-api-key", b"api-key"})
_OURS = frozenset({b"host", b"content-length", b"expect"})
_CROSS_ORIGIN = b"access-control-"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x20\x7f-\xff]")
UPSTREAM = b"/upstream/"
COMFYUI, COMFYUI_MODEL = b"/comfyui", "comfyui_auto"
"""Where the page of ComfyUI is, as in llama-swap, and the id of the model behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path below ``/upstream/`` names.

    Attributes:
        model: the id of a model of ours.
        rest: what follows it, raw, from its slash; empty where there is none.
        page_loads: the model is loaded for its page alone, which is at the slash.
    """

    model: str
    rest: bytes
    page_loads: bool = False

    def matches(self, expressions: Sequence[re.Pattern[str]]) -> bool:
        """Whether the path, decoded, holds what one of these expressions means: then no model is loaded for it."""
        path = unquote_to_bytes(self.rest).decode("utf-8", "replace")
        return any(expression.search(path) for expression in expressions)


def place_in(raw_path: bytes, known: Collection[str], patterns: Mapping[str, str] | None = None) -> Place | None:
    """The model and the path at its engine; None if the path begins with no model.

    The longest name that is known wins. What none begins is held against patterns, whose ``*`` stands for no slash
    here: else one that ends in it would take the path along.

    Args:
        raw_path: as it came, percent-encoding untouched, beginning with ``/upstream/``.
        known: names of models, which may hold slashes.
        patterns: names that stand for many, and what each leads to.

    Raises:
        UsageError: the path is written so that two programs may read it in two ways.
    """
    parts = raw_path.removeprefix(UPSTREAM).split(b"/")
    longest = max((name.count("/") for name in known), default=0) + 1
    for count in range(min(longest, len(parts)), 0, -1):
        if (name := _name(parts, count)) in known:
            return _place(name, parts, count)
    for count in range(1, len(parts) + 1):
        alike = {pattern: owner for pattern, owner in (patterns or {}).items() if pattern.count("/") == count - 1}
        name = _name(parts, count) if alike else ""
        if name.count("/") == count - 1 and meant_by(name, alike) is not None:
            return _place(name, parts, count)
    return None


def _name(parts: Sequence[bytes], count: int) -> str:
    return unquote_to_bytes(b"/".join(parts[:count])).decode("utf-8", "replace")


def _place(name: str, parts: Sequence[bytes], count: int) -> Place:
    rest = b"/".join(parts[count:])
    _check(rest)
    return Place(model=name, rest=b"/" + rest if len(parts) > count else b"")


def _check(rest: bytes) -> None:
    if _CONTROL.search(rest) or _BAD_ESCAPE.search(rest):
        raise UsageError(
            "the path holds a character or a percent-escape that no path has", hint="write it percent-encoded"
        )
    plain = unquote_to_bytes(rest)
    if any(byte < 0x20 or byte == 0x7F for byte in plain):
        raise UsageError("the path holds an encoded control character", hint="leave it out")
    if any(part in (b".", b"..") for part in plain.replace(b"\\", b"/").split(b"/")):
        raise UsageError("the path holds a . or .. as a part of its own", hint="write the path without it")


def request_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What of a client's headers an engine gets: neither those of this one connection nor the client's key."""
    named = _named(headers)
    return [
        (name, value)
        for name, value in headers
        if (low := name.lower()) not in _HOP and low not in _KEYS and low not in _OURS and low not in named
    ]


def wants_websocket(method: str, headers: Headers) -> bool:
    """Whether a request is the handshake of a websocket (RFC 6455, section 4.1)."""
    seen = {name.lower(): value.strip().lower() for name, value in headers}
    upgrades = b"upgrade" in _named(headers) and seen.get(b"upgrade") == b"websocket"
    return method == "GET" and upgrades and b"sec-websocket-key" in seen


def response_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What of an engine's headers a client gets; which page of the web may read it is ours to say."""
    named = _named(headers)
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _HOP and name.lower() not in named and not name.lower().startswith(_CROSS_ORIGIN)
    ]


def _named(headers: Headers) -> frozenset[bytes]:
    """Headers that ``Connection`` names as its own."""
    lines = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(word.strip().lower() for line in lines for word in line.split(b",")) - {b"content-length"}


PARTS = 256
"""More parts than any form has."""
_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="([^"]*)"', re.IGNORECASE)
_FILE = re.compile(rb";\s*filename\*?=", re.IGNORECASE)


def form_field(body: bytes, content_type: bytes, wanted: bytes) -> str:
    """A plain field of a form with files, without a copy of those; empty if there is none of that name.

    Args:
        body: the whole form.
        content_type: the request's, which names the boundary.
        wanted: the name of the field.

    Raises:
        UsageError: it is no such form, or names the field twice with different values.
    """
    values = {body[start:end].decode("utf-8", "replace") for start, end in _places(body, content_type, wanted)}
    if len(values) > 1:
        raise UsageError(f"the form names {wanted.decode()} twice, with different values", hint="name it once")
    return next(iter(values), "")


def with_field(body: bytes, content_type: bytes, wanted: bytes, value: bytes) -> bytes:
    """A form whose plain fields of that name hold ``value``.

    Raises:
        UsageError: it is no such form.
    """
    for start, end in reversed(_places(body, content_type, wanted)):
        body = b"".join((body[:start], value, body[end:]))
    return body


def _places(body: bytes, content_type: bytes, wanted: bytes) -> list[tuple[int, int]]:
    """Where the plain fields of that name begin and end."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().lstrip().startswith(b"multipart/form-data") or found is None:
        raise UsageError("the body must be a form with files", hint="send it as multipart/form-data")
    mark = b"--" + (found[1] or found[2])
    places: list[tuple[int, int]] = []
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    for _ in range(PARTS):
        start = at + len(mark) + 2
        head_end = body.find(b"\r\n\r\n", start)
        end = body.find(b"\r\n" + mark, head_end)
        if not body.startswith(mark + b"\r\n", at) or head_end < 0 or end < 0:
            break
        name = _NAME.search(body, start, head_end)
        if name is not None and name[1] == wanted and _FILE.search(body, start, head_end) is None:
            places.append((head_end + 4, end))
        at = end + 2
    if not body.startswith(mark + b"--", at):
        raise UsageError("the form is damaged or has too many parts", hint=f"send at most {PARTS} parts, whole")
    return places
