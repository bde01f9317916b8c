"""Which pages of the web may use the server, and read its answers: those of this machine, and those that are named."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bercail.core.errors import SettingsError

_LOCAL = re.compile(rb"https?://(localhost|[a-z0-9-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_PROGRAM = re.compile(rb"(app|file|tauri|vscode-webview|vscode-file)://[\x21-\x7e]*")
"""Pages that come with a program; no page of the web can claim to be one."""
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._\[\]:-]+|\*)", re.IGNORECASE)
_HOST = re.compile(r"\*|[a-z0-9._-]+", re.IGNORECASE)
_ADDRESS = re.compile(rb"\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\]")
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_MAX_AGE_S = b"600"
_USUAL = frozenset((b"localhost", b"host.docker.internal", b"gateway.docker.internal", b"host.containers.internal"))
"""Names of this machine; containers on it ask by the last three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    """Who of the web is let in where no API key is asked for.

    Attributes:
        origins: of pages that may use the server beside those of this machine; one that ends in ``*`` is a beginning.
        hosts: names that the server may be asked by beside addresses, in lower case; None is any, and so is ``*``.
    """

    origins: tuple[bytes, ...] = ()
    hosts: frozenset[bytes] | None = None

    def welcome(self, origin: bytes) -> bool:
        """Whether pages of this origin may use the server, and read its answers."""
        if _LOCAL.fullmatch(origin) or _PROGRAM.fullmatch(origin):
            return True
        return any(origin.startswith(one[:-1]) if one.endswith(b"*") else origin == one for one in self.origins)

    def known(self, host: bytes) -> bool:
        """Whether the server goes by this name, a port behind it or not."""
        if self.hosts is None or b"*" in self.hosts:
            return True
        name = host.lower() if host.endswith(b"]") else host.rpartition(b":")[0].lower() or host.lower()
        return name in self.hosts or name.endswith(b".localhost") or _ADDRESS.fullmatch(name) is not None


def guests(origins: str, hosts: str) -> Guests:
    """Those that ``server.origins`` and ``server.hosts`` name; any host where none is named.

    Raises:
        SettingsError: one of them is no origin, or no name.
    """
    pages, names = _listed(origins), _listed(hosts)
    for page in pages:
        if not _ORIGIN.fullmatch(page):
            hint = "an origin has a scheme and a host and no path, such as https://chat.example"
            raise SettingsError(f"server.origins: {page!r} is no origin", hint=hint)
    for name in names:
        if not _HOST.fullmatch(name):
            raise SettingsError(f"server.hosts: {name!r} is no name of a host", hint="write it without scheme and port")
    found = frozenset(name.lower().encode() for name in names)
    return Guests(origins=tuple(page.encode() for page in pages), hosts=found | _USUAL if found else None)


def at_home(guests: Guests, names: Iterable[str]) -> Guests:
    """``guests`` where the server listens to this machine alone: it goes by ``names`` and its usual ones."""
    own = (form for name in names for form in (name.lower(), f"{name.lower()}.local"))
    return Guests(origins=guests.origins, hosts=(guests.hosts or _USUAL) | {name.encode() for name in own})


def turned_away(headers: Sequence[tuple[bytes, bytes]], guests: Guests, *, page: bool) -> str:
    """Why a browser must not do this here without an API key, in words; empty if it may, or is none.

    Any page that somebody looks at can have the browser ask a server of this machine, and a name of its own lead here
    (DNS rebinding).

    Args:
        headers: of the request, names in lower case.
        guests: who may.
        page: a page is asked for, which does nothing by itself: a link from anywhere may lead to it.
    """
    told = dict(headers)
    host, origin = told.get(b"host"), told.get(b"origin")
    if host is not None and not guests.known(host):
        name = _shown(host).partition(":")[0]
        return f"{name} is no name of this server: its owner can make it one (--hosts {name}), or make API keys"
    if origin is not None:
        if guests.welcome(origin) or (host and origin.partition(b"://")[2] == host):
            return ""
        name = _shown(origin)
        return f"pages of {name} may not use this server: its owner can let them (--origins {name}), or make API keys"
    if told.get(b"sec-fetch-site") == b"cross-site" and not page:
        return "pages from elsewhere may not use this server: its owner can let them (--origins), or make API keys"
    return ""


def reading_headers(
    headers: Sequence[tuple[bytes, bytes]], guests: Guests, *, preflight: bool
) -> list[tuple[bytes, bytes]]:
    """Headers that let the page that asks read the answer; none for pages from elsewhere, and for no page at all.

    Args:
        headers: of the request, names in lower case.
        guests: who may.
        preflight: a browser asks for leave before the request proper.
    """
    seen = dict(headers)
    origin = seen.get(b"origin")
    if origin is None or not guests.welcome(origin):
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


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _shown(value: bytes) -> str:
    return value[:200].decode("ascii", "replace")
