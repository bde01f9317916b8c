"""How long a stream may be silent, and the one timer that all streams share."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from bercail.core.units import Seconds

_EARLY_S: Seconds = 0.001
"""Loops count time in such steps: what is due within one is due."""


class Due(Protocol):
    """Somebody who is called when his time has come."""

    def ring(self) -> None:
        """It has come."""
        ...


class Alarms:
    """Who is due when. Nearly all are called off before, so one timer of the loop is kept for the first of them.

    A timer each would be set and cancelled with every request, which costs more than anything else that is set here.
    """

    def __init__(self) -> None:
        self._due_s: dict[Due, Seconds] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s: Seconds = 0.0

    def set(self, due: Due, at_s: Seconds) -> None:
        """Ring then, on the loop's clock, and not when it was to be before."""
        self._due_s[due] = at_s
        if self._timer is None or at_s < self._timer_s:
            self._arm(at_s)

    def stop(self, due: Due) -> None:
        """Do not ring; harmless if that was not to be."""
        self._due_s.pop(due, None)

    def _arm(self, at_s: Seconds) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = asyncio.get_running_loop().call_at(at_s, self._ring), at_s

    def _ring(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time() + _EARLY_S
        for due in [due for due, at_s in self._due_s.items() if at_s <= now_s]:
            if self._due_s.pop(due, None) is not None:  # another may have called it off
                due.ring()
        if self._due_s:
            self._arm(min(self._due_s.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How much of it there may be.

    Attributes:
        hold_s: the headers of a stream wait so long for its first byte.
        keep_alive_s: the longest after that.
        alarms: that tell when it has lasted.
    """

    hold_s: Seconds
    keep_alive_s: Seconds
    alarms: Alarms = field(default_factory=Alarms)
