"""Ports on this machine: which are free, and who listens at one."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from bercail.core.errors import EngineError
from bercail.core.units import Seconds

_LAST_PORT = 65_535
_LISTENS = "0A"
_KNOCK_S: Seconds = 2.0


def free_port(preferred: int | None, held: Collection[int] = ()) -> int:
    """``preferred`` if nobody listens there on loopback, else the next one that is free; None takes any that is.

    Args:
        preferred: asked for.
        held: ports given to programs that may not listen yet.

    Raises:
        EngineError: none is left.
    """
    if preferred is None:
        while (port := _any_port()) in held:
            pass  # the system does not know of promises
        return port
    for port in range(preferred, _LAST_PORT + 1):
        if port not in held and _is_free(port):
            return port
    raise EngineError(f"no port from {preferred} on is free", hint="let ports begin lower", code="port_taken")


def _any_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    return all(_can_bind(family, host, port) for family, host in _loopbacks())


def _loopbacks() -> Iterator[tuple[socket.AddressFamily, str]]:
    yield socket.AF_INET, "127.0.0.1"
    if socket.has_ipv6:
        yield socket.AF_INET6, "::1"  # localhost may mean this one first


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as plug:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended lately do not count
            plug.bind((host, port))
    except OSError as error:
        return error.errno not in (errno.EADDRINUSE, errno.EACCES)  # others: a machine without that loopback
    return True


async def is_taken(host: str, port: int) -> bool:
    """Whether somebody answers there."""
    with contextlib.suppress(OSError):  # a time-out is one
        async with asyncio.timeout(_KNOCK_S):
            _, writer = await asyncio.open_connection(host, port)
        writer.transport.abort()
        return True
    return False


def who_listens(port: int, *, fsroot: Path = Path("/")) -> str:
    """The program that listens at ``port`` here, with its process id; empty where the system does not tell."""
    sockets: set[int] = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            sockets |= parse_listeners((fsroot / "proc/net" / name).read_text(), port)
    wanted = {f"socket:[{inode}]" for inode in sockets}
    for folder in (fsroot / "proc").glob("[0-9]*") if wanted else ():
        if not wanted.isdisjoint(_open_sockets(folder)):
            return f"{_name(folder)} (pid {folder.name})"
    return "a process of another user" if wanted else ""


def parse_listeners(text: str, port: int) -> set[int]:
    """Inodes of the sockets that listen at ``port``, out of ``/proc/net/tcp`` (proc_pid_net(5))."""
    found = set()
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == _LISTENS and words[9].isdigit():
            with contextlib.suppress(ValueError):
                if int(words[1].rpartition(":")[2], 16) == port:
                    found.add(int(words[9]))
    return found


def _open_sockets(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # another user's, or gone
        for entry in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(entry.readlink())


def _name(folder: Path) -> str:
    with contextlib.suppress(OSError):
        words = (folder / "cmdline").read_bytes().split(b"\0")
        return Path(words[0].decode(errors="replace")).name or "a process"
    return "a process"
