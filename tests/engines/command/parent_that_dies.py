"""Run by a test: starts the command ``argv[1:]``, says when it runs and when it is ready, and waits to be killed."""

import asyncio
import os
import sys

from bercail.core.command import CommandSpec
from bercail.engines import Commands


class Journal:
    def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
        say(f"loading {pid}")

    def forget(self, pid: int) -> None:
        pass

    def reconcile(self) -> tuple[str, ...]:
        return ()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main() -> None:
    spec = CommandSpec(model_id="m", argv=tuple(sys.argv[1:]))
    process = await Commands(os.environ, journal=Journal()).start(spec, lambda _: None)
    say("\n".join(process.log_tail()))
    say(f"ready {process.pid}")
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
