"""Small JSON files, written whole or not at all, and by one at a time."""

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bercail.core.errors import StoreError

if sys.platform != "win32":
    import fcntl

_LONGEST_BYTES = 1024 * 1024

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM))


def translate(error: OSError, what: str) -> StoreError:
    """Our error for the system's: ``what`` happened, why, and what to do."""
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        hint, code = "make room on this disk, or raise the quota", "disk_full"
    elif error.errno in _FORBIDDEN:
        hint, code = "let this user read and write there, or choose another folder", "no_permission"
    elif error.errno == errno.EROFS:
        hint, code = "this disk is mounted for reading only; choose another folder", "read_only"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        hint, code = "something else of that name is in the way; move it", "in_the_way"
    else:
        hint, code = "", ""
    return StoreError(f"{what}: {reason}", hint=hint, code=code)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, each for this user alone (``mkdir`` narrows only the last).

    Raises:
        OSError: one cannot be made.
    """
    missing: list[Path] = []
    for place in (folder, *folder.parents):
        if place.is_dir():
            break
        missing.append(place)
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, data: bytes, *, draft: str) -> None:
    """Replace ``path`` in one step, by way of a file beside it whose name begins with ``draft``. Only we may read it.

    Raises:
        OSError: it cannot be written; the old file is still there and nothing is left beside it.
    """
    handle, name = tempfile.mkstemp(prefix=draft, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace ``path`` by ``value`` in one step: a reader sees the old file or the new one. Only we may read it.

    Raises:
        StoreError: it cannot be written; the old file is still there and nothing is left beside it.
    """
    data = json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    try:
        make_folder(path.parent)
        replace(path, data, draft=f".{path.name}.")
    except OSError as error:
        raise translate(error, f"{path} cannot be written") from error


def read_json(path: Path) -> dict[str, object] | None:
    """The object in ``path``; None if there is no such file.

    Raises:
        StoreError: it cannot be read, or is no JSON object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise translate(error, f"{path} cannot be read") from error
    try:
        value = json.loads(data) if len(data) <= _LONGEST_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged", hint="it can be deleted", code="damaged")
    return value


def remove(path: Path) -> None:
    """Delete a file, if it is there.

    Raises:
        StoreError: it cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise translate(error, f"{path} cannot be deleted") from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold others off who would change the file at the same time.

    Raises:
        StoreError: the file beside it that says so cannot be written.
    """
    try:
        make_folder(path.parent)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise translate(error, f"{path} cannot be changed") from error
    try:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
