"""Samples of the machine, taken while the server runs and told as llama-swap tells them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from msgspec import json

from bercail.core import access
from bercail.core.chat import ApiError
from bercail.core.errors import UsageError
from bercail.core.sample import KEPT_S, Sample, moment, performance_document
from bercail.core.units import Seconds
from bercail.ports import Sampler
from bercail.web.asgi import JSON, Scope
from bercail.web.desk import Answer, Notice
from bercail.web.errors import written

PATH = "/api/performance"


class Performance:
    """The samples of the last hour.

    Args:
        sampler: looks at the machine; None takes no samples.
        every_s: between two of them.
        rest: waits for so long.
    """

    def __init__(
        self,
        sampler: Sampler | None,
        every_s: Seconds,
        rest: Callable[[Seconds], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sampler = sampler
        self._every_s = every_s
        self._rest = rest
        self._kept: deque[Sample] = deque(maxlen=max(1, int(KEPT_S / every_s)))

    async def watch(self) -> None:
        """Take samples; ends only where none are taken."""
        while self._sampler is not None:
            self._kept.append(await asyncio.to_thread(self._sampler.take))
            await self._rest(self._every_s)

    def look_up(self, scope: Scope, path: str) -> Notice | None:
        """What answers a request for them; None if it is for something else."""
        if path != PATH or scope["method"] not in ("GET", "HEAD"):
            return None
        query = scope.get("query_string", b"").decode("latin-1")
        return Notice(tell=lambda _: self._told(query), need=access.Scope.MODELS)

    def _told(self, query: str) -> Answer:
        if self._sampler is None:
            return 503, [JSON], json.encode({"enabled": False})
        asked = parse_qs(query).get("after", [""])[-1]
        try:
            after_s = moment(asked, "after") if asked else 0.0
        except UsageError as error:
            fault = ApiError(status=400, message=f"{error.message}: {error.hint}", param="after", code="bad_moment")
            headers, body = written(fault)
            return 400, headers, body
        return 200, [JSON], json.encode(performance_document(self._kept, after_s))
