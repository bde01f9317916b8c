"""What starting a worker takes: its command, its environment, its socket; and asking it something."""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import MIB
from bercail.engines.llama_cpp import flags, worker
from bercail.engines.process import ChildProcess, Command
from bercail.engines.upstream import HttpUpstream

INSTALL = f"pip install 'xllamacpp=={flags.RELEASE}'"
SOCKET_PATH_BYTES = 104
"""``sun_path`` of macOS; Linux has 108."""
_PREFIX = "bercail-engine-"
_SOCKET = "llama.sock"
_YOUNG_S = 60.0
_LAST_WORDS_S = 2.0
_LARGEST_ANSWER_BYTES = 4 * MIB

# Proxies and keys are of no use to a process that is to reach nobody; the others would change what the engine does.
_KEPT_OUT = ("LLAMA_", "AIP_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_library() -> None:
    """See that the engine is installed, without importing it.

    Raises:
        EngineError: it is not; the hint is the line that installs it.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise missing("", ())


def missing(model_id: str, log: tuple[str, ...]) -> EngineError:
    """The error for an engine that is not installed."""
    about = f"{model_id} could not be loaded: " if model_id else ""
    return EngineError(
        f"{about}the embedded engine is not installed", hint=INSTALL, code="engine_not_installed", log_tail=log
    )


def make_command(
    values: Mapping[str, flags.Parameter], environment: Mapping[str, str], *, log_path: Path | None = None
) -> Command:
    """The worker with its parameters, which go by standard input: a template can be too long for an argument."""
    return Command(
        # -P: a file of that name in the working directory must not pass for the library.
        argv=(sys.executable, "-P", "-m", worker.__name__),
        environment={**clean_environment(os.environ), **environment},
        first_input=json.dumps(dict(values)).encode() + b"\n",
        farewell=worker.FAREWELL,
        log_path=log_path,
    )


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of our environment an engine gets."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(_KEPT_OUT) and not name.upper().endswith("_PROXY")
    }
    return {**kept, "GGML_NO_BACKTRACE": "1"}  # an abort would run gdb over itself for a second


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
