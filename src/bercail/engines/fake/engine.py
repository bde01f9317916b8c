"""The fake engine behind the same port as real ones."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bercail.core.budget import Part
from bercail.core.engine import EngineSettings, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.pulse import Pulse
from bercail.core.units import Bytes
from bercail.engines.fake.answers import Behaviour
from bercail.engines.fake.server import FakeServer


class FakeProcess:
    """Implements ``ports.EngineProcess`` without a process: it lives in our own."""

    def __init__(self, server: FakeServer, address: Address, runtime: Path) -> None:
        self.server = server
        self._address = address
        self._runtime = runtime
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._address

    @property
    def pid(self) -> int:
        """Our own process id: there is no other."""
        return os.getpid()

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """Nothing: with its process all of it ends."""
        return ()

    async def pulse(self, timeout_s: float) -> Pulse:
        """It is well until it ends."""
        return Pulse(words="it has ended") if self._ended.done() else Pulse()

    async def wait(self) -> Exit:
        """How it ended."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        """Stop serving."""
        await self._end(0)
        return await self.wait()

    async def crash(self) -> None:
        """End as if killed."""
        await self._end(-signal.SIGKILL)

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """A line, so that there is something to show."""
        return (f"fake engine for {self.server.model_id}",)[:lines]

    def landed(self) -> tuple[Landed, ...]:
        """Nothing: it allocates nothing."""
        return ()

    def resident_bytes(self) -> Bytes | None:
        """None: its memory is ours."""
        return None

    async def _end(self, code: int) -> None:
        if self._ended.done():
            return
        await self.server.close()
        shutil.rmtree(self._runtime, ignore_errors=True)
        if not self._ended.done():  # somebody else may have ended it meanwhile
            self._ended.set_result(Exit(code=code, log_tail=self.log_tail()))


class FakeEngine:
    """Implements ``ports.Engine``: every file that begins like a GGUF file is a model to it."""

    name = "fake"
    build = "1"
    offer = Offer(name="fake", id="fake", make=Make.FOUND)

    def __init__(
        self, *, behaviour: Behaviour | None = None, load_s: float = 0.0, runtime_dir: Path | None = None
    ) -> None:
        """Make the engine.

        Args:
            behaviour: of the engines it starts.
            load_s: how long loading takes.
            runtime_dir: where sockets go; None is the system's place for temporary files.
        """
        self._behaviour = behaviour
        self._load_s = load_s
        self._runtime_dir = runtime_dir
        self.started: list[FakeProcess] = []

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> FakeProcess:
        """An engine that serves in the running loop.

        Raises:
            EngineError: the file is not there or does not begin like a GGUF file.
        """
        _check_file(spec)
        for fraction in (0.0, 0.5, 1.0):
            on_progress(Progress(stage="weights", fraction=fraction))
            await asyncio.sleep(self._load_s / 3)
        server = FakeServer(
            model_id=spec.model_id, behaviour=self._behaviour, context_tokens=spec.settings.slot_context_tokens
        )
        runtime = Path(tempfile.mkdtemp(prefix="bercail-fake-", dir=self._runtime_dir))
        unix = hasattr(asyncio.get_running_loop(), "create_unix_server") and sys.platform != "win32"
        address = await server.listen(Address(unix_path=str(runtime / "fake.sock")) if unix else Address())
        process = FakeProcess(server, address, runtime)
        self.started.append(process)
        return process

    async def look(self) -> Offer:
        """Its offer: it sees no GPU."""
        return self.offer

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """Nothing: it allocates nothing."""
        return ()

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Usable unless the text says ``raise_exception``; tools if it says ``tools``."""
        if "raise_exception" in template:
            return TemplateVerdict(usable=False, why="the template raises")
        return TemplateVerdict(usable=True, tools="tools" in template)


def why_no_model(path: str) -> str:
    """What is wrong with a file; empty if it begins like a GGUF file."""
    try:
        with Path(path).open("rb") as file:
            return "" if file.read(4) == b"GGUF" else "the fake engine cannot read it as GGUF"
    except OSError as error:
        return error.strerror or str(error)


def _check_file(spec: LaunchSpec) -> None:
    if problem := why_no_model(spec.model_path):
        raise EngineError(
            f"{spec.model_id} could not be loaded: {problem}",
            hint="give it a GGUF file",
            code="unloadable_model",
            log_tail=(f"fake engine: {problem}",),
        )
