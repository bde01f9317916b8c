"""How many tokens a sliding window has seen, and when there is room in it again."""

from dataclasses import dataclass
from math import ceil

from bercail.core.units import Seconds, Tokens

SLOTS = 60
"""Slots of a window: a minute is kept by the second, a day in steps of 24 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens of the last ``span_s`` seconds, added up in slots of a 60th of it.

    A token counts from its charge until its slot has lain behind for a whole span: at least ``span_s``, at most a 60th
    longer. So no stretch of ``span_s`` seconds ever sees more than the window says.

    Attributes:
        slots: numbers of slots (since zero of the clock) with their tokens, the oldest first; those that no longer
            count may still be there.
        total: tokens of all these slots.
    """

    span_s: Seconds
    slots: tuple[tuple[int, Tokens], ...] = ()
    total: Tokens = 0

    def spent(self, now_s: Seconds) -> Tokens:
        """Tokens that count at ``now_s``."""
        return self.total - self._over(now_s)[1]

    def charged(self, tokens: Tokens, now_s: Seconds) -> "Window":
        """The window after a charge of ``tokens`` at ``now_s``, a moment not before the last charge."""
        over, gone = self._over(now_s)
        slot, kept, total = int(now_s * SLOTS // self.span_s), self.slots, self.total - gone + tokens
        if over:
            kept = kept[over:]
        if kept and kept[-1][0] == slot:
            tokens += kept[-1][1]
            kept = kept[:-1]
        return Window(span_s=self.span_s, slots=(*kept, (slot, tokens)), total=total)

    def wait_s(self, limit: Tokens, now_s: Seconds) -> int:
        """Whole seconds until fewer than ``limit`` tokens count, if none is charged meanwhile; 0 if so now.

        ``limit`` is 1 or more.
        """
        over, gone = self._over(now_s)
        left, wait = self.total - gone, 0
        for slot, tokens in self.slots[over:] if left >= limit else ():
            left -= tokens
            wait = max(1, ceil((slot + SLOTS + 1) * self.span_s / SLOTS - now_s))
            if left < limit:
                break
        return wait

    def _over(self, now_s: Seconds) -> tuple[int, Tokens]:
        """How many of the oldest slots no longer count, and their tokens."""
        first, over, gone = now_s * SLOTS / self.span_s - SLOTS - 1, 0, 0
        for slot, tokens in self.slots:
            if slot > first:
                break
            over, gone = over + 1, gone + tokens
        return over, gone
