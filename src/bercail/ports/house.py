"""All plugs together."""

from dataclasses import dataclass, field
from typing import Protocol

from bercail.core.configuration import Configuration
from bercail.core.options import Settings
from bercail.ports.engine import Commands, Engine, Workshop
from bercail.ports.host import Door
from bercail.ports.sight import ModelReader, Prober
from bercail.ports.store import Cache, Journal, Keyring, Ledger, Log, Register, Shelf
from bercail.ports.upstream import Upstream


class Clock(Protocol):
    """Time as flows see it."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Every plug, filled: what the flows work with.

    Attributes:
        engines: all that are at hand; the one in the box first.
        configuration: models that the settings file declares, and what belongs to them.
    """

    settings: Settings
    prober: Prober
    reader: ModelReader
    engines: tuple[Engine, ...]
    commands: Commands
    workshop: Workshop
    upstream: Upstream
    door: Door
    cache: Cache
    shelf: Shelf
    journal: Journal
    register: Register
    log: Log
    keyring: Keyring
    ledger: Ledger
    clock: Clock
    configuration: Configuration = field(default_factory=Configuration)

    @property
    def engine(self) -> Engine:
        """The engine in the box: it is asked about templates and accounts, whichever of its kind serves."""
        return self.engines[0]
