"""The log in memory wakes those who follow it."""

import asyncio

from bercail.core.log import OURS
from bercail.ports import Log
from bercail.store import MemoryLog
from fakes.loop import run


def test_it_is_a_log() -> None:
    log: Log = MemoryLog()
    log.add(OURS, "x")
    assert [line.text for line in log.since({}, OURS.__eq__).lines] == ["x"]


def test_followers_wake_at_a_line_and_at_the_end() -> None:
    log = MemoryLog()

    async def scene() -> None:
        first = asyncio.create_task(log.wait(0))
        left = asyncio.create_task(log.wait(0))
        await asyncio.sleep(1)
        left.cancel()
        log.add("m", "x")
        log.add("m", "y")
        assert await first
        assert await log.wait(0), "what was said meanwhile is not waited for"
        last = asyncio.create_task(log.wait(2))
        await asyncio.sleep(1)
        log.close()
        assert not await last
        assert not await log.wait(2)

    run(scene)


def test_lines_of_engines_are_echoed_and_ours_carry_the_time() -> None:
    echoed: list[tuple[str, str]] = []
    log = MemoryLog(lambda source, text: echoed.append((source, text)), lambda: "noon ")
    log.add("m", "x")
    log.add(OURS, "y")
    assert echoed == [("m", "x")]
    assert [line.text for line in log.since({}, lambda _: True).lines] == ["x", "noon y"]
