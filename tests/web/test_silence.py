"""Many who are due later share one timer, and each is rung at its moment."""

import asyncio

from bercail.web.silence import Alarms
from fakes.loop import run


class Sleeper:
    """Notes when it was rung, and may call off another then."""

    def __init__(self, alarms: Alarms) -> None:
        self.rung: list[float] = []
        self.calls_off: Sleeper | None = None
        self._alarms = alarms

    def ring(self) -> None:
        self.rung.append(asyncio.get_running_loop().time())
        if self.calls_off is not None:
            self._alarms.stop(self.calls_off)


def test_each_is_rung_once_at_its_moment_whatever_was_set_before_it() -> None:
    async def scene() -> None:
        alarms = Alarms()
        late, early, moved = (Sleeper(alarms) for _ in range(3))
        alarms.set(late, 9.0)
        alarms.set(early, 2.0)
        alarms.set(moved, 3.0)
        await asyncio.sleep(1)
        alarms.set(moved, 5.0)
        await asyncio.sleep(20)
        assert (early.rung, moved.rung, late.rung) == ([2.0], [5.0], [9.0])
        alarms.set(early, 30.0)
        await asyncio.sleep(20)
        assert early.rung == [2.0, 30.0]

    run(scene)


def test_who_is_called_off_is_not_rung_even_by_one_who_is_due_with_him() -> None:
    async def scene() -> None:
        alarms = Alarms()
        first, second, third = (Sleeper(alarms) for _ in range(3))
        first.calls_off = second
        for one in (first, second, third):
            alarms.set(one, 2.0)
        alarms.stop(third)
        alarms.stop(third)
        await asyncio.sleep(5)
        assert (first.rung, second.rung, third.rung) == ([2.0], [], [])

    run(scene)
