"""The folder of contexts that engines saved: for this user alone, and never over its budget."""

from contextlib import suppress
from pathlib import Path

from bercail.core.keepsake import Kept, too_many
from bercail.core.units import Bytes
from bercail.store.files import make_folder, translate


class FolderShelf:
    """Implements ``ports.Shelf``.

    Args:
        folder: where the files go; made when it is first needed.
        most_bytes: all files together; 0 keeps none.
    """

    def __init__(self, folder: Path, most_bytes: Bytes) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    @property
    def place(self) -> str:
        """Where engines write to, with a slash at its end; empty if nothing is kept.

        Raises:
            StoreError: the folder cannot be made.
        """
        if not self._most_bytes:
            return ""
        try:
            make_folder(self._folder)
            self._folder.chmod(0o700)
        except OSError as error:
            raise translate(error, f"the folder {self._folder} for saved contexts cannot be made") from error
        return f"{self._folder}/"

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return (self._folder / name).is_file()

    def drop(self, name: str) -> None:
        """Delete it; nothing if it is not there."""
        with suppress(OSError):
            (self._folder / name).unlink()

    def settle(self) -> None:
        """Make every file this user's alone, and let the longest unused go until the rest is within the budget."""
        kept = []
        for path in self._folder.glob("*.slot"):
            with suppress(OSError):  # another server has just deleted it
                path.chmod(0o600)
                status = path.stat()
                kept.append(Kept(name=path.name, bytes=status.st_size, used_s=status.st_mtime))
        for name in too_many(kept, self._most_bytes):
            self.drop(name)
