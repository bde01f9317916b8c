"""Which of the servers that this user runs here a command means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bercail.core.errors import UsageError
from bercail.core.server import Server
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What the user said of the server.

    Attributes:
        placed: its host or port; the settings have both then.
        config: whole path of the configuration that it serves; empty if none was named.
    """

    placed: bool = False
    config: str = ""


ANY = Sought()


def meant(house: House, sought: Sought) -> tuple[House, ...]:
    """Every server that may be meant, each as a house whose settings lead to it; one at least.

    Without a host and a port, these are the servers that run; where none does, it is the place that the settings name.
    """
    servers = () if sought.placed else house.register.servers()
    if sought.config:
        servers = tuple(server for server in servers if server.config == sought.config)
    return tuple(_at(house, server) for server in servers) or (house,)


def the_one(house: House, sought: Sought) -> House:
    """The only server that may be meant.

    Raises:
        UsageError: there are several; lists them.
    """
    houses = meant(house, sought)
    if len(houses) == 1:
        return houses[0]
    raise several(house.register.servers())


def record_of(house: House, sought: Sought) -> str:
    """The whole path of the record that the meant server keeps; empty where none runs, or it keeps none.

    Raises:
        UsageError: several keep records of their own, or none runs at the place that was named.
    """
    port = house.settings.server.port
    servers = [
        server
        for server in house.register.servers()
        if (not sought.config or server.config == sought.config) and (not sought.placed or server.address.port == port)
    ]
    if sought.placed and not servers:
        hint = "`bercail ps` shows those that do; without a place, the record that the settings name is read"
        raise UsageError(f"no server of this user runs here at port {port}", hint=hint, code="no_server")
    if len(records := {server.record for server in servers}) > 1:
        raise several(servers)
    return next(iter(records), "")


def several(servers: Sequence[Server]) -> UsageError:
    """The error for a command that means one of several servers."""
    listed = ", ".join(map(str, servers))
    hint = "name one: --port, with --host where it needs that, or --config with its file"
    return UsageError(f"{len(servers)} servers run here: {listed}", hint=hint, code="several_servers")


def _at(house: House, server: Server) -> House:
    place = server.address
    options = replace(house.settings.server, host=place.host, port=place.port)
    return replace(house, settings=replace(house.settings, server=options))
