"""A server elsewhere: it is talked to, and nothing else."""

import asyncio
import ssl

from bercail.core.command import CommandSpec
from bercail.core.launch import Address, Exit, Landed
from bercail.core.pulse import Pulse
from bercail.core.units import Bytes, Seconds
from bercail.engines.command.health import OK, look_in


class Elsewhere:
    """Implements ``ports.EngineProcess`` without a process: it runs until it is let go of."""

    def __init__(self, spec: CommandSpec, address: Address, trust: ssl.SSLContext | None) -> None:
        self._spec = spec
        self._address = address
        self._trust = trust
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def address(self) -> Address:
        """Where it answers."""
        return self._address

    @property
    def pid(self) -> int:
        """0: it has no process here."""
        return 0

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """Nothing: it is not ours to end."""
        return ()

    async def pulse(self, timeout_s: Seconds) -> Pulse:
        """Whether its check gives 200, or, where it has none, it answers anything at all."""
        look = await look_in(self._address, self._spec.check_path or "/", timeout_s, self._trust)
        is_well = look.status == OK if self._spec.check_path else look.status is not None
        return Pulse() if is_well else Pulse(words=look.words, silent=look.silent)

    async def wait(self) -> Exit:
        """Returns when it has been let go of, never by itself."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        """Let go of it."""
        if not self._ended.done():
            self._ended.set_result(Exit(code=0, log_tail=()))
        return self._ended.result()

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """Nothing: its log is elsewhere."""
        return ()

    def landed(self) -> tuple[Landed, ...]:
        """Nothing: it does not tell."""
        return ()

    def resident_bytes(self) -> Bytes | None:
        """None: it holds nothing here."""
        return None
