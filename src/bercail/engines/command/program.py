"""A running program, and the two ways to end it: a command of its own, or a signal."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

from bercail.core.command import PID, CommandSpec
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Landed
from bercail.core.pulse import Pulse
from bercail.core.units import Bytes, Seconds
from bercail.engines.command.health import OK, look_in
from bercail.engines.failure import is_gone, telling_lines
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import end


class Program:
    """Implements ``ports.EngineProcess``."""

    def __init__(
        self,
        spec: CommandSpec,
        address: Address,
        child: ChildProcess,
        *,
        environment: Mapping[str, str],
        trust: ssl.SSLContext | None,
        stop_command_s: Seconds,
        note: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        """Follow a child until its end.

        Args:
            spec: what it was started with, its port chosen.
            address: where it answers.
            child: the process.
            environment: of the command that ends it.
            trust: whose certificates are believed.
            stop_command_s: how long that command may take.
            note: hears what went wrong at its end.
            on_end: called when nothing of it is left.
        """
        self._spec = spec
        self._address = address
        self._child = child
        self._environment = environment
        self._trust = trust
        self._stop_command_s = stop_command_s
        self._note = note
        self._on_end = on_end
        self._stop_command: asyncio.Task[bool] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ended = asyncio.ensure_future(self._see_end())

    @property
    def address(self) -> Address:
        """Where it answers."""
        return self._address

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """What ends more than its process, such as a container; empty if there is no such command."""
        return self._spec.cleanup_argv

    async def pulse(self, timeout_s: Seconds) -> Pulse:
        """Whether its check gives 200 within ``timeout_s``; one without a check is well while it runs."""
        if not self._child.running:
            return Pulse(words="it has ended")
        if not self._spec.check_path:
            return Pulse()
        look = await look_in(self._address, self._spec.check_path, timeout_s, self._trust)
        return Pulse() if look.status == OK else Pulse(words=look.words, silent=look.silent)

    async def wait_process(self) -> Exit:
        """How its process ended, whatever else there is to end."""
        return await self._child.wait()

    async def wait(self) -> Exit:
        """How it ended; returns when it has, and the command that ends what it left has run."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to end, and kill its group ``stop_s`` later: its own patience counts, not ``grace_s``."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)
        return await self.wait()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines of all its output, oldest first."""
        return self._child.log_tail(lines)

    def landed(self) -> tuple[Landed, ...]:
        """Nothing: what it says of its buffers is not read."""
        return ()

    def resident_bytes(self) -> Bytes | None:
        """Memory of its first process, or None."""
        return self._child.resident_bytes()

    async def _see_end(self) -> Exit:
        ended = await self._child.wait()
        if self._spec.cleanup_argv or self._stop_command is not None:
            await self._run_stop_command()
        self._on_end()
        return ended

    async def _stop(self) -> None:
        if not self._spec.stop_argv or not self._child.running:
            await self._child.stop(self._spec.stop_s)
            return
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._spec.stop_s
        asked, ended = self._run_stop_command(), asyncio.ensure_future(self._child.wait())
        both: set[asyncio.Future[bool] | asyncio.Future[Exit]] = {asked, ended}
        await asyncio.wait(both, timeout=self._spec.stop_s, return_when=asyncio.FIRST_COMPLETED)
        left_s = max(deadline_s - loop.time(), 0.0)
        if asked.done() and not asked.result():
            await self._child.stop(left_s)
        await asyncio.wait([ended], timeout=left_s)
        self._child.kill()
        await ended
        await asked

    def _run_stop_command(self) -> "asyncio.Task[bool]":
        """Its stop command, which runs at most once; whether it did what it should."""
        if self._stop_command is None:
            argv = [word.replace(PID, str(self._child.pid)) for word in self._spec.stop_argv]
            self._stop_command = asyncio.ensure_future(self._end_by(argv))
        return self._stop_command

    async def _end_by(self, argv: Sequence[str]) -> bool:
        failure = await _run(argv, self._environment, self._stop_command_s)
        if failure:
            self._note(f"{self._spec.model_id}: its stop command ({' '.join(argv)}) failed: {failure}")
        return not failure


async def _run(argv: Sequence[str], environment: Mapping[str, str], patience_s: Seconds) -> str:
    """Why a command failed; empty if it did not, or found nothing left to end."""
    try:
        child = await ChildProcess.spawn(Command(argv=argv, environment=environment, one_log=True), lambda _: None)
    except EngineError as error:
        return error.message
    try:
        async with asyncio.timeout(patience_s):
            ended = await child.wait()
    except TimeoutError:
        return f"it does not end within {patience_s:g} s"
    finally:
        await asyncio.shield(end(child))
    if ended.code == 0 or is_gone("\n".join(ended.log_tail)):
        return ""
    last = (telling_lines(ended.log_tail, 1) or ended.log_tail[-1:] or ("it said nothing",))[0]
    return f"{ended}: {last}"
