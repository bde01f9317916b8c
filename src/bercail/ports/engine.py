"""What starts engines, and an engine that runs; what builds them."""

from collections.abc import Callable
from typing import Protocol

from bercail.core.budget import Part
from bercail.core.build import Build, Recipe
from bercail.core.command import CommandSpec
from bercail.core.engine import EngineSettings, Offer
from bercail.core.launch import Address, Exit, Landed, LaunchSpec, Progress, TemplateVerdict
from bercail.core.pulse import Pulse
from bercail.core.units import Seconds


class EngineProcess(Protocol):
    """A running, ready engine."""

    @property
    def address(self) -> Address:
        """Where it listens."""
        ...

    @property
    def pid(self) -> int:
        """Its process id; 0 for a server elsewhere."""
        ...

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """A command that ends what its process alone does not (``docker stop NAME``); empty if there is none."""
        ...

    async def pulse(self, timeout_s: Seconds) -> Pulse:
        """Whether it is well, asked anew; it may take ``timeout_s`` to answer."""
        ...

    async def wait(self) -> Exit:
        """How it ended; returns when it has."""
        ...

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to stop; after ``grace_s`` kill its whole process group."""
        ...

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines of its log, oldest first."""
        ...

    def landed(self) -> tuple[Landed, ...]:
        """The buffers it made while it loaded, as it told of them; empty if it does not tell."""
        ...

    def resident_bytes(self) -> int | None:
        """Memory it holds (proportional set size where the system tells, else resident set), or None."""
        ...


class Engine(Protocol):
    """One kind of engine."""

    @property
    def name(self) -> str:
        """``llama.cpp`` ..."""
        ...

    @property
    def build(self) -> str:
        """Its build, such as ``b11549``: what it has taught is kept under this name."""
        ...

    @property
    def offer(self) -> Offer:
        """The engine as people name it, and what it is good for."""
        ...

    async def look(self) -> Offer:
        """Its offer with the GPUs that it sees right now; where it sees none or cannot be asked, with the reason."""
        ...

    async def try_template(self, template: str, timeout_s: float) -> TemplateVerdict:
        """Render sample conversations with the engine's own renderer, in a child that cannot hurt us."""
        ...

    async def account(
        self, model_path: str, settings: EngineSettings, draft_path: str | None = None
    ) -> tuple[Part, ...]:
        """What the engine itself says it would allocate beside the weights; nothing is loaded. Empty if it never can.

        What the model at ``draft_path`` would take to guess ahead is counted as well.

        Raises:
            EngineError: it refuses the model or the settings.
        """
        ...

    async def start(self, spec: LaunchSpec, on_progress: Callable[[Progress], None]) -> EngineProcess:
        """A process that answered a health check (alive is not ready).

        Must be awaited from the main thread's event loop: on Linux the death signal follows the spawning thread.
        Cancelling kills the child.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        ...


class Commands(Protocol):
    """Starts programs that end in an HTTP server, and reaches servers elsewhere."""

    def check(self, spec: CommandSpec) -> None:
        """See that it could be started, as far as that can be seen without starting it.

        Raises:
            EngineError: it could not: there is no such program, or it is given what no program can be given.
        """
        ...

    async def start(self, spec: CommandSpec, on_progress: Callable[[Progress], None]) -> EngineProcess:
        """A program that is ready, or a server elsewhere, of which only the address is checked.

        Raises:
            EngineError: it did not become ready; carries the last lines of its log.
        """
        ...


class Workshop(Protocol):
    """Makes engines from source, and keeps them."""

    def builds(self) -> tuple[Build, ...]:
        """What was made, the newest first."""
        ...

    async def build(self, recipe: Recipe, *, jobs: int, source: str | None, tell: Callable[[Progress], None]) -> Build:
        """Make what ``recipe`` says with ``jobs`` compilers at once, or find that it is there.

        ``source`` is the archive of the source, if it is not to be fetched.

        Raises:
            RefusedError: something that it takes is missing, or the archive is not what it should be.
            EngineError: it failed, with the first error.
        """
        ...

    async def verify(self, build: Build) -> tuple[str, ...]:
        """What is wrong with a build; empty if it is sound."""
        ...

    def remove(self, build: Build) -> None:
        """Delete a build.

        Raises:
            EngineError: it cannot be deleted.
        """
        ...
