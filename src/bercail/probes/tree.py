"""The file tree a probe reads: the real one, or a recorded machine below some folder."""

from pathlib import Path

# The text of /proc/cpuinfo is about 1.6 kB per CPU; this is room for 5,000 CPUs.
_LONGEST_BYTES = 8 * 1024 * 1024


class Tree:
    """Small text files below a root.

    Attributes:
        denied: paths that exist but may not be read, in the order they were asked for.
    """

    def __init__(self, root: str | Path = "/") -> None:
        self._root = Path(root)
        self.denied: list[str] = []

    def read(self, path: str) -> str | None:
        """The text at an absolute ``path`` of the machine, or None where it cannot be read.

        NUL bytes are dropped: some recordings pad their files with them.
        """
        try:
            with self._place(path).open("rb") as file:
                data = file.read(_LONGEST_BYTES)
        except PermissionError:
            self.denied.append(path)
            return None
        except (OSError, ValueError):
            return None
        return data.replace(b"\0", b"").decode("utf-8", "replace")

    def names(self, path: str) -> tuple[str, ...]:
        """Names in the folder at ``path``, sorted; empty where there is none."""
        try:
            return tuple(sorted(entry.name for entry in self._place(path).iterdir()))
        except (OSError, ValueError):
            return ()

    def has_folder(self, path: str) -> bool:
        """Whether ``path`` is a folder that can be seen."""
        try:
            return self._place(path).is_dir()
        except (OSError, ValueError):
            return False

    def real(self, path: str) -> str:
        """``path`` with every link on its way followed, as far as there is something."""
        try:
            return str(self._place(path).resolve())
        except (OSError, ValueError, RuntimeError):
            return path

    def _place(self, path: str) -> Path:
        return self._root / path.lstrip("/")
