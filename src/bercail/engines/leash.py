"""A child's tie to the process that spawned it, and its manners. Imported by workers: keep it as light as it is."""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PARENT_VARIABLE = "BERCAIL_PARENT_PID"
"""Tells the child whose child it should be."""

PLACE_VARIABLE = "BERCAIL_PLACE"
"""Tells the child where to run: CPUs by commas, then `@` and a NUMA node if its memory is to come from there alone."""

LATER_VARIABLE = "BERCAIL_LATER"
"""Variables, as JSON, of the program that a child becomes: our interpreter would not survive some of them."""

WILL_VARIABLE = "BERCAIL_LAST_WILL"
"""A command, as JSON, that is run when the parent has gone, before the whole group is killed; it may be empty."""

UNBOUND = 80
"""Exit status when the child could not be kept where it was told to run."""

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


def later(variables: Mapping[str, str]) -> dict[str, str]:
    """The variable that adds to the environment of the program that a child becomes; none if nothing is added."""
    import json

    return {LATER_VARIABLE: json.dumps(dict(variables))} if variables else {}


def take_later() -> dict[str, str]:
    """What the parent adds to the environment of the program that we become."""
    text = os.environ.pop(LATER_VARIABLE, "")
    if not text:
        return {}
    import json

    return {str(name): str(value) for name, value in json.loads(text).items()}


def last_will(argv: Sequence[str]) -> dict[str, str]:
    """The variable that has a child's group ended with its parent, after ``argv`` has run, if it is any."""
    import json

    return {WILL_VARIABLE: json.dumps(list(argv))}


_WATCH = 'trap "" TERM INT HUP; while read -r _; do :; done; [ $# -eq 0 ] || "$@"; kill -KILL 0'


def leave_watch(added: Mapping[str, str]) -> None:
    """Leave one behind who, if there is a last will, carries it out when standard input ends: our parent has gone.

    The death signal ends us alone, not what we start. The watch is a shell in our group, small and deaf to what asks us
    to end; it goes when our parent, which sees us end, kills what is left of the group. Nobody is left if our parent is
    the first process of its namespace: the kernel ends all the others with it.

    Args:
        added: to the environment of the command in the will.
    """
    text = os.environ.pop(WILL_VARIABLE, "")
    if not text or sys.platform == "win32" or os.getppid() == 1:
        return
    import json

    argv = ["sh", "-c", _WATCH, "sh", *map(str, json.loads(text))]
    if os.fork():
        os.wait()  # for the one between, so that the program has no child that it does not know
        return
    try:
        if not os.fork():
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.execve("/bin/sh", argv, {**os.environ, **added})  # noqa: S606 - the words after the script stay words
    finally:
        os._exit(0)


def take_signals_back() -> None:
    """Leave to a program that we become the signals which we ignore: in a session of its own, no Ctrl-C reaches it."""
    for name in ("SIGINT", "SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)


def place_of(cpus: Sequence[int], node: int | None) -> dict[str, str]:
    """The variable that keeps a child to these CPUs and the memory of this node; none if it may run anywhere."""
    if not cpus:
        return {}
    return {PLACE_VARIABLE: ",".join(map(str, cpus)) + ("" if node is None else f"@{node}")}


def keep_to_place() -> None:
    """Run where the parent says; ends the process with words if that cannot be.

    Both outlast a change of program (sched_setaffinity(2), set_mempolicy(2)).
    """
    cpus, _, node = os.environ.pop(PLACE_VARIABLE, "").partition("@")
    try:
        if cpus:
            os.sched_setaffinity(0, {int(number) for number in cpus.split(",")})
        if node:
            _bind_memory(int(node))
    except (OSError, AttributeError) as error:
        sys.stderr.write(
            f"cannot be kept to CPUs {cpus}{f' and memory of NUMA node {node}' if node else ''}: {error}\n"
        )
        sys.stderr.flush()
        os._exit(UNBOUND)


_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""Number of the system call; the C library has no function for it."""
_MPOL_BIND = 2
_MOST_NODES = 1024


def _bind_memory(node: int) -> None:
    """All memory from ``node``, none from elsewhere.

    Raises:
        OSError: the kernel refuses.
    """
    number = _SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"not known how on {os.uname().machine}")
    bits = ctypes.sizeof(ctypes.c_ulong) * 8
    mask = (ctypes.c_ulong * (_MOST_NODES // bits))()
    mask[node // bits] |= 1 << (node % bits)
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, _MPOL_BIND, ctypes.byref(mask), ctypes.c_ulong(_MOST_NODES + 1)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
