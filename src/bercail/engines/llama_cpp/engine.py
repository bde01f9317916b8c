"""The embedded llama.cpp: its processes, and what they are asked before they count as ready."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bercail.core.budget import Part
from bercail.core.engine import EngineSettings, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.units import Bytes
from bercail.engines.llama_cpp import output, worker
from bercail.engines.llama_cpp.account import account
from bercail.engines.llama_cpp.child import (
    ask,
    check_library,
    end,
    ended_soon,
    make_runtime,
    missing,
    parse_address,
    remove,
)  # fmt: skip
from bercail.engines.llama_cpp.hosts import Embedded, Host
from bercail.engines.llama_cpp.trial import try_template
from bercail.engines.process import ChildProcess
from bercail.engines.upstream import HttpUpstream

_HEALTH_TIMEOUT_S = 10.0
_LOOK_S = 0.5
_ACCOUNT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for.

    Attributes:
        silence_s: an engine that starts and gives no sign of life for so long has failed. While it reads weights it
            gives one every 0.2 s; rearranging large weights and the empty run after that are silent.
    """

    silence_s: float = 300.0


class LlamaProcess:
    """A running, ready llama.cpp; implements ``ports.EngineProcess``."""

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


class LlamaCpp:
    """The engine; implements ``ports.Engine``."""

    def __init__(
        self,
        host: Host | None = None,
        *,
        runtime_dir: Path | None = None,
        log_dir: Path | None = None,
        patience: Patience = Patience(),
    ) -> None:
        """Make the engine; nothing is started.

        Args:
            host: starts its processes; None is our worker with the library in the box.
            runtime_dir: where each engine gets a private folder for its socket; None is the system's place for such.
            log_dir: where each model's log is kept as well, bounded; None keeps only its end, in memory.
            patience: how long to wait for what.
        """
        self._host = host or Embedded()
        self._runtime_dir = runtime_dir
        self._log_dir = log_dir
        self._patience = patience

    @property
    def offer(self) -> Offer:
        """The engine as people name it."""
        return self._host.offer

    @property
    def name(self) -> str:
        """``llama.cpp``."""
        return self._host.offer.name

    @property
    def build(self) -> str:
        """Its build: what it has taught is kept under this name."""
        return self._host.build

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> LlamaProcess:
        """A process that answered a health check.

        Must be awaited from the main thread's event loop; see ``ChildProcess.spawn``. Cancelling kills the child.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        self._host.check()
        runtime = make_runtime(self._runtime_dir)
        try:
            command, listens_at = await self._host.command(spec, runtime, self._log_path(spec))
            start = _Start(spec.model_id, on_progress, self._patience, listens_at)
            child = await ChildProcess.spawn(command, start.hear, start.overhear)
            try:
                address = await start.wait_ready(child)
                return LlamaProcess(child, address, runtime, start.landed)
            except BaseException:
                await asyncio.shield(end(child))
                raise
        except BaseException:
            remove(runtime)
            raise

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Render sample conversations with the engine's own renderer, in a child that is killed after ``timeout_s``.

        Raises:
            EngineError: the engine is not installed, or no child can be started at all.
        """
        check_library()
        runtime = make_runtime(self._runtime_dir)
        try:
            return await try_template(template, timeout_s, runtime)
        finally:
            remove(runtime)

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """What it would allocate for the model beside its weights, asked of the library itself on the header alone.

        Raises:
            EngineError: it is not installed, refuses the model or the settings, or does not answer in time.
        """
        check_library()
        return await account(model_path, settings, _ACCOUNT_S, draft_path)

    def _log_path(self, spec: LaunchSpec) -> Path | None:
        if self._log_dir is None:
            return None
        with contextlib.suppress(OSError):  # then there is no log on disk; what it ends with is kept in memory anyway
            self._log_dir.mkdir(parents=True, exist_ok=True)
        plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in spec.model_id)
        return self._log_dir / f"{plain[:100]}.log"


class _Start:
    """Follows one start from the first line to readiness."""

    def __init__(
        self, model_id: str, on_progress: Callable[[Progress], None], patience: Patience, listens_at: str
    ) -> None:
        """Begin to follow.

        Args:
            model_id: for errors.
            on_progress: hears how far the weights are.
            patience: how long to wait for what.
            listens_at: where the engine will listen, if it does not tell; empty if it does.
        """
        self._model_id = model_id
        self._listens_at = listens_at
        self._on_progress = on_progress
        self._patience = patience
        self._listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.landed: list[Landed] = []

    def overhear(self, line: str) -> None:
        """Take one line of the worker's log."""
        if landed := output.parse_landing(line):
            self.landed.append(landed)

    def hear(self, line: str) -> None:
        """Take one line of the worker's standard output."""
        said = output.parse_line(line)
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
                raise self._failure(ended.result().log_tail, ended.result().code)
            await self._read_health(child, health)
        finally:
            health.cancel()

    async def _hear_address(self, child: ChildProcess, ended: "asyncio.Future[Exit]") -> None:
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[str] | asyncio.Future[Exit]] = [self._listening, ended]
        while not self._listening.done():
            await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self._failure(ended.result().log_tail, ended.result().code)
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
                raise self._failure(end.log_tail, end.code) from error
            raise EngineError(
                f"{self._model_id}: the engine says that it is ready but does not answer: {error.message}",
                hint="read the end of its log",
                code="engine_not_alive",
                log_tail=child.log_tail(),
            ) from error

    def _failure(self, log: tuple[str, ...], code: int) -> EngineError:
        if code == worker.MISSING_LIBRARY:
            return missing(self._model_id, log)
        found = output.diagnose(log, code)
        return EngineError(
            f"{self._model_id} could not be loaded: {found.sentence}", hint=found.hint, code=found.code, log_tail=log
        )

    def _silent(self, log: tuple[str, ...]) -> EngineError:
        return EngineError(
            f"{self._model_id} could not be loaded: no sign of life for {self._patience.silence_s:.0f} s",
            hint="if its disk is that slow, copy the model to a faster one; otherwise read the end of the log",
            code="engine_timeout",
            log_tail=log,
        )


async def _is_ready(address: Address) -> bool:
    """Whether an engine that does not say when it is ready is so."""
    with contextlib.suppress(EngineError):
        await _check_health(address)
        return True
    return False


async def _check_health(address: Address) -> None:
    upstream = HttpUpstream()
    try:
        async with asyncio.timeout(_HEALTH_TIMEOUT_S):
            status, body = await ask(upstream, address, "GET", "/health", b"")
    except TimeoutError as error:
        raise EngineError(f"no answer to GET /health within {_HEALTH_TIMEOUT_S:.0f} s") from error
    finally:
        await upstream.close()
    if status != 200:
        raise EngineError(f"GET /health gives {status}: {body[:200].decode(errors='replace')}")
