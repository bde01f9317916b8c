"""A file that is watched: one word for every burst of changes, when it has come to rest."""

import asyncio
from collections.abc import Hashable

import pytest

from bercail.core.configuration import Loaded
from bercail.flows.reread import LOOK_S, MOST_LOOKS, Source, watch
from fakes.house import FakeClock, run, settle

A_LONG_TIME = tuple(range(2, 3 * MOST_LOOKS))


@pytest.mark.parametrize(
    ("looks", "changes"),
    [
        ((1, 1, 1), []),
        ((2, 2, 2, 2), [2]),
        ((2, 3, 4, 4, 4), [4]),
        ((None, None, 2, 2), [4]),
        ((None, 1, 1, 1), []),
        ((2, None, None, 2, 2, 2), [5]),
        ((2, 1, 1), []),
        ((2, 2, 3, 3), [2, 4]),
        (A_LONG_TIME, [MOST_LOOKS, 2 * MOST_LOOKS]),
    ],
    ids=["rests", "once", "burst", "replaced", "gone and back", "gone in between", "undone", "twice", "never rests"],
)  # fmt: skip
def test_a_change_is_told_once_when_the_file_rests(looks: tuple[Hashable, ...], changes: list[int]) -> None:
    async def story() -> None:
        clock, left, told = FakeClock(), list(looks), list[int]()
        source = Source(read=Loaded, look=lambda: left.pop(0), seen=1, watched=True)
        task = asyncio.create_task(watch(source, clock, lambda: told.append(len(looks) - len(left))))
        await settle()
        for _ in looks:
            await clock.advance(LOOK_S)
        task.cancel()
        assert told == changes
        await settle()

    run(story)
