"""Sockets of other processes, as the kernel lists them."""

from pathlib import Path


def connections(pid: int) -> list[str]:
    """Its sockets of the Internet: what the kernel lists for it that is of TCP or UDP."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed since it was listed
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            if line.split()[9] in inodes:
                found.append(line)
    return found
