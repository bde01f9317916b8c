"""Where our own files live.

Sources: XDG Base Directory Specification 0.8; Apple's File System Programming Guide; Windows known folders.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bercail.core.errors import StoreError
from bercail.store.files import make_folder, translate

_NAME = "bercail"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Our folders; none of them need exist.

    Attributes:
        config: what people write: ``bercail.yaml``.
        state: what must outlive a restart.
        cache: what can be made again.
        runtime: sockets; for this user alone, and gone after a reboot.
    """

    config: Path
    state: Path
    cache: Path
    runtime: Path


def find_paths(environment: Mapping[str, str], *, home: Path, system: str, user_id: int | None) -> Paths:
    """The folders for a user, after the habits of the system.

    Args:
        environment: variables; relative XDG folders are not heeded, as the specification asks.
        home: the user's home folder.
        system: ``Linux``, ``Darwin``, ``Windows``.
        user_id: numeric, or None where there is none.
    """
    match system:
        case "Windows":
            roaming = Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
            local = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / _NAME
            return Paths(config=roaming / _NAME, state=local / "state", cache=local / "cache", runtime=local / "run")
        case "Darwin":
            library = home / "Library"
            support = library / "Application Support" / _NAME
            runtime = _temporary(environment, user_id)
            return Paths(config=support, state=support / "state", cache=library / "Caches" / _NAME, runtime=runtime)
        case _:
            return Paths(
                config=_xdg(environment, "XDG_CONFIG_HOME", home / ".config") / _NAME,
                state=_xdg(environment, "XDG_STATE_HOME", home / ".local" / "state") / _NAME,
                cache=_xdg(environment, "XDG_CACHE_HOME", home / ".cache") / _NAME,
                runtime=_xdg_runtime(environment, user_id),
            )


def make_private(folder: Path, *, user_id: int | None) -> Path:
    """Make ``folder`` for this user alone (mode 0700), or make sure that it is; gives it back.

    Raises:
        StoreError: it cannot be made, or somebody else could put files into it.
    """
    try:
        make_folder(folder)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or (user_id is not None and facts.st_uid != user_id):
            raise StoreError(
                f"{folder} belongs to somebody else or is a link", hint="remove it, or set XDG_RUNTIME_DIR"
            )
        if user_id is not None and facts.st_mode & _OTHERS_WRITE:
            folder.chmod(0o700)
    except OSError as error:
        raise translate(error, f"{folder} cannot be made") from error
    return folder


def _xdg(environment: Mapping[str, str], variable: str, default: Path) -> Path:
    named = Path(environment.get(variable, ""))
    return named if named.is_absolute() else default


def _xdg_runtime(environment: Mapping[str, str], user_id: int | None) -> Path:
    # Set but missing is common: su, cron and containers keep the variable of a session that they are not in.
    named = Path(environment.get("XDG_RUNTIME_DIR", ""))
    return named / _NAME if named.is_absolute() and named.is_dir() else _temporary(environment, user_id)


def _temporary(environment: Mapping[str, str], user_id: int | None) -> Path:
    # Not below the home folder: the path of a unix socket has room for 107 bytes, and home may be a network share.
    named = Path(environment.get("TMPDIR", ""))
    # tempfile.gettempdir() tries to write, and fails on a full disk; a socket needs no room.
    folder = named if named.is_absolute() else Path("/tmp")
    return folder / (_NAME if user_id is None else f"{_NAME}-{user_id}")
