"""A child's tie to the process that spawned it, and its manners. Imported by workers: keep it as light as it is."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PARENT_VARIABLE = "BERCAIL_PARENT_PID"
"""Tells the child whose child it should be."""

ORPHAN = 79
"""Exit status when the parent was gone before the death signal was in place."""

_PR_SET_PDEATHSIG = 1

# The kernel rather takes the engine, which can be started again, than the gateway, which tells people what happened.
_OOM_SCORE = 300


def tie_to_parent() -> None:
    """See to it that this process never outlives the one that spawned it.

    The end of standard input tells too, but a library may hold Python's lock while it loads a model, so that nobody
    reads for as long: only the kernel can kill us then (prctl(2), PR_SET_PDEATHSIG). The signal is lost if the parent
    has gone before it was asked for, hence the look at who our parent is afterwards. It follows the *thread* that
    spawned us, hence the rule that engines are spawned from the main thread.
    """
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != int(parent):
        os._exit(ORPHAN)


def settle(memory_limit_bytes: int | None) -> None:
    """Take the manners of a child: a good victim, deaf to Ctrl-C, without core files, with a limit if given."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to interpret
    if sys.platform == "win32":
        return
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file of a 40 GiB model fills the disk
        if memory_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
