"""Fair shares: how much service every key has had, in seconds of a whole model by its weight."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bercail.core.units import Seconds

_Active: TypeAlias = tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one key has had and has under way.

    Attributes:
        had_s: service, by weight, on a scale that all keys share: whoever comes anew begins with the least of those
            who are there.
    """

    had_s: float
    waiting: int = 0
    running: int = 0


MOST_AWAY = 256
"""So many keys without requests are remembered beside those with some; of more, all of them are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The keys and what they have had.

    Attributes:
        active: those with requests, by what they have had.
        floor_s: the least that an active key has had; what it last was while there is none.
    """

    uses: Mapping[str, Use] = field(default_factory=dict)
    active: _Active = ()
    floor_s: float = 0.0

    def had_s(self, key: str) -> float:
        """What a key with requests has had."""
        return self.uses[key].had_s

    def waiting(self, key: str) -> int:
        """How many of its requests wait."""
        use = self.uses.get(key)
        return 0 if use is None else use.waiting

    def arrived(self, key: str, credit_s: Seconds) -> "Shares":
        """One more waits. A key that was away is owed no more than ``credit_s``, a new one nothing."""
        use = self._present(key, credit_s)
        return self._with(key, Use(had_s=use.had_s, waiting=use.waiting + 1, running=use.running))

    def admitted(self, key: str, charge_s: float, credit_s: Seconds) -> "Shares":
        """One more is served at once: ``arrived`` and ``begun`` in one."""
        use = self._present(key, credit_s)
        return self._with(key, Use(had_s=use.had_s + charge_s, waiting=use.waiting, running=use.running + 1))

    def left(self, key: str) -> "Shares":
        """One less waits."""
        use = self.uses[key]
        return self._with(key, Use(had_s=use.had_s, waiting=use.waiting - 1, running=use.running))

    def begun(self, key: str, charge_s: float) -> "Shares":
        """One that waited is served, and charged what it is expected to take."""
        use = self.uses[key]
        return self._with(key, Use(had_s=use.had_s + charge_s, waiting=use.waiting - 1, running=use.running + 1))

    def ended(self, key: str, correction_s: float) -> "Shares":
        """One that was served is done; it took so much more than it was charged."""
        use = self.uses[key]
        return self._with(key, Use(had_s=use.had_s + correction_s, waiting=use.waiting, running=use.running - 1))

    def _present(self, key: str, credit_s: Seconds) -> Use:
        use = self.uses.get(key)
        if use is None:
            return Use(had_s=self.floor_s)
        if use.waiting or use.running or use.had_s >= self.floor_s - credit_s:
            return use
        return Use(had_s=self.floor_s - credit_s)

    def _with(self, key: str, use: Use) -> "Shares":
        before = self.uses.get(key)
        active = self.active
        if before is not None and (before.waiting or before.running):
            at = bisect_left(active, (before.had_s, key))
            active = active[:at] + active[at + 1 :]
        if use.waiting or use.running:
            at = bisect_left(active, (use.had_s, key))
            active = (*active[:at], (use.had_s, key), *active[at:])
        floor_s = active[0][0] if active else max(self.floor_s, use.had_s)
        uses = {**self.uses, key: use}
        if len(uses) > len(active) + MOST_AWAY:
            uses = {name: uses[name] for _, name in active}
        return Shares(uses=uses, active=active, floor_s=floor_s)
