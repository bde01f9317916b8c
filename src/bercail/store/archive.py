"""Texts of requests and answers as files: one for each request, for this user alone, within a size."""

import json
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bercail.core.captured import Captured, document
from bercail.core.errors import StoreError
from bercail.core.units import Bytes, Seconds, format_bytes
from bercail.store.files import make_folder, replace, translate

HELD = 64
CLOSE_S: Seconds = 10.0
_NAME = re.compile(r"(\d{1,20})\.json")
_DRAFT = ".draft-"


class FolderArchive:
    """Implements ``ports.Archive``: a thread of its own writes ``ID.json``, as ``/api/captures/ID`` tells it.

    Args:
        folder: made if it is not there, for this user alone; what else is in it is left alone.
        most_bytes: all of these files together; the oldest go.
        warn: hears in words what went wrong; service goes on.
        held: requests that wait for the disk at most; more are dropped, counted and told.
    """

    def __init__(self, folder: Path, most_bytes: Bytes, warn: Callable[[str], None], held: int = HELD) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._warn = warn
        self._held = held
        self._waiting: deque[Captured] = deque()
        self._called = threading.Semaphore(0)
        self._kept: deque[tuple[Path, Bytes]] = deque()
        self._used: Bytes = 0
        # Counts of one thread each: of the one that puts, and of the writer.
        self._dropped = self._unwritten = self._told = 0
        self._failing = False
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        """Begin to write, after what an earlier server kept.

        Raises:
            StoreError: the folder cannot be made, read or written to.
        """
        try:
            make_folder(self._folder)
            found = [(int(name[1]), path) for path in self._folder.iterdir() if (name := _NAME.fullmatch(path.name))]
            for _, path in sorted(found):
                self._count(path, path.stat().st_size)
            for left in self._folder.glob(f"{_DRAFT}*"):  # by a server that was killed
                left.unlink()
            handle, draft = tempfile.mkstemp(prefix=_DRAFT, dir=self._folder)
            os.close(handle)
            Path(draft).unlink()
        except OSError as error:
            raise translate(error, f"the folder {self._folder} for texts cannot be written to") from error
        self._make_room(0)
        self._writer = threading.Thread(target=self._write_on, name="texts", daemon=True)
        self._writer.start()

    def put(self, captured: Captured) -> None:
        """Keep one, soon; never waits."""
        if self._writer is None:
            return
        if len(self._waiting) >= self._held:
            self._dropped += 1
            return
        self._waiting.append(captured)
        self._called.release()

    def close(self) -> None:
        """Write what waits, and end."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._called.release()  # for nothing: that is the end
        writer.join(CLOSE_S)
        if writer.is_alive():
            self._warn(f"{self._folder} did not get all texts: the disk is too slow")
        self._tell_dropped()

    def _write_on(self) -> None:
        while self._called.acquire() and self._waiting:
            captured = self._waiting.popleft()
            try:
                self._write(captured)
                self._recovered()
            except OSError as error:
                self._failed(translate(error, f"{self._folder} cannot be written to"))
            except StoreError as error:
                self._failed(error)

    def _write(self, captured: Captured) -> None:
        data = json.dumps(document(captured), ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > self._most_bytes:
            raise StoreError(f"a request of {format_bytes(len(data))} is more than server.capture_disk")
        self._make_room(len(data))
        path = self._folder / f"{captured.id}.json"
        replace(path, data, draft=_DRAFT)
        self._count(path, len(data))

    def _count(self, path: Path, size: Bytes) -> None:
        self._kept.append((path, size))
        self._used += size

    def _make_room(self, size: Bytes) -> None:
        while self._kept and self._used + size > self._most_bytes:
            path, freed = self._kept.popleft()
            path.unlink(missing_ok=True)
            self._used -= freed

    def _failed(self, error: StoreError) -> None:
        self._unwritten += 1
        if not self._failing:
            self._failing = True
            self._warn(f"{error}; requests go on, but their texts are not kept as files")

    def _recovered(self) -> None:
        self._tell_dropped()
        self._failing = False

    def _tell_dropped(self) -> None:
        if dropped := self._dropped + self._unwritten - self._told:
            self._told += dropped
            self._warn(f"{self._folder} lacks the texts of {dropped} request{'' if dropped == 1 else 's'}")
