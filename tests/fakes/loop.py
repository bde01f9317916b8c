"""An event loop whose clock jumps: waiting takes no time, and every timer fires at its exact moment."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import TypeVar

T = TypeVar("T")


class _Leaping(selectors.DefaultSelector):
    """Instead of waiting, lets time pass; stops a program that would wait for ever."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits and no timer is set: this would never end")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """For programs that touch no socket."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now_s


def run(main: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a test in such a loop; tasks it leaves behind are an error."""
    left: list[str] = []

    def complain(loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        left.append(str(context.get("message")))

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(complain)
        result = await main()
        for _ in range(3):
            await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not tasks, f"tasks left behind: {tasks}"
        return result

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        result = runner.run(watched())
    assert not left, left
    return result
