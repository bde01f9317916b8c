"""The door: a socket of our own, an HTTP server in the loop that is already running, and an orderly end."""

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence

from bercail.core.chat import error_from
from bercail.core.configuration import ASSETS
from bercail.core.errors import ListenError, StoppingError
from bercail.core.options import ServerOptions
from bercail.core.origin import at_home
from bercail.core.sample import KEPT_S
from bercail.core.units import Seconds
from bercail.ports import Archive, Host, Keyring, Ledger, Log, Upstream
from bercail.web.app import App
from bercail.web.connection import Lobby
from bercail.web.errors import STOPPING_RETRY_S
from bercail.web.gate import Gate
from bercail.web.performance import Performance

BACKLOG = 1024
CUT_WAIT_S: Seconds = 2.0


class Gateway:
    """Lets HTTP clients in (``ports.Door``)."""

    def __init__(
        self,
        options: ServerOptions,
        upstream: Upstream,
        *,
        keyring: Keyring | None = None,
        ledger: Ledger | None = None,
        log: Log | None = None,
        archive: Archive | None = None,
        clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        self._options = options
        self._gate = Gate(keyring, ledger, require=options.require_key, clock=clock)
        self._upstream = upstream
        self._log = log
        self._archive = archive
        self._performance = Performance(None, KEPT_S)
        self._watching: asyncio.Task[None] | None = None
        self._clock = clock
        self._assets: tuple[str, ...] = (ASSETS,)
        self._lobby: Lobby | None = None
        self._app: App | None = None
        self._server: asyncio.Server | None = None

    def take_keys(self, keys: Sequence[str]) -> None:
        """From now on let in whoever shows one of these keys, which a configuration holds, beside the keyring's."""
        self._gate.take_keys(keys)

    def take_sessions(self, headers: Sequence[str]) -> None:
        """From now on keep, with each request, what the first of these headers that it carries holds."""
        self._gate.take_sessions(headers)

    def take_performance(self, performance: Performance) -> None:
        """Sample the machine while it is open."""
        self._performance = performance

    def take_assets(self, expressions: Sequence[str]) -> None:
        """From now on load no model for paths of an engine that match one of these."""
        self._assets = tuple(expressions)
        if self._app is not None:
            self._app.take_assets(self._assets)

    def check(self) -> None:
        """See that the address can be used, without listening.

        Raises:
            ListenError: it is taken, not ours, or not allowed.
        """
        bind(self._options.host, self._options.port).close()

    async def open(self, host: Host) -> str:
        """Listen; the URL to reach it on this machine.

        Raises:
            ListenError: the address is taken, not ours, or not allowed.
            SettingsError: an origin or a name of a host is none.
            StoreError: texts are to be kept as files, and cannot be.
        """
        if self._archive is not None:
            await asyncio.to_thread(self._archive.open)
        await asyncio.to_thread(self._gate.remember)
        app = App(host, self._upstream, self._options, self._clock, self._gate, self._archive)
        app.take_performance(self._performance)
        app.take_log(self._log)
        app.take_assets(self._assets)
        listener = bind(self._options.host, self._options.port)
        if ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            app.guests = at_home(app.guests, (self._options.host, socket.gethostname()))
        loop = asyncio.get_running_loop()
        self._lobby = Lobby(app, self._options, loop)
        self._server = await loop.create_server(self._lobby.let_in, sock=listener, backlog=BACKLOG)
        self._app = app
        self._watching = asyncio.create_task(self._performance.watch())
        return _url(listener)

    async def close(self, drain_s: float) -> int:
        """Refuse new requests, let running ones finish for ``drain_s``, cut the rest; how many were cut.

        May be called again while it runs, with less patience.
        """
        app, server, lobby = self._app, self._server, self._lobby
        if app is None or server is None or lobby is None:
            return 0
        app.stopping = True
        await _finish(app, drain_s)
        why = error_from(StoppingError("the server is stopping"), 503, retry_after_s=STOPPING_RETRY_S)
        cut = sum(turn.stop(why) for turn in list(app.turns))
        await _finish(app, CUT_WAIT_S)
        server.close()
        lobby.close()
        self._server = None
        if self._watching is not None:
            self._watching.cancel()
        if self._archive is not None:
            await asyncio.to_thread(self._archive.close)
        return cut


async def _finish(app: App, timeout_s: Seconds) -> None:
    tasks = [turn.task for turn in app.turns]
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)


def bind(host: str, port: int) -> socket.socket:
    """A listening address of ours, not yet listening.

    Raises:
        ListenError: with what to do about it.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        hint = "name an address of this machine with --host, such as 127.0.0.1 or 0.0.0.0"
        raise ListenError(f"{host!r} is neither an address nor a name that this machine knows", hint=hint) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # A second program on the same port is noticed here, not when the first client comes.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _listen_error(error, place) from error
    listener.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listener


def _listen_error(error: OSError, place: str) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            running = "maybe Bercail runs there already: bercail ps, bercail chat"
            hint = f"choose another port with --port, or --port 0 for a free one; {running}"
            return ListenError(f"{place} is already in use", hint=hint, code="port_in_use")
        case errno.EACCES | errno.EPERM:
            hint = "ports below 1024 need a privilege; choose another with --port, such as 8123"
            return ListenError(f"no permission to listen on {place}", hint=hint)
        case errno.EADDRNOTAVAIL:
            hint = "name an address of this machine with --host, such as 127.0.0.1 or 0.0.0.0"
            return ListenError(f"{place} is not an address of this machine", hint=hint)
        case _:
            return ListenError(f"cannot listen on {place}: {error.strerror}", hint="see --host and --port")


def _url(listener: socket.socket) -> str:
    """Where a program on this machine reaches the socket, also one that listens on every address."""
    name, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(name)
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
