"""Becomes another program, tied to our parent: ``python -m bercail.engines.leashed PROGRAM [ARGUMENT ...]``.

The tie and the manners of a child outlast the change (execve(2) keeps the death signal of prctl(2), and limits), so
that a program which knows nothing of its parent ends with it all the same.
"""

import os
import sys

from bercail.engines.leash import keep_to_place, leave_watch, settle, take_later, take_signals_back, tie_to_parent

NOT_STARTED = 127
"""Exit status when there is no such program, or it is none, as of shells."""


def main() -> None:
    """Never returns."""
    tie_to_parent()
    keep_to_place()
    settle(None)
    take_signals_back()
    added = take_later()
    leave_watch(added)
    try:
        os.execve(sys.argv[1], sys.argv[1:], {**os.environ, **added})  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\n")
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main()
