"""Opening model files: never blocks on a pipe, never maps what is no GGUF, says in words why a file cannot be used."""

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bercail.core.alike import alike
from bercail.core.errors import ReadError
from bercail.core.quotes import told
from bercail.readers.gguf.foreign import CONVERT, LOOK_BYTES, explain
from bercail.readers.gguf.header import MAGIC, Header, parse

_MAX_LISTED = 5
_MAX_ENTRIES = 2000


def read_header(path: str) -> Header:
    """The header of the file at ``path``.

    Raises:
        ReadError: the file cannot be read, is no GGUF, or its header lies.
    """
    with mapped(path) as data:
        return parse(data, path)


@contextmanager
def mapped(path: str) -> Iterator[mmap.mmap]:
    """The file at ``path`` as memory, if it begins like a GGUF of at least 24 bytes.

    Raises:
        ReadError: it cannot be opened, or is something else.
    """
    handle = _open(path)
    try:
        head = os.pread(handle, LOOK_BYTES, 0)
        if len(head) < 24 or not head.startswith(MAGIC):
            raise explain(head, path)
        data = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error
    finally:
        os.close(handle)
    with data:
        yield data


def file_bytes(path: str) -> int:
    """The size of the regular file at ``path``, which can be opened.

    Raises:
        ReadError: it cannot.
    """
    handle = _open(path)
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _open(path: str) -> int:
    """A descriptor of a regular file."""
    try:
        # O_NONBLOCK: a pipe without a writer must not hang us; it has no effect on regular files.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error
    try:
        mode = os.fstat(handle).st_mode
    except OSError as error:
        os.close(handle)
        raise _failed(path, error) from error
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    raise _is_directory(path) if stat.S_ISDIR(mode) else _special(path)


def _special(path: str) -> ReadError:
    return ReadError(
        "a pipe, socket or device, not a regular file",
        path=path,
        hint="give the path of a .gguf file",
        code="not_a_file",
    )


def _is_directory(path: str) -> ReadError:
    names = _names(Path(path))
    found = sorted(name for name in names if name.lower().endswith(".gguf"))
    if not found and any(name.lower().endswith(".safetensors") for name in names):
        return ReadError("a folder with a model in safetensors", path=path, hint=CONVERT, code="is_directory")
    if not found:
        return ReadError(
            "a folder without a GGUF file", path=path, hint="give the path of a .gguf file", code="is_directory"
        )
    listed = ", ".join(found[:_MAX_LISTED]) + (
        f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    )
    return ReadError("a folder", path=path, hint=f"name one of the files in it: {listed}", code="is_directory")


def _names(folder: Path) -> list[str]:
    """Names in a folder, a bounded number of them; none if it cannot be listed."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) >= _MAX_ENTRIES:
                    break
    except (OSError, ValueError):
        return []
    return names


def _failed(path: str, error: OSError | ValueError) -> ReadError:
    """The operating system's refusal in words."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOENT, errno.ENOTDIR):
        return _missing(path)
    if number in (errno.EACCES, errno.EPERM):
        return ReadError(
            "no permission to read it", path=path, hint="check the owner and mode of the file and its folders",
            code="no_permission",
        )  # fmt: skip
    if number in (errno.ENXIO, errno.ENODEV):
        return _special(path)
    if number == errno.ELOOP:
        return ReadError("a symbolic link that leads back to itself", path=path, hint="fix the link", code="bad_link")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ReadError(f"cannot be read: {reason}", path=path, hint="check the path and the disk", code="cannot_read")


def _missing(path: str) -> ReadError:
    place = Path(path)
    if target := _link_target(path):
        return ReadError(
            f"a symbolic link to {target}, which is not there",
            path=path,
            hint="repeat the download, or remove the link",
            code="no_such_file",
        )
    folder = place.parent
    if not _is_folder(folder):
        hint = f"there is no folder {folder} either"
    else:
        names = [name for name in _names(folder) if name.lower().endswith(".gguf")]
        if place.suffix.lower() != ".gguf":
            names = names or [name for name in _names(folder) if _is_folder(folder / name)]
        stems = {Path(name).stem: name for name in names}
        near = alike(place.stem, stems)
        hint = f"did you mean {stems[near[0]]}?" if near else "check the path"
    return ReadError("no such file", path=path, hint=told(path, hint), code="no_such_file")


def _link_target(path: str) -> str:
    """Where a symbolic link points, or an empty string if it is none."""
    try:
        return str(Path(path).readlink())
    except (OSError, ValueError):
        return ""


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False
