"""Facts worth keeping between runs: verdicts on chat templates, the measured memory bandwidth."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from bercail.core.errors import StoreError
from bercail.store.files import read_json, write_json

_SCHEMA = "bercail.cache/1"
_KIND = re.compile(r"[a-z][a-z0-9_]*")


class FileCache:
    """One small file per fact; losing them costs time, never correctness.

    Args:
        folder: where the files go.
        warn: hears what could not be read, in words.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn

    def get(self, kind: str, key: str) -> dict[str, object] | None:
        """What was kept under ``key``, or None. A file that cannot be used counts as absent, after a warning."""
        path = self._path(kind, key)
        try:
            found = read_json(path)
        except StoreError as error:
            self._warn(f"{error.message}; what it kept is worked out again")
            return None
        if found is None or found.get("schema") != _SCHEMA or found.get("key") != key:
            return None
        value = found.get("value")
        return value if isinstance(value, dict) else None

    def put(self, kind: str, key: str, value: dict[str, object]) -> None:
        """Keep ``value``, which must be made of JSON values, under ``key``.

        Raises:
            StoreError: it cannot be written.
        """
        write_json(self._path(kind, key), {"schema": _SCHEMA, "key": key, "value": value})

    def _path(self, kind: str, key: str) -> Path:
        if not _KIND.fullmatch(kind):
            raise ValueError(f"{kind!r} is not a kind of fact")
        # Keys are long and hold any character; the file keeps the key itself to tell it from a namesake.
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self._folder / kind / f"{digest}.json"
