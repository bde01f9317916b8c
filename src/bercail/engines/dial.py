"""Connections towards engines and servers elsewhere: sockets, names, TLS, and why there is none."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from bercail.core.declared import Timeouts
from bercail.core.errors import EngineError
from bercail.core.launch import Address, Site
from bercail.core.units import Seconds

CONNECT_TIMEOUT_S: Seconds = 5.0
SITE_TIMEOUT_S: Seconds = 15.0
"""For a server elsewhere: its name, and its addresses one after the other."""
MOST_KEEPALIVE_S = 32_767
"""The most that Linux takes."""
_BUSY_PAUSE_S = 0.002

P = TypeVar("P", bound=asyncio.Protocol)


async def dial(address: Address, make: Callable[[], P], trust: ssl.SSLContext | None) -> P:
    """A connection with the protocol that ``make`` gives.

    Args:
        address: to whom.
        make: gives the protocol.
        trust: whose certificates are believed; None is those that the system believes.

    Raises:
        EngineError: there is none; says why.
    """
    limits = address.timeouts or _usual(address)
    try:
        async with asyncio.timeout(limits.connect_s):
            plug = await (
                _plug(address) if address.site is None or _is_number(address.host) else _reach(address, limits)
            )
        try:
            _keep_alive(plug, limits.keepalive_s)
            async with asyncio.timeout(limits.tls_handshake_s):
                return await _speak(plug, address, make, trust)
        except BaseException:
            plug.close()
            raise
    except OSError as error:
        raise _unreachable(address, error) from error


def _usual(address: Address) -> Timeouts:
    connect_s = CONNECT_TIMEOUT_S if address.site is None else SITE_TIMEOUT_S
    return Timeouts(connect_s=connect_s, keepalive_s=None)


def _keep_alive(plug: socket.socket, every_s: Seconds | None) -> None:
    """Have the system probe a silent connection, so that a server that vanished is noticed."""
    if every_s is None or plug.family is socket.AF_UNIX:
        return
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # not every system has all of them
        if hasattr(socket, name):
            plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, min(int(every_s), MOST_KEEPALIVE_S)))


async def _speak(plug: socket.socket, address: Address, make: Callable[[], P], trust: ssl.SSLContext | None) -> P:
    loop = asyncio.get_running_loop()
    if address.site is None or not address.site.tls:
        _, protocol = await loop.create_connection(make, sock=plug)
    else:
        context = trust or _system_trust()
        _, protocol = await loop.create_connection(make, sock=plug, ssl=context, server_hostname=address.host)
    return protocol


def _system_trust() -> ssl.SSLContext:
    return _read_trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=1)  # reading the system's certificates takes some 20 ms
def _read_trust(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """What the system believes; OpenSSL itself looks at the two variables."""
    return ssl.create_default_context()


async def _plug(address: Address) -> socket.socket:
    """A connected socket that does not block."""
    family = socket.AF_UNIX if address.unix_path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    plug = socket.socket(family, socket.SOCK_STREAM)
    plug.settimeout(0)
    try:
        if address.unix_path is None:
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(plug, (address.host, address.port))
            return plug
        while True:
            # EAGAIN here means a full backlog, not "in progress" (unix(7)); asyncio takes it for the latter.
            try:
                plug.connect(address.unix_path)
            except BlockingIOError:
                await asyncio.sleep(_BUSY_PAUSE_S)
            else:
                return plug
    except BaseException:
        plug.close()
        raise


def _is_number(host: str) -> bool:
    """Whether it is an address already: to look one up takes a thread."""
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        return True
    return False


async def _reach(address: Address, limits: Timeouts) -> socket.socket:
    """A socket connected to the first of a name's addresses that answers; each gets its share of the time."""
    loop = asyncio.get_running_loop()
    failure = OSError("its name has no address")
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    share_s = None if limits.connect_s is None else limits.connect_s / max(1, len(found))
    for family, kind, protocol, _, where in found:
        plug = socket.socket(family, kind, protocol)
        plug.settimeout(0)
        try:
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(share_s):
                await loop.sock_connect(plug, where)
        except OSError as error:  # a time-out is one
            plug.close()
            failure = error
        except BaseException:
            plug.close()
            raise
        else:
            return plug
    raise failure


def _unreachable(address: Address, error: OSError) -> EngineError:
    if address.site is None:
        return EngineError(
            f"the engine at {address} does not answer: {_why(error)}",
            hint="it is not running, or still starting",
            code="engine_unreachable",
        )
    return _untrusted(address.site, error) or EngineError(
        f"{address.site} does not answer: {_why(error)}",
        hint="it is not running, or still starting" if address.site.ours else "check the URL, and that it runs",
        code="engine_unreachable",
    )


def _untrusted(site: Site, error: OSError) -> EngineError | None:
    """What TLS has against a server; None if it has nothing to do with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return EngineError(
            f"{site} does not prove that it is the one: {error.verify_message.rstrip('.')}",
            hint="correct the URL; or name the file of the authority that signed its certificate in SSL_CERT_FILE",
            code="certificate",
        )
    if isinstance(error, ssl.SSLError):
        plain = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
        return EngineError(
            f"no TLS with {site}: {(error.reason or str(error)).lower().replace('_', ' ')}",
            hint="it speaks plain HTTP: write http:// in its URL" if plain else "check the URL, and its TLS settings",
            code="tls",
        )
    return None


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no connection in time"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved: {error.strerror}"
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
