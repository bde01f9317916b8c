"""Which pages of the web may read our answers in a browser: those of this machine."""

import re
from collections.abc import Sequence

_LOCAL = re.compile(rb"https?://(localhost|[a-z0-9-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_MAX_AGE_S = b"600"


def reading_headers(headers: Sequence[tuple[bytes, bytes]], *, preflight: bool) -> list[tuple[bytes, bytes]]:
    """Headers that let the page that asks read the answer; none for pages from elsewhere, and for no page at all.

    Args:
        headers: of the request, names in lower case.
        preflight: a browser asks for leave before the request proper.
    """
    seen = dict(headers)
    origin = seen.get(b"origin")
    if origin is None or not _LOCAL.fullmatch(origin):
        return []
    made = [(b"access-control-allow-origin", origin), (b"vary", b"origin"), (b"access-control-expose-headers", b"*")]
    if preflight:
        made += [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE_S)]
        asked = seen.get(b"access-control-request-headers", b"").strip()
        if _NAMES.fullmatch(asked):
            made.append((b"access-control-allow-headers", asked))
        if seen.get(b"access-control-request-private-network") == b"true":
            made.append((b"access-control-allow-private-network", b"true"))
    return made
