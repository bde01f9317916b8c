"""The page that shows the server's state: files that hold no state themselves, and so need no key."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bercail.web.asgi import Headers
from bercail.web.desk import Answer

_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": ("state.html", b"text/html; charset=utf-8"),
    "/ui": ("state.html", b"text/html; charset=utf-8"),
    "/upstream": ("state.html", b"text/html; charset=utf-8"),
    "/ui/state.css": ("state.css", b"text/css; charset=utf-8"),
    "/ui/state.js": ("state.js", b"text/javascript; charset=utf-8"),
}
PATHS = tuple(_FILES)
_HEADERS: Headers = [
    # Nothing comes from elsewhere or goes there, and no other page may frame this one.
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


def page(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Answer | None:
    """What a browser is shown at ``path``; None where there is nothing, or whoever asks for ``/`` wants no page."""
    found = _FILES.get(path)
    if found is None or method not in ("GET", "HEAD") or (path == "/" and not _wants_page(headers)):
        return None
    name, kind = found
    vary: Headers = [(b"vary", b"accept")] if path == "/" else []
    return 200, [(b"content-type", kind), *_HEADERS, *vary], _content(name)


def _wants_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """A browser names HTML among what it accepts; scripts get JSON."""
    return any(name == b"accept" and b"text/html" in value for name, value in headers)


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
