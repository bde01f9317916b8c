"""A configuration that is read anew: where it comes from, and when its file has changed."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from bercail.core.configuration import Loaded
from bercail.core.units import Seconds
from bercail.ports import Clock

LOOK_S: Seconds = 0.5
"""Between two looks at a file. Whoever swaps it by a rename or a symbolic link is seen as well."""
MOST_LOOKS = 10
"""A file that never rests is read after so many looks all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the configuration that is served comes from.

    Attributes:
        read: reads it anew, with the settings that would be in force.
        look: something that differs once it has changed; None while it is not there.
        seen: that, as it was before the first reading.
        watched: it is read anew whenever it has changed, without being told.
    """

    read: Callable[[], Loaded]
    look: Callable[[], Hashable | None]
    seen: Hashable | None = None
    watched: bool = False


async def watch(source: Source, clock: Clock, changed: Callable[[], None]) -> None:
    """Call ``changed`` once for every burst of changes, when the file has come to rest; never ends.

    A file that is gone stays unread until it is back: editors and Kubernetes put another in its place.
    """
    seen = before = source.seen
    looks = 0
    while True:
        await clock.sleep(LOOK_S)
        found = await asyncio.to_thread(source.look)
        looks = looks + 1 if found not in (None, seen) else 0
        if looks and (found == before or looks >= MOST_LOOKS):
            seen, looks = found, 0
            changed()
        before = found
