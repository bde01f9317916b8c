"""What starting any engine takes: a folder for its socket, its address, a question to it, and its end."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import MIB
from bercail.engines.process import ChildProcess
from bercail.engines.upstream import HttpUpstream

SOCKET_PATH_BYTES = 104
"""``sun_path`` of macOS; Linux has 108."""
_PREFIX = "bercail-engine-"
_SOCKET = "llama.sock"
_YOUNG_S = 60.0
_LAST_WORDS_S = 5.0
_LARGEST_ANSWER_BYTES = 4 * MIB


_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def without_secrets(environment: Mapping[str, str], others: tuple[str, ...] = ()) -> dict[str, str]:
    """What of our environment an engine gets: proxies and keys are of no use to one that is to reach nobody.

    Args:
        environment: ours.
        others: how the names of further variables begin that it does not get.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith((*_SECRETS, *others)) and not name.upper().endswith("_PROXY")
    }


def listen_at(runtime: Path) -> str:
    """A unix socket in ``runtime`` where the system has such and its name is short enough, else loopback."""
    path = str(runtime / _SOCKET)
    fits = sys.platform != "win32" and len(os.fsencode(path)) < SOCKET_PATH_BYTES
    return path if fits else "127.0.0.1"


def parse_address(text: str) -> Address:
    """The address the engine says it listens at.

    Raises:
        EngineError: it is none.
    """
    if text.startswith("unix://"):
        return Address(unix_path=text.removeprefix("unix://"))
    host, _, port = text.removeprefix("http://").rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"the engine listens at {text!r}, which is no address", code="engine_not_alive")
    return Address(host=host, port=int(port))


def make_runtime(parent: Path | None) -> Path:
    """A private folder in ``parent``, or in the system's place for temporary files; folders of the dead are removed.

    Raises:
        EngineError: it cannot be made.
    """
    place = parent or Path(tempfile.gettempdir())
    try:
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))  # mkdtemp makes it 0700
    except OSError as error:
        raise EngineError(
            f"no folder for the engine's socket: {error.strerror}: {place}",
            hint="free space there, or name another place in TMPDIR",
            code="engine_socket",
        ) from error


@contextlib.contextmanager
def nest(parent: Path | None) -> Iterator[Path]:
    """A private folder that is removed if what is begun in it fails.

    Raises:
        EngineError: it cannot be made.
    """
    runtime = make_runtime(parent)
    try:
        yield runtime
    except BaseException:
        remove(runtime)
        raise


def _sweep(place: Path) -> None:
    """Remove what servers that were killed left behind."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not _in_use(folder, int(pid)):
            remove(folder)


def _in_use(folder: Path, pid: int) -> bool:
    """Whether its server runs, its engine listens, or it is so young that both may yet come.

    A process id alone does not tell: containers may share the place and each count its own processes.
    """
    if sys.platform == "win32":
        return True
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    try:
        status = folder.stat()
    except OSError:
        return False
    if status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_S:
        return True
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(1.0)
        try:
            return plug.connect_ex(str(folder / _SOCKET)) == 0
        except OSError:  # its path is too long for a socket: nobody listens there
            return False


def log_path(folder: Path | None, model_id: str) -> Path | None:
    """Where the log of a model's engine is kept; None if nowhere."""
    if folder is None:
        return None
    with contextlib.suppress(OSError):  # then there is no log on disk; what it ends with is kept in memory anyway
        folder.mkdir(parents=True, exist_ok=True)
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model_id)
    return folder / f"{plain[:100]}.log"


def remove(runtime: Path) -> None:
    """Leave nothing behind."""
    shutil.rmtree(runtime, ignore_errors=True)


async def end(child: ChildProcess) -> None:
    """Kill it, and see it dead."""
    child.kill()
    await child.wait()


async def ended_soon(child: ChildProcess) -> bool:
    """Whether a child that broke off turns out to be dying."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), _LAST_WORDS_S)
        return True
    return False


async def ask(upstream: HttpUpstream, address: Address, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of one small request.

    Raises:
        EngineError: no answer, or more than 4 MiB of it.
    """
    response = await upstream.send(address, method, target, [(b"content-type", b"application/json")], body)
    answer = bytearray()
    try:
        async for piece in response.chunks():
            answer += piece
            if len(answer) > _LARGEST_ANSWER_BYTES:
                raise EngineError("it answers with more than 4 MiB", code="engine_answer")
    finally:
        response.abort()
    return response.status, bytes(answer)
