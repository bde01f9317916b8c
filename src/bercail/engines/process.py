"""Engine processes: the only module that spawns, tails, signals and reaps."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from bercail.core.errors import EngineError
from bercail.core.launch import Exit
from bercail.core.units import KIB, MIB, Bytes
from bercail.engines.leash import PARENT_VARIABLE

LOG_LINES = 200
LOG_FILE_BYTES = 4 * MIB
_LINE_BYTES = 4 * KIB
_LAST_WORDS_S = 1.0

# What a hostile file can put into a log must not drive somebody's terminal: C0 and C1 controls but for the tab.
_CONTROLS = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def _deaf(line: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One child to be.

    Attributes:
        argv: program and arguments.
        environment: the whole environment of the child.
        first_input: written to its standard input at once; the pipe stays open.
        farewell: written to its standard input to ask it to end; empty if it would not read it.
        log_path: file its log is appended to, or None.
        one_log: its log is all its output; else what it writes to standard error.
        hear: gets each line of its log as it is kept.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    first_input: bytes = b""
    farewell: bytes = b""
    log_path: Path | None = None
    one_log: bool = False
    hear: Callable[[str], None] = _deaf


class _Lines:
    """Bytes in any pieces to whole lines, each bounded."""

    def __init__(self, on_line: Callable[[str], None], limit_bytes: Bytes) -> None:
        self._on_line = on_line
        self._limit_bytes = limit_bytes
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
        self._rest = rest[: self._limit_bytes]

    def end(self) -> None:
        if self._rest:
            self._emit(self._rest)
            self._rest = b""

    def _emit(self, line: bytes) -> None:
        self._on_line(line[: self._limit_bytes].rstrip(b"\r").decode(errors="replace"))


class _LogFile:
    """A log on disk of bounded size: at the bound it becomes ``<name>.1`` and a new one begins."""

    def __init__(self, path: Path, limit_bytes: Bytes = LOG_FILE_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None
        self._given_up = False

    def write(self, data: bytes) -> None:
        """Append; a log that cannot be written must not take the engine down with it, and is not tried again."""
        if self._given_up:
            return
        try:
            file = self._file or self._open()
            if file.tell() > self._limit_bytes:
                file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                file = self._open()
            file.write(data)
        except OSError:
            self.close()
            self._given_up = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        # Prompts do not appear in it, but file names do: nobody else's business.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        return self._file


class ChildProcess(asyncio.SubprocessProtocol):
    """A child in a process group of its own, with its output read and its end observed."""

    def __init__(self, command: Command, on_line: Callable[[str], None], on_log: Callable[[str], None]) -> None:
        self._command = command
        self._on_log = on_log
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._log_file = _LogFile(command.log_path) if command.log_path else None
        self._stdout = _Lines(on_line, MIB)
        self._stderr = _Lines(self._keep, _LINE_BYTES)
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.SubprocessTransport
        self._pid = 0
        self.last_sign_s = asyncio.get_running_loop().time()
        """Loop time of its last output of any kind."""

    @classmethod
    async def spawn(
        cls, command: Command, on_line: Callable[[str], None], on_log: Callable[[str], None] = lambda _: None
    ) -> "ChildProcess":
        """Start ``command``; ``on_line`` gets each line of its standard output, ``on_log`` each of its log.

        The child is told our process id and asks the kernel for a death signal (``leash.py``). On Linux that signal
        is tied to the *thread* that spawned it (prctl(2), PR_SET_PDEATHSIG), which is why this must run in the main
        thread: an engine spawned from a worker thread would die with that thread. No ``preexec_fn`` for it: code
        between fork and exec of a program with threads may deadlock.

        Raises:
            EngineError: the program cannot be started.
        """
        environment = {**command.environment, PARENT_VARIABLE: str(os.getpid())}
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                lambda: cls(command, on_line, on_log),
                *command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if command.one_log else subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"the engine process cannot be started: {error.strerror or error}: {command.argv[0]}",
                hint="check that the Python environment of Bercail is complete",
                code="engine_not_started",
            ) from error
        child._write(command.first_input)
        return child

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._pid

    @property
    def running(self) -> bool:
        """It has not been seen to end."""
        return not self._ended.done()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """Its last ``lines`` lines of log, oldest first; a line that is not finished yet is not among them."""
        return tuple(self._log)[-lines:] if lines > 0 else ()

    async def wait(self) -> Exit:
        """How it ended; returns when it has and its log has been read."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to end, after half of ``grace_s`` terminate it, after all of it kill its group.

        One that takes no farewell is terminated at once.
        """
        asks = (self._ask, self._terminate) if self._command.farewell else (self._terminate,)
        for ask in asks:
            if await self._ends_within(ask, grace_s / len(asks)):
                return self._ended.result()
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        """Kill it and whatever it started, now."""
        if self.running:
            _signal_group(self.pid, signal.SIGKILL)

    def resident_bytes(self) -> Bytes | None:
        """Memory it holds, or None where the system does not tell."""
        return read_resident_bytes(self.pid) if self.running else None

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The child runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)  # uvloop's has the methods, not the class
        self._pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The child said something."""
        self.last_sign_s = asyncio.get_running_loop().time()
        if fd == 1 and not self._command.one_log:
            self._stdout.feed(data)
            return
        if self._log_file is not None:
            self._log_file.write(data)
        self._stderr.feed(data)

    def process_exited(self) -> None:
        """The child has been reaped; what it started goes too, and the pipes with it."""
        _signal_group(self.pid, signal.SIGKILL)
        # Should somebody out of our reach hold a pipe open, its end is observed all the same.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self.connection_lost, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The child has ended and its pipes are drained."""
        if self._ended.done():
            return
        self._stdout.end()
        self._stderr.end()
        if self._log_file is not None:
            self._log_file.close()
        code = self._transport.get_returncode()
        self._ended.set_result(Exit(code=-signal.SIGKILL if code is None else code, log_tail=self.log_tail()))
        self._transport.close()

    def _keep(self, line: str) -> None:
        self._log.append(kept := line.translate(_CONTROLS))
        self._command.hear(kept)
        self._on_log(line)

    def _ask(self) -> None:
        self._write(self._command.farewell)

    def _terminate(self) -> None:
        _signal_group(self.pid, signal.SIGTERM)

    async def _ends_within(self, ask: Callable[[], None], patience_s: float) -> bool:
        if self.running:
            ask()
            await asyncio.wait([self._ended], timeout=patience_s)
        return not self.running

    def _write(self, data: bytes) -> None:
        pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if data and pipe is not None and not pipe.is_closing():
            pipe.write(data)


def _signal_group(pid: int, number: int) -> None:
    try:
        if sys.platform == "win32":
            os.kill(pid, signal.SIGTERM)
        else:
            os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone already; macOS says EPERM for a group of zombies


def read_resident_bytes(pid: int, proc: Path = Path("/proc")) -> Bytes | None:
    """Memory of a process: proportional set size where the kernel tells, else resident set, else None."""
    for name, parse in (("smaps_rollup", parse_smaps_rollup), ("status", parse_status)):
        try:
            found = parse((proc / str(pid) / name).read_text())
        except OSError:
            continue
        if found is not None:
            return found
    return None


def parse_smaps_rollup(text: str) -> Bytes | None:
    """Proportional set size from ``/proc/<pid>/smaps_rollup`` (proc_pid_smaps(5)), or None if it is not there."""
    return _kib_field(text, "Pss:")


def parse_status(text: str) -> Bytes | None:
    """Resident set size from ``/proc/<pid>/status`` (proc_pid_status(5)), or None if it is not there."""
    return _kib_field(text, "VmRSS:")


def _kib_field(text: str, name: str) -> Bytes | None:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == name and words[1].isdigit() and words[2] == "kB":
            return int(words[1]) * KIB
    return None
