"""API keys in one file, which a running server follows: whoever is added or revoked is so a moment later."""

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from bercail.core.access import Key, Limits, Scope
from bercail.core.alike import alike
from bercail.core.errors import NotFoundError, StoreError
from bercail.core.overflow import Overflow
from bercail.core.units import Seconds
from bercail.store.files import alone, read_json, write_json

_SCHEMA = "bercail.keys/1"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

LOOK_S: Seconds = 0.2
"""The file is looked at so often at most: a look is a call of the system, and requests may come by the thousand."""

_Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1)] | None
_State: TypeAlias = tuple[int, int, int] | None
"""What tells one version of the file from another: its inode, time and size; None if there is no file."""


class _Row(msgspec.Struct, kw_only=True):
    """A key in the file."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)]
    models: tuple[str, ...] = ()
    tokens_per_minute: _Limit = None
    tokens_per_day: _Limit = None
    concurrency: _Limit = None
    priority: int = 0
    overflow: Overflow | None = None
    capture: bool = True
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None


class FileKeyring:
    """Implements ``ports.Keyring``.

    Once there was a file, its absence means that nobody has a key, not that everybody may come in.

    Args:
        path: the file; it holds hashes, never a key, and is this user's alone.
        warn: hears in words what is wrong with a file that was sound before.
        clock: seconds that only grow.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._path = path
        self._warn = warn
        self._clock = clock
        self._looked_s = -inf
        self._state: _State = None
        self._keys: Mapping[str, Key] | None = None

    @property
    def place(self) -> str:
        """Where the keys are kept."""
        return str(self._path)

    def keys(self) -> Mapping[str, Key] | None:
        """Every key by its id, revoked ones too, as the file said ``LOOK_S`` ago; None if none was ever made.

        A file that becomes unreadable changes nothing but is told of, once: the keys known before stay in force.

        Raises:
            StoreError: it cannot be read, and never could.
        """
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return self._keys
        state = self._look()
        if state != self._state:
            self._keys, self._state = self._read(), state
        self._looked_s = now_s
        return self._keys

    def _read(self) -> Mapping[str, Key] | None:
        try:
            found = read_keys(self._path)
        except StoreError as error:
            if self._keys is None:
                raise
            self._warn(f"{error}; the API keys known before stay in force")
            return self._keys
        if found is None and self._keys is not None:
            self._warn(f"{self._path} is gone: no API key is in force; start the server again to do without keys")
            return {}
        return found

    def add(self, key: Key) -> None:
        """Keep a new key.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with alone(self._path):
            keys = dict(read_keys(self._path) or {})
            if key.id in keys:
                raise StoreError(f"there is an API key {key.id} already", hint="try again, for ids are drawn by chance")
            write_keys(self._path, keys | {key.id: key})
        self._looked_s = -inf

    def revoke(self, key_id: str, wall_s: Seconds) -> Key:
        """Put a key out of force; it stays in the file, so that its name can be told.

        Raises:
            NotFoundError: there is no such key.
            StoreError: the file cannot be read or written.
        """
        with alone(self._path):
            keys = dict(read_keys(self._path) or {})
            if key_id not in keys:
                raise NotFoundError(
                    f"there is no API key {key_id}", hint="see: bercail keys list", code="key_not_found"
                )
            keys[key_id] = replace(keys[key_id], revoked_s=wall_s)
            write_keys(self._path, keys)
        self._looked_s = -inf
        return keys[key_id]

    def _look(self) -> _State:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size


def read_keys(path: Path) -> dict[str, Key] | None:
    """The keys in a file by their ids; None if there is no file.

    Raises:
        StoreError: it cannot be read, others could write to it, or something in it is wrong; says what.
    """
    document = read_json(path)
    if document is None:
        return None
    if os.name == "posix" and path.stat().st_mode & _OTHERS_WRITE:
        raise StoreError(f"others may write to {path}", hint=f"chmod 600 {path}, and look whose keys are in it")
    rows = document.get("keys")
    if document.get("schema") != _SCHEMA or not isinstance(rows, list):
        raise StoreError(f"{path} is no list of API keys of schema {_SCHEMA}", hint="it was made by another Bercail")
    keys = [_read_row(row, f"{path}, key {number}") for number, row in enumerate(rows, 1)]
    if len(found := {key.id: key for key in keys}) < len(keys):
        raise StoreError(f"{path}: two keys have the same id", hint="remove one of them", code="damaged")
    return found


def write_keys(path: Path, keys: Mapping[str, Key]) -> None:
    """Replace the file in one step; mode 0600.

    Raises:
        StoreError: it cannot be written.
    """
    write_json(path, {"schema": _SCHEMA, "keys": [_row_of(key) for key in keys.values()]})


def _read_row(row: object, place: str) -> Key:
    known = _Row.__struct_fields__
    for name in row if isinstance(row, dict) else ():
        if name not in known:
            near = alike(name, known) or [", ".join(known)]
            raise StoreError(f"{place}: unknown member {name!r}", hint=f"known: {near[0]}", code="damaged")
    try:
        found = msgspec.convert(row, _Row)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"{place}: {str(error).lower()}", hint="correct it, or remove the key", code="damaged"
        ) from error
    members = {name: getattr(found, name) for name in known}
    limits = Limits(**{name: members.pop(name) for name in ("tokens_per_minute", "tokens_per_day", "concurrency")})
    return Key(limits=limits, **members)


def _row_of(key: Key) -> dict[str, object]:
    members = {name: getattr(key.limits if hasattr(key.limits, name) else key, name) for name in _Row.__struct_fields__}
    made: dict[str, object] = msgspec.to_builtins(members)
    return made
