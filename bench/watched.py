"""What a server holds while it works, and what is left of it afterwards."""

import os
import subprocess
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TypedDict

KNOWN = (
    "bercail.yaml", "stderr", "cache/bercail/*/*.json", "state/bercail/activity.db*", "state/bercail/activity.lock",
    "state/bercail/log/*.log*", "state/bercail/contexts/*.slot",
)  # fmt: skip
"""What a server keeps, and what the scene itself has put there."""


class Look(TypedDict):
    """What a server holds at one moment."""

    descriptors: int
    children: list[str]
    resident_bytes: int
    contexts_bytes: int


class Watched:
    """Looks at a server now and then."""

    def __init__(self, server: "subprocess.Popen[str]", state: Path) -> None:
        self._proc = Path(f"/proc/{server.pid}")
        self._state = state
        self.looks: list[Look] = []

    def look(self) -> Look:
        """What it holds now."""
        contexts = [path.stat().st_size for path in self._state.glob("bercail/contexts/*") if path.exists()]
        return {
            "descriptors": len(list((self._proc / "fd").iterdir())),
            "children": [words_of(child) for child in self._children()],
            "resident_bytes": int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "contexts_bytes": sum(contexts),
        }

    def _children(self) -> list[str]:
        return (self._proc / "task" / self._proc.name / "children").read_text().split()

    def watch(self, over: float) -> None:
        """Look twenty times until it is over."""
        pause_s = (over - time.monotonic()) / 20
        while time.monotonic() + pause_s < over:
            time.sleep(pause_s)
            self.looks.append(self.look())


def words_of(pid: str) -> str:
    """What a process runs, without the folders of programs; empty if it has gone."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return " ".join(word.rpartition("/bin/")[2] for word in words).strip()
    return ""


def left_behind(place: Path) -> list[str]:
    """Processes that belong to this scene and outlived it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={place}".encode() in entry.read_bytes().split(b"\0"):
                found.append(words_of(entry.parent.name))
    return found


def strays(place: Path) -> list[str]:
    """Files below ``place`` that a server which has ended well should not have left, or not open to everybody."""
    found = []
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_file() and not any(fnmatch(name, known) for known in KNOWN):
            found.append(name)
        if path.suffix == ".slot" and path.stat().st_mode & 0o77:
            found.append(f"{name} may be read by others")
    return sorted(found)
