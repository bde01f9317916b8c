"""How many tokens a sliding window has seen, and when there is room in it again."""

from dataclasses import dataclass, replace
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
    """

    span_s: Seconds
    slots: tuple[tuple[int, Tokens], ...] = ()

    @property
    def slot_s(self) -> Seconds:
        """Length of a slot."""
        return self.span_s / SLOTS

    def spent(self, now_s: Seconds) -> Tokens:
        """Tokens that count at ``now_s``."""
        return sum(tokens for slot, tokens in self.slots if self._over_s(slot) > now_s)

    def charged(self, tokens: Tokens, now_s: Seconds) -> "Window":
        """The window after a charge of ``tokens`` at ``now_s``, a moment not before the last charge."""
        slot = int(now_s // self.slot_s)
        kept = tuple(one for one in self.slots if self._over_s(one[0]) > now_s)
        if kept and kept[-1][0] == slot:
            tokens += kept[-1][1]
            kept = kept[:-1]
        return replace(self, slots=(*kept, (slot, tokens)))

    def wait_s(self, limit: Tokens, now_s: Seconds) -> int:
        """Whole seconds until fewer than ``limit`` tokens count, if none is charged meanwhile; 0 if so now.

        ``limit`` is 1 or more.
        """
        left = self.spent(now_s)
        wait = 0
        for slot, tokens in self.slots:
            if left < limit:
                break
            if self._over_s(slot) > now_s:
                left -= tokens
                wait = max(1, ceil(self._over_s(slot) - now_s))
        return wait

    def _over_s(self, slot: int) -> Seconds:
        """When a slot stops to count."""
        return (slot + 1) * self.slot_s + self.span_s
