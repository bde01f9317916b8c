"""Ending what a killed server left behind; everything that runs normally is ended by ``process``."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from bercail.core.units import Seconds
from bercail.engines.failure import is_gone

STOP_COMMAND_S: Seconds = 30.0
"""How long a command such as ``docker stop NAME`` may take."""

LAST_WAIT_S: Seconds = 5.0
"""How long a killed process may take to vanish."""


def end_orphan(pid: int, stop_argv: Sequence[str], is_there: Callable[[], bool]) -> bool:
    """End a process that is not our child, with its group if it leads one; True if it is gone.

    Args:
        pid: its number.
        stop_argv: run first, without a shell; empty if signals are enough.
        is_there: whether the very process still runs; another that has its number now is let live.
    """
    if stop_argv and not _run(stop_argv):
        return False
    if is_there():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            leads = os.getpgid(pid) == pid
            (os.killpg if leads else os.kill)(pid, signal.SIGKILL)
    deadline = time.monotonic() + LAST_WAIT_S
    while is_there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _run(argv: Sequence[str]) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - argv was written by us, into a folder of this user alone
            argv, check=False, timeout=STOP_COMMAND_S, stdin=subprocess.DEVNULL, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 or is_gone((done.stdout + done.stderr).decode(errors="replace"))
