"""Who hosts llama.cpp: our worker with the library in the box, or a ``llama-server`` that was built here or found."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from bercail.core.build import Build, Target
from bercail.core.engine import EMBEDDED, Make, Offer
from bercail.core.errors import EngineError
from bercail.core.launch import Address, LaunchSpec
from bercail.core.units import Seconds
from bercail.engines import leashed
from bercail.engines.leash import place_of
from bercail.engines.llama_cpp import flags, server_flags, stand_in
from bercail.engines.llama_cpp.child import check_library, clean_environment, make_command
from bercail.engines.llama_cpp.devices import DEVICE_VERBOSITY, HINTS, parse_devices, silent_devices
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import end, listen_at

PROGRAM = "llama-server"
_CHILD_MODE = {"LLAMA_SERVER_ROUTER_PORT": "1"}
"""Makes it tell of its progress and read its standard input; no port is ever opened for it."""
_FAREWELL = b"cmd_router_to_child:exit\n"


def stand_in_command() -> tuple[str, ...]:
    """What takes the command line of ``llama-server`` where only the wheel is installed."""
    return (sys.executable, "-P", "-m", stand_in.__name__)


class Host(Protocol):
    """Starts the process that serves a model."""

    @property
    def offer(self) -> Offer:
        """The engine as people name it."""
        ...

    @property
    def build(self) -> str:
        """Under which lessons of this engine are kept."""
        ...

    async def look(self) -> Offer:
        """Its offer with the GPUs that it sees right now; where it sees none or cannot be asked, with the reason."""
        ...

    def check(self) -> None:
        """See that it is there.

        Raises:
            EngineError: it is not.
        """
        ...

    async def command(self, spec: LaunchSpec, runtime: Path, log_path: Path | None) -> tuple[Command, str]:
        """The process to be, and where it will listen; empty if it tells that itself.

        Raises:
            EngineError: it cannot do what was planned.
        """
        ...


class Embedded:
    """The library in the box, hosted by our worker."""

    offer = EMBEDDED
    build = flags.BUILD

    async def look(self) -> Offer:
        """Its offer: the wheel in the box has no backend for GPUs."""
        return self.offer

    def check(self) -> None:
        """See that the library is installed.

        Raises:
            EngineError: it is not.
        """
        check_library()

    async def command(self, spec: LaunchSpec, runtime: Path, log_path: Path | None) -> tuple[Command, str]:
        """The worker; it tells where it listens."""
        values = flags.render(spec, listen_at(runtime))
        environment = {**place_of(spec.settings.cores, spec.settings.numa), **spec.environment}
        return make_command(values, environment, log_path=log_path), ""


class Server:
    """A ``llama-server`` program."""

    def __init__(
        self,
        program: Path,
        offer: Offer,
        *,
        environment: Mapping[str, str],
        note: Callable[[str], None] = lambda _: None,
        ask_s: Seconds = 20.0,
    ) -> None:
        """Know of it; nothing is started.

        Args:
            program: its file.
            offer: the engine as people name it.
            environment: that it gets, but for what would change what it does.
            note: hears what of a plan it has to go without.
            ask_s: how long it may take to say what it understands.
        """
        self._ask_s = ask_s
        self._program = program
        self._environment = environment
        self._note = note
        self._dialect: server_flags.Dialect | None = None
        self.offer = offer
        self.build = offer.id

    @classmethod
    def built(cls, build: Build, environment: Mapping[str, str], *, ask_s: Seconds = 20.0) -> "Server":
        """The server of a build made here."""
        make = Make.PORTABLE if build.recipe.portable else Make.NATIVE
        recipe = build.recipe
        offer = Offer(name="llama.cpp", id=build.id, make=make, target=recipe.target, processor=recipe.processor)
        return cls(Path(build.folder) / PROGRAM, offer, environment=environment, ask_s=ask_s)

    @classmethod
    def found(
        cls, program: Path, environment: Mapping[str, str], note: Callable[[str], None], *, ask_s: Seconds = 20.0
    ) -> "Server":
        """A server that somebody else made."""
        offer = Offer(name="llama.cpp", id=str(program), make=Make.FOUND)
        return cls(program, offer, environment=environment, note=note, ask_s=ask_s)

    async def look(self) -> Offer:
        """Its offer with the GPUs that it lists; where it lists none although it was made for some, with the reason."""
        if self.offer.target == Target.CPU and self.offer.make is not Make.FOUND:
            return self.offer
        try:
            status, text = await self._said("-lv", DEVICE_VERBOSITY, "--list-devices")
        except (EngineError, OSError) as error:
            return replace(self.offer, trouble=f"could not be asked for its GPUs: {error}")
        found = parse_devices(text)
        if found is None:
            if self.offer.make is Make.FOUND:  # older ones have no such flag
                return self.offer
            last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
            return replace(self.offer, trouble=f"lists no GPUs: it ended with status {status} and said: {last[:200]}")
        if silent := silent_devices(text):
            return replace(self.offer, gpus=found, trouble=f"is not told how much memory {', '.join(silent)} has")
        needed = not found and self.offer.make is not Make.FOUND
        return replace(self.offer, gpus=found, trouble=f"sees no GPU ({HINTS[self.offer.target]})" if needed else "")

    def check(self) -> None:
        """See that it can be run.

        Raises:
            EngineError: it cannot.
        """
        if not os.access(self._program, os.X_OK) or not self._program.is_file():
            raise EngineError(
                f"{self._program} is no program that can be run",
                hint="`bercail engine verify` says what is wrong with builds; or choose another --engine",
                code="engine_not_installed",
            )

    async def command(self, spec: LaunchSpec, runtime: Path, log_path: Path | None) -> tuple[Command, str]:
        """The server, tied to us.

        Raises:
            EngineError: it lacks what was planned with.
        """
        dialect = await self._understood()
        path = listen_at(runtime)
        socketed = path.endswith(".sock") and (dialect is None or dialect.socket)
        child = dialect is None or dialect.child
        address = Address(unix_path=path) if socketed else Address(port=_free_port())
        arguments = server_flags.render(spec, address)
        if dialect is not None:
            arguments = self._translated(arguments, dialect)
        command = Command(
            argv=(sys.executable, "-P", "-m", leashed.__name__, str(self._program), *arguments),
            environment={
                **self._surroundings(),
                **(_CHILD_MODE if child else {}),
                **place_of(spec.settings.cores, spec.settings.numa),
                **spec.environment,
            },
            farewell=_FAREWELL if child else b"",
            log_path=log_path,
        )
        return command, f"unix://{path}" if socketed else f"http://{address}"

    async def _understood(self) -> server_flags.Dialect | None:
        """What a server that was found understands; None is all of b11549."""
        if self.offer.make is not Make.FOUND:
            return None
        if self._dialect is None:
            self._dialect = server_flags.parse_help((await self._said("--help"))[1])
            if "--model" not in self._dialect.flags:
                raise EngineError(
                    f"{self._program} --help tells of no --model: it is no llama-server",
                    hint="name another with --engine",
                    code="engine_not_installed",
                )
        return self._dialect

    async def _said(self, *arguments: str) -> tuple[int, str]:
        """Its exit status, and all it said."""
        lines: list[str] = []
        command = Command(argv=(str(self._program), *arguments), environment=self._surroundings())
        child = await ChildProcess.spawn(command, lines.append, lines.append)
        try:
            async with asyncio.timeout(self._ask_s):
                status = (await child.wait()).code
        except TimeoutError as error:
            raise EngineError(
                f"{self._program} {arguments[-1]} does not end within {self._ask_s:.0f} s",
                hint="name another with --engine",
                code="engine_not_installed",
            ) from error
        finally:
            await asyncio.shield(end(child))
        return status, "\n".join(lines)

    def _surroundings(self) -> dict[str, str]:
        """What of our environment it gets, when it is asked for its GPUs and when it runs: both see the same."""
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of every other backend
            "ZES_ENABLE_SYSMAN": "1",  # without it SYCL does not know how much memory is free
            **clean_environment(self._environment),
            "SYCL_CACHE_PERSISTENT": "0",
        }

    def _translated(self, arguments: tuple[str, ...], dialect: server_flags.Dialect) -> tuple[str, ...]:
        words = server_flags.translate(arguments, dialect)
        if words.refused:
            raise EngineError(
                f"{self._program} knows no {words.refused}, without which it would not run what was planned",
                hint="take a newer build, or the engine in the box: --engine embedded",
                code="engine_too_old",
            )
        for flag in words.lacking:
            self._note(f"{self._program} is another build and goes without {flag}")
        return words.arguments


def _free_port() -> int:
    """A port on loopback that nobody listens at; if somebody takes it before the server does, that says so."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
        return port
