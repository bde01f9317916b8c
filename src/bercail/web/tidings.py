"""What a stream says while its model is awaited."""

import time
from collections.abc import Callable

from msgspec import json

from bercail.core.loading import Wait, arrived, thought, words
from bercail.core.route import Phase
from bercail.core.units import Seconds
from bercail.web.turn import Stream

EVERY_S: Seconds = 1.0
BUSY_S: Seconds = 1.0
"""A model that is there and busy may have a slot free at once, which takes no words."""


class Tidings:
    """Tells a client how it stands with its model, from when it has joined the line for it."""

    def __init__(self, stream: Stream, clock: Callable[[], Seconds]) -> None:
        self._stream = stream
        self._clock = clock
        self._begun_s = clock()
        self._said = ""

    def watch(self, ask: Callable[[], Wait]) -> None:
        """The request has joined the line; ``ask`` tells how it stands with it.

        Whoever is refused before hears it with its status: only now are the headers of a stream sent.
        """
        self._ask = ask
        after_s = BUSY_S if ask().phase is Phase.LOADED else 0.0
        self._stream.listen(self._news, after_s=after_s, every_s=EVERY_S)

    def _news(self) -> bytes:
        said = words(self._ask())
        if said == self._said:
            return b""
        self._said = said
        return self._stream.voice(f"{said}\n")

    async def end(self, model: str) -> None:
        """The model is there: the answer follows."""
        self._stream.heard()
        if self._said and (last := self._stream.voice(f"{arrived(model, self._clock() - self._begun_s)}\n\n")):
            await self._stream.write(last)


def as_thought(model: str, text: str) -> bytes:
    """A sentence as a chunk of a chat."""
    return b"data: " + json.encode(thought(text, model, int(time.time()))) + b"\n\n"
