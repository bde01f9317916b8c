"""Asking a server whether it is well."""

import asyncio
import ssl

from bercail.core.errors import EngineError
from bercail.core.launch import Address
from bercail.core.units import Seconds
from bercail.engines.command.diagnosis import Look
from bercail.engines.upstream import HttpUpstream

OK = 200
PROBE_S: Seconds = 2.0
_FIRST_PAUSE_S: Seconds = 0.1
_LONGEST_PAUSE_S: Seconds = 0.5
_GROWTH = 1.25


async def look_in(address: Address, path: str, timeout_s: Seconds, trust: ssl.SSLContext | None) -> Look:
    """What ``GET path`` gives within ``timeout_s``."""
    upstream = HttpUpstream(trust)
    try:
        async with asyncio.timeout(timeout_s):
            response = await upstream.send(address, "GET", path, [(b"accept", b"*/*")], b"")
        response.abort()
    except TimeoutError:
        return Look(status=None, words=f"no answer to GET {path} within {timeout_s:g} s", silent=True)
    except EngineError as error:
        return Look(status=None, words=error.message)
    finally:
        await upstream.close()
    return Look(status=response.status, words=f"GET {path} gives {response.status}")


class Knocking:
    """Asks a server again and again.

    Attributes:
        last: what came of it last; None before the first answer.
    """

    def __init__(self, address: Address, path: str, trust: ssl.SSLContext | None) -> None:
        self._address = address
        self._path = path
        self._trust = trust
        self.last: Look | None = None

    async def until_ready(self) -> None:
        """Returns once it gives 200."""
        pause_s = _FIRST_PAUSE_S
        while self.last is None or self.last.status != OK:
            self.last = await look_in(self._address, self._path, PROBE_S, self._trust)
            if self.last.status != OK:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * _GROWTH, _LONGEST_PAUSE_S)
