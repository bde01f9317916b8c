"""A child's tie to the process that spawned it. Imported by workers: keep it as light as it is."""

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "BERCAIL_PARENT_PID"
"""Tells the child whose child it should be."""

ORPHAN = 79
"""Exit status when the parent was gone before the death signal was in place."""

_PR_SET_PDEATHSIG = 1


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
