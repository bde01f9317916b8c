"""An engine from its first line to its end: starting, ready, running."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Landed, Progress
from bercail.core.pulse import Pulse
from bercail.core.units import Bytes, Seconds
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import ask, end, ended_soon, parse_address, remove
from bercail.engines.upstream import HttpUpstream
from bercail.engines.words import parse_line

_HEALTH_TIMEOUT_S = 10.0
_LOOK_S = 0.5
_SILENT = "engine_silent"

Explain: TypeAlias = Callable[[Exit], EngineError]
"""What to say of an engine that ended before it was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for.

    Attributes:
        silence_s: an engine that starts and gives no sign of life for so long has failed. While it reads weights it
            gives one every 0.2 s; rearranging large weights and the empty run after that are silent.
    """

    silence_s: float = 300.0


USUAL_PATIENCE = Patience()


class RunningEngine:
    """A running, ready engine; implements ``ports.EngineProcess``."""

    def __init__(self, child: ChildProcess, address: Address, runtime: Path, landed: Sequence[Landed]) -> None:
        self._child = child
        self._landed = landed
        self._address = address
        self._runtime = runtime

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._address

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """Nothing: with its process all of it ends."""
        return ()

    async def pulse(self, timeout_s: Seconds) -> Pulse:
        """Whether it says within ``timeout_s`` that it is well."""
        try:
            await _check_health(self._address, timeout_s)
        except EngineError as error:
            return Pulse(words=error.message, silent=error.code == _SILENT)
        return Pulse()

    async def wait(self) -> Exit:
        """How it ended; returns when it has, and nothing of it is left on disk."""
        end = await self._child.wait()
        remove(self._runtime)
        return end

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to stop; after ``grace_s`` kill its whole process group."""
        await self._child.stop(grace_s)
        return await self.wait()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines of its log, oldest first."""
        return self._child.log_tail(lines)

    def landed(self) -> tuple[Landed, ...]:
        """The buffers it made while it loaded."""
        return tuple(self._landed)

    def resident_bytes(self) -> Bytes | None:
        """Memory it holds, or None."""
        return self._child.resident_bytes()


class Start:
    """Follows one start from the first line to readiness."""

    def __init__(
        self,
        model_id: str,
        on_progress: Callable[[Progress], None],
        patience: Patience,
        explain: Explain,
        listens_at: str = "",
    ) -> None:
        """Begin to follow.

        Args:
            model_id: for errors.
            on_progress: hears how far the weights are.
            patience: how long to wait for what.
            explain: what to say of an end.
            listens_at: where the engine will listen, if it does not tell; empty if it does.
        """
        self._model_id = model_id
        self._explain = explain
        self._listens_at = listens_at
        self._on_progress = on_progress
        self._patience = patience
        self._listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(self, line: str) -> None:
        """Take one line of the worker's standard output."""
        said = parse_line(line)
        if isinstance(said, Progress):
            self._on_progress(said)
        elif said is not None and not self._listening.done() and (address := said.address or self._listens_at):
            self._listening.set_result(address)

    async def wait_ready(self, child: ChildProcess) -> Address:
        """Its address, once it has answered a health check."""
        ended = asyncio.ensure_future(child.wait())
        try:
            await self._hear_address(child, ended)
            address = parse_address(self._listening.result())
            await self._see_alive(child, address, ended)
            return address
        finally:
            ended.cancel()

    async def _see_alive(self, child: ChildProcess, address: Address, ended: "asyncio.Future[Exit]") -> None:
        health = asyncio.ensure_future(_check_health(address))
        first: list[asyncio.Future[None] | asyncio.Future[Exit]] = [health, ended]
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not health.done():
                raise self._explain(ended.result())
            await self._read_health(child, health)
        finally:
            health.cancel()

    async def _hear_address(self, child: ChildProcess, ended: "asyncio.Future[Exit]") -> None:
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[str] | asyncio.Future[Exit]] = [self._listening, ended]
        while not self._listening.done():
            await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self._explain(ended.result())
            if self._listens_at and not self._listening.done() and await _is_ready(parse_address(self._listens_at)):
                self._listening.set_result(self._listens_at)
            if loop.time() - child.last_sign_s > self._patience.silence_s:
                raise self._silent(child.log_tail())

    async def _read_health(self, child: ChildProcess, health: "asyncio.Future[None]") -> None:
        try:
            await health
        except EngineError as error:
            if not child.running or await ended_soon(child):
                end = await child.wait()
                raise self._explain(end) from error
            raise EngineError(
                f"{self._model_id}: the engine says that it is ready but does not answer: {error.message}",
                hint="read the end of its log",
                code="engine_not_alive",
                log_tail=child.log_tail(),
            ) from error

    def _silent(self, log: tuple[str, ...]) -> EngineError:
        return EngineError(
            f"{self._model_id} could not be loaded: no sign of life for {self._patience.silence_s:.0f} s",
            hint="if its disk is that slow, copy the model to a faster one; otherwise read the end of the log",
            code="engine_timeout",
            log_tail=log,
        )


async def launch(
    start: Start,
    command: Command,
    runtime: Path,
    landed: Sequence[Landed] = (),
    overhear: Callable[[str], None] = lambda _: None,
) -> RunningEngine:
    """The engine that ``command`` becomes, once it is ready; if it is not to be, nothing of it is left.

    Args:
        start: follows it.
        command: what is started.
        runtime: its folder.
        landed: filled by ``overhear``.
        overhear: gets each line of its log.
    """
    child = await ChildProcess.spawn(command, start.hear, overhear)
    try:
        return RunningEngine(child, await start.wait_ready(child), runtime, landed)
    except BaseException:
        await asyncio.shield(end(child))
        raise


async def _is_ready(address: Address) -> bool:
    """Whether an engine that does not say when it is ready is so."""
    with contextlib.suppress(EngineError):
        await _check_health(address)
        return True
    return False


async def _check_health(address: Address, timeout_s: Seconds = _HEALTH_TIMEOUT_S) -> None:
    upstream = HttpUpstream()
    try:
        async with asyncio.timeout(timeout_s):
            status, body = await ask(upstream, address, "GET", "/health", b"")
    except TimeoutError as error:
        raise EngineError(f"no answer to GET /health within {timeout_s:g} s", code=_SILENT) from error
    finally:
        await upstream.close()
    if status != 200:
        raise EngineError(f"GET /health gives {status}: {body[:200].decode(errors='replace')}")
