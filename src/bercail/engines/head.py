"""The head of a request towards an engine, with nothing in it that could be taken for another. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from bercail.core.errors import UsageError
from bercail.core.launch import Site
from bercail.core.units import Bytes

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

# Ours to say: a second opinion on how long a message is would be a way to smuggle another one.
FRAMING = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"keep-alive", b"expect", b"te",
                     b"trailer", b"upgrade", b"proxy-connection"})  # fmt: skip

PROOFS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""What a client proves itself with to us: no business of servers elsewhere."""

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def is_header_name(name: bytes) -> bool:
    """Whether it may name a header (RFC 9110, section 5.1)."""
    return bool(name) and not name.translate(None, _TOKEN)


def render_head(method: str, target: str, headers: Headers, body_bytes: Bytes, site: Site | None = None) -> bytes:
    """The head of a request; headers that frame it are ours, the caller's are left out.

    Args:
        method: of the request.
        target: its path and query, without the prefix of ``site``.
        headers: the caller's.
        body_bytes: how long the body is.
        site: the server, if it is no engine of ours.

    Raises:
        UsageError: something in it would break out of its line.
    """
    start = _render_start(method, target, tuple(headers), site)
    if body_bytes or method not in ("GET", "DELETE"):
        return b"%scontent-length: %d\r\n\r\n" % (start, body_bytes)
    return start + b"\r\n"


@lru_cache(maxsize=256)  # a gateway sends the same few headers all day: 8 us less per request
def _render_start(method: str, target: str, headers: tuple[tuple[bytes, bytes], ...], site: Site | None) -> bytes:
    authority, prefix, own = _of_site(site)
    left_out = FRAMING if site is None else _left_out(site, own)
    lines = [f"{method} {prefix}{target} HTTP/1.1".encode("ascii", "replace"), b"host: " + authority]
    for name, value in headers:
        if not is_header_name(name):
            raise UsageError(f"{name!r} is not a header name", hint="send plain HTTP headers")
        if name.lower() not in left_out:
            lines.append(name + b": " + value)
    lines += [name + b": " + value for name, value in own]
    start = b"".join(line + b"\r\n" for line in lines)
    breaks = len(lines)
    if start.count(b"\n") != breaks or start.count(b"\r") != breaks or b"\0" in start or lines[0].count(b" ") != 2:
        raise UsageError("a header or the path of the request holds a line break", hint="send plain HTTP headers")
    return start


def _of_site(site: Site | None) -> tuple[bytes, str, Headers]:
    if site is None:
        return b"localhost", "", ()
    own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in site.headers]
    return site.authority.encode("ascii"), site.prefix, own


def _left_out(site: Site, own: Headers) -> frozenset[bytes]:
    """The caller's headers that do not reach ``site``."""
    replaced = FRAMING.union(name.lower() for name, _ in own)
    return replaced if site.ours else replaced | PROOFS
