"""Who has a process number: identity of processes out of /proc."""

import platform
from pathlib import Path

from bercail.store.journal import Process, Scope


def parse_start_ticks(text: str) -> int | None:
    """Field 22 of /proc/PID/stat; the name before it may hold spaces and brackets. None for a zombie or nonsense.

    Source: proc_pid_stat(5).
    """
    words = text.rpartition(")")[2].split()
    if len(words) < 20 or words[0] in "ZX" or not (words[19].isascii() and words[19].isdigit()):
        return None
    return int(words[19]) if len(words[19]) <= 20 else None


def look(pid: int, *, fsroot: Path = Path("/")) -> Process | None:
    """The process that has this number now, or None if there is none or the system does not tell."""
    folder = fsroot / "proc" / str(pid)
    try:
        start_ticks = parse_start_ticks((folder / "stat").read_text(errors="replace"))
        argv0 = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return None
    return None if start_ticks is None else Process(pid=pid, start_ticks=start_ticks, argv0=argv0 or f"process {pid}")


def read_scope(*, fsroot: Path = Path("/")) -> Scope:
    """This host, boot and PID namespace; empty words where the system does not tell."""
    try:
        boot = (fsroot / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    try:
        namespace = str((fsroot / "proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return Scope(host=platform.node(), boot=boot, namespace=namespace)
