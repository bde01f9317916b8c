"""Where a program or a server elsewhere answers: from its URL. Pure."""

from urllib.parse import SplitResult, urlsplit

from bercail.core.alike import alike
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Site
from bercail.engines.head import FRAMING, is_header_name

_PORTS = {"http": 80, "https": 443}


def parse_url(url: str, headers: tuple[tuple[str, str], ...] = (), *, ours: bool = False) -> Address:
    """Its address.

    Args:
        url: scheme, host, perhaps a port and the beginning of every path.
        headers: sent with every request.
        ours: it runs here, as a child of ours.

    Raises:
        EngineError: the URL or a header cannot be what is meant; says why.
    """
    parts = _split(url)
    host = _host(url, parts)
    port = _port(url, parts)
    shown = f"[{host}]" if ":" in host else host
    _check_headers(url, headers)
    site = Site(
        authority=shown if port == _PORTS[parts.scheme] else f"{shown}:{port}",
        tls=parts.scheme == "https",
        prefix=parts.path.rstrip("/"),
        headers=headers,
        ours=ours,
    )
    return Address(host=host, port=port, site=site)


def check_target(path: str) -> None:
    """See that ``path`` can be asked for.

    Raises:
        EngineError: it cannot.
    """
    if path and (not path.startswith("/") or not path.isprintable() or not path.isascii() or " " in path):
        raise EngineError(
            f"{path!r} is no path that can be asked for",
            hint="begin it with /, and write blanks as %20",
            code="bad_url",
        )


def _split(url: str) -> SplitResult:
    if not url.isprintable() or not url.isascii() or " " in url:
        raise _wrong(url, "it holds blanks or letters that no URL has", "write them as %20 and the like")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _wrong(url, str(error), "write it as http://host:port") from error
    if parts.scheme not in _PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        near = alike(parts.scheme, _PORTS)
        raise _wrong(
            url, "it begins with neither http:// nor https://", f"did you mean {near[0]}://?" if near else "add http://"
        )
    if parts.query or parts.fragment:
        raise _wrong(url, "it has a query or a fragment, which requests bring themselves", "end it before ? or #")
    if "@" in parts.netloc:
        raise _wrong("its URL", "it holds a user or a password", "name them as a header instead")
    return parts


def _host(url: str, parts: SplitResult) -> str:
    if not parts.hostname:
        raise _wrong(url, "it names no host", "write it as http://host:port")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise _wrong(url, "its host is no name", "parts of a name have 1 to 63 letters, with dots between") from error
    return parts.hostname


def _port(url: str, parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise _wrong(url, "its port is no number from 1 to 65535", "write it as http://host:port") from error
    if port == 0:
        raise _wrong(url, "nobody answers at port 0", "name the port, or ${PORT} for one that is free")
    return port or _PORTS[parts.scheme]


def _check_headers(url: str, headers: tuple[tuple[str, str], ...]) -> None:
    for name, value in headers:
        if not name.isascii() or not is_header_name(name.encode()):
            raise _wrong(url, f"{name!r} is not a header name", "write it as Name: value")
        if name.lower().encode() in FRAMING:
            raise _wrong(url, f"the header {name} says how a request is framed", "leave it out: it is set by itself")
        if any(ord(letter) > 255 or letter in "\r\n\0" for letter in value):
            raise _wrong(url, f"the header {name} holds what no header may", "write it on one line, in Latin letters")


def _wrong(url: str, what: str, hint: str) -> EngineError:
    return EngineError(f"{url} cannot be asked: {what}", hint=hint, code="bad_url")
