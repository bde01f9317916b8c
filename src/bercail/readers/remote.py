"""The header of a model on a web server: only its first bytes are fetched, the rest is a hole in a file."""

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from bercail.core.errors import ReadError
from bercail.core.model import Model
from bercail.core.units import MIB, Bytes, Seconds, format_bytes
from bercail.readers.gguf import describe
from bercail.readers.gguf.split import part_of, part_path

FIRST_BYTES: Bytes = 8 * MIB
MOST_BYTES: Bytes = 256 * MIB
"""A header larger than this is not fetched."""
_SILENCE_S: Seconds = 20.0
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_REFUSALS = {
    401: "the server wants a login, which Bercail does not send: download the file and name it",
    403: "the server does not allow it: download the file and name it",
    404: "check the address; on a hub it is the one behind the download button, not that of the page",
}


class Piece(NamedTuple):
    """Some bytes of a file, and how large it is."""

    data: bytes
    total_bytes: Bytes


def read_remote(url: str, folder: Path) -> Model:
    """The model at ``url``, as far as its header tells; all parts of a split one.

    Args:
        url: of the file, or of one of its parts.
        folder: where the headers are kept as files with holes, of the size of the real ones.

    Raises:
        ReadError: it cannot be fetched, is no model, or its header is too long.
    """
    place = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
    files = {address: place / Path(unquote(urlsplit(address).path)).name for address in _parts(url)}
    begin, end = 0, FIRST_BYTES
    while True:
        sizes = [_extend(address, path, begin, end) for address, path in files.items()]
        last = end >= min(MOST_BYTES, max(sizes))
        found = _understood(files, end, last=last)
        if found is not None:
            return found
        begin, end = end, min(4 * end, MOST_BYTES)


def _parts(url: str) -> list[str]:
    """The addresses of all parts of the model at ``url``."""
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    part = part_of(unquote(name))
    if part is None:
        return [url]
    names = (Path(part_path(unquote(name), number + 1)).name for number in range(part.total))
    return [parts._replace(path=f"{folder}/{quote(one)}").geturl() for one in names]


def _extend(url: str, path: Path, begin: Bytes, end: Bytes) -> Bytes:
    """Write what lies from ``begin`` to ``end`` at ``url`` into ``path``, a file with holes; the size of the whole."""
    if begin and path.stat().st_size <= begin:
        return path.stat().st_size
    piece = fetch(url, begin, end)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            file.write(piece.data)
            file.truncate(piece.total_bytes)
    except OSError as error:
        reason = error.strerror or error
        raise ReadError(f"the header cannot be kept here: {reason}", path=str(path), hint="make room there") from error
    return piece.total_bytes


def _understood(files: Mapping[str, Path], size: Bytes, *, last: bool) -> Model | None:
    """The model whose header lies in the first ``size`` bytes of each file, or None if more of it is needed.

    Args:
        files: what was fetched, by address.
        size: how much of each.
        last: there is no more.

    Raises:
        ReadError: there is no more, and it cannot be read; says so of the address, not of what is kept here.
    """
    try:
        model = describe.read_model(str(next(iter(files.values()))), None)
    except ReadError as error:
        if not last:
            return None
        url = next((address for address, path in files.items() if str(path) == error.path), next(iter(files)))
        words = error.message.removeprefix(f"{error.place}: ")
        raise ReadError(words, path=url, field=error.field, offset=error.offset, hint=error.hint) from error
    if last or all(file.data_offset <= size for file in model.files):
        return model
    return None


def fetch(url: str, begin: Bytes, end: Bytes) -> Piece:
    """The bytes from ``begin`` to ``end`` at ``url``, or to its end.

    Raises:
        ReadError: the server cannot be reached, refuses, or does not say how large the file is.
    """
    headers = {"Range": f"bytes={begin}-{end - 1}", "User-Agent": "bercail"}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE_S) as answer:
            ranged = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            whole = answer.headers.get("Content-Length", "")
            # A server that knows no ranges sends everything: what lies before is read past.
            data = answer.read(end - begin) if ranged else answer.read(end)[begin:]
    except urllib.error.HTTPError as error:
        error.close()
        hint = _REFUSALS.get(error.code, "try again later, or download the file and name it")
        raise ReadError(f"the server answers {error.code} {error.reason}", path=url, hint=hint) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ReadError(f"cannot be fetched: {reason}", path=url, hint="check the address and the network") from error
    if ranged is None and not whole.isdecimal():
        raise ReadError("the server does not say how large it is", path=url, hint="download the file and name it")
    total = int(ranged[3]) if ranged else int(whole)
    if len(data) < min(end, total) - begin:
        raise ReadError(f"the server stopped after {format_bytes(len(data))}", path=url, hint="try again")
    return Piece(data, total)
