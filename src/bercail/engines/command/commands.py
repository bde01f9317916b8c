"""Programs that end in an HTTP server are started, and servers elsewhere are reached."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from bercail.core.command import CommandSpec
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Progress
from bercail.core.units import Seconds
from bercail.engines import leashed
from bercail.engines.command.diagnosis import diagnose, diagnose_silence
from bercail.engines.command.elsewhere import Elsewhere
from bercail.engines.command.finding import find_program
from bercail.engines.command.health import Knocking
from bercail.engines.command.listening import free_port, is_taken, who_listens
from bercail.engines.command.program import Program
from bercail.engines.command.site import check_target, parse_url
from bercail.engines.failure import Diagnosis
from bercail.engines.leash import last_will, later
from bercail.engines.orphans import STOP_COMMAND_S
from bercail.engines.process import LOG_LINES, ChildProcess, Command
from bercail.engines.runtime import log_path
from bercail.engines.words import parse_line
from bercail.ports import Journal

_LOOK_S: Seconds = 0.1
_LINGER_S: Seconds = 2.0
"""What was just ended may hold its port for a moment longer."""


class Commands:
    """Starts programs, and reaches servers elsewhere."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        note: Callable[[str], None] = lambda _: None,
        log_dir: Path | None = None,
        journal: Journal | None = None,
        trust: ssl.SSLContext | None = None,
        stop_command_s: Seconds = STOP_COMMAND_S,
        hear: Callable[[str, str], None] = lambda model_id, line: None,
    ) -> None:
        """Know how; nothing is started.

        Args:
            environment: all of it is given to programs.
            note: hears what people should know: another port, a stop command that failed.
            log_dir: where each model's log is kept as well, bounded; None keeps only its end, in memory.
            journal: told of each program as soon as it runs, long before it is ready; None leaves that to others.
            trust: whose certificates are believed; None is those that the system believes.
            stop_command_s: a stop command is ended after so long, or after ``stop_s`` if that is more.
            hear: gets each line that each model's program writes.
        """
        self._environment = environment
        self._note = note
        self._log_dir = log_dir
        self._journal = journal
        self._trust = trust
        self._stop_command_s = stop_command_s
        self._hear = hear
        self._held: set[int] = set()

    def check(self, spec: CommandSpec) -> None:
        """See that there is such a program, and that it could be given what is meant for it.

        Raises:
            EngineError: one of them is not so.
        """
        with _told_of(spec.model_id):
            check_target(spec.check_path)
            if spec.argv:
                _check_words(spec)
                self._find(spec)

    async def start(self, spec: CommandSpec, on_progress: Callable[[Progress], None]) -> Program | Elsewhere:
        """A program that is ready, or a server elsewhere, of which only the URL is checked.

        Must be awaited from the main thread's event loop; see ``ChildProcess.spawn``. Cancelling ends the program.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        self.check(spec)
        with _told_of(spec.model_id):
            return await self._begin(spec, on_progress) if spec.argv else self._reach(spec)

    def _find(self, spec: CommandSpec) -> str:
        return find_program(spec.argv[0], spec.environment.get("PATH", self._environment.get("PATH", "")))

    def _reach(self, spec: CommandSpec) -> Elsewhere:
        return Elsewhere(spec, parse_url(spec.url, spec.headers), self._trust)

    async def _begin(self, spec: CommandSpec, on_progress: Callable[[Progress], None]) -> Program:
        file = self._find(spec)
        port = self._choose_port(spec) if spec.takes_port else None
        placed = spec if port is None else spec.at(port)
        try:
            address = parse_url(placed.url, placed.headers, ours=True)
            await _check_free(address)
            child = await self._spawn(placed, file, on_progress)
        except BaseException:
            self._release(port)
            raise
        program = self._follow(placed, address, child, port)
        try:
            await self._until_ready(program, placed)
        except BaseException:
            await asyncio.shield(program.stop(placed.stop_s))
            raise
        return program

    def _choose_port(self, spec: CommandSpec) -> int:
        port = free_port(spec.port, self._held)
        if spec.port not in (None, port):
            holder = who_listens(spec.port or 0) or "another program"
            self._note(f"{spec.model_id}: port {spec.port} is taken by {holder}; it gets {port}")
        self._held.add(port)
        return port

    async def _spawn(self, spec: CommandSpec, file: str, on_progress: Callable[[Progress], None]) -> ChildProcess:
        command = Command(
            argv=(sys.executable, "-P", "-m", leashed.__name__, file, *spec.argv[1:]),
            environment={**self._environment, **later(spec.environment), **last_will(spec.cleanup_argv)},
            log_path=log_path(self._log_dir, spec.model_id),
            one_log=True,
            hear=partial(self._hear, spec.model_id),
        )
        return await ChildProcess.spawn(command, lambda _: None, partial(_overhear, on_progress))

    def _follow(self, spec: CommandSpec, address: Address, child: ChildProcess, port: int | None) -> Program:
        program = Program(
            spec,
            address,
            child,
            environment={**self._environment, **spec.environment},
            trust=self._trust,
            stop_command_s=max(self._stop_command_s, spec.stop_s),
            note=self._note,
            on_end=partial(self._forget, child.pid, port),
        )
        if self._journal is not None:
            self._journal.record(child.pid, stop_argv=program.stop_argv)
        return program

    def _release(self, port: int | None) -> None:
        self._held -= {port}

    def _forget(self, pid: int, port: int | None) -> None:
        self._release(port)
        if self._journal is not None:
            self._journal.forget(pid)

    async def _until_ready(self, program: Program, spec: CommandSpec) -> None:
        if not spec.check_path:
            return
        knocking = Knocking(program.address, spec.check_path, self._trust)
        ready = asyncio.ensure_future(knocking.until_ready())
        ended = asyncio.ensure_future(program.wait_process())
        both: set[asyncio.Future[None] | asyncio.Future[Exit]] = {ready, ended}
        try:
            await asyncio.wait(both, timeout=spec.ready_s, return_when=asyncio.FIRST_COMPLETED)
            log = program.log_tail(LOG_LINES)  # what went wrong may be told long before the end
            if ended.done():
                raise _failed(program, diagnose(spec.argv, log, ended.result().code))
            if not ready.done():
                raise _failed(program, diagnose_silence(spec, log, knocking.last))
            ready.result()
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.wait(both)


@contextlib.contextmanager
def _told_of(model_id: str) -> Iterator[None]:
    """Whatever fails in it is told as a failure of that model."""
    try:
        yield
    except EngineError as error:
        message = f"{model_id} could not be loaded: {error.message}"
        raise EngineError(message, hint=error.hint, code=error.code, log_tail=error.log_tail) from error


async def _check_free(address: Address) -> None:
    """See that nobody else would answer in a program's place."""
    loop = asyncio.get_running_loop()
    patient_until_s = loop.time() + _LINGER_S
    while await is_taken(address.host, address.port):
        if loop.time() > patient_until_s:
            raise EngineError(
                f"{who_listens(address.port) or 'somebody'} answers at {address} already",
                hint="end that, or give the program another port: ${PORT} stands for one that is free",
                code="port_taken",
            )
        await asyncio.sleep(_LOOK_S)


def _failed(program: Program, found: Diagnosis) -> EngineError:
    return EngineError(found.sentence, hint=found.hint, code=found.code, log_tail=program.log_tail())


def _overhear(on_progress: Callable[[Progress], None], line: str) -> None:
    said = parse_line(line)
    if isinstance(said, Progress):
        on_progress(said)


def _check_words(spec: CommandSpec) -> None:
    """See that the kernel takes what the program is given."""
    words = (*spec.argv, *spec.stop_argv, *spec.environment, *spec.environment.values())
    if any("\0" in word for word in words) or any(not name or "=" in name for name in spec.environment):
        raise EngineError(
            "its command or environment holds what no program can be given",
            hint="leave out NUL characters, and = from the names of variables",
            code="bad_command",
        )
