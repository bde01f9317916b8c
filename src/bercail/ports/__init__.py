"""The shape of every plug. Adapters implement these; flows and doors know nothing else of the world."""

from bercail.ports.engine import Commands, Engine, EngineProcess, Workshop
from bercail.ports.host import Door, Host, Lease, Watch
from bercail.ports.house import Clock, House
from bercail.ports.sight import ModelReader, Prober, Sampler
from bercail.ports.store import Archive, Cache, Configurations, Journal, Keyring, Ledger, Log, Register, Shelf
from bercail.ports.upstream import Tunnel, Upstream, UpstreamResponse

__all__ = [
    "Archive",
    "Cache",
    "Clock",
    "Commands",
    "Configurations",
    "Door",
    "Engine",
    "EngineProcess",
    "Host",
    "House",
    "Journal",
    "Keyring",
    "Lease",
    "Ledger",
    "Log",
    "ModelReader",
    "Prober",
    "Register",
    "Sampler",
    "Shelf",
    "Tunnel",
    "Upstream",
    "UpstreamResponse",
    "Watch",
    "Workshop",
]
