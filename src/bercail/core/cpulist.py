"""Numbers and lists of CPUs as the Linux kernel and its users write them: ``0-3,8``."""

from collections.abc import Iterable, Sequence

# NR_CPUS is 8,192 at most in kernels of today; beyond this a list is nonsense and would only cost memory.
MOST_CPUS = 65536
_LONGEST_NUMBER = 20


def parse_number(text: str) -> int | None:
    """A non-negative decimal number, or None for anything else."""
    digits = text.strip()
    if not digits or len(digits) > _LONGEST_NUMBER or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def parse_cpulist(text: str) -> tuple[int, ...] | None:
    """Ids from a kernel list such as ``0-3,8``, ascending; None if it is not such a list.

    Source: Documentation/admin-guide/cputopology.rst.
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        if not part.strip():
            continue
        first_text, dash, last_text = part.partition("-")
        first = parse_number(first_text)
        last = parse_number(last_text) if dash else first
        if first is None or last is None or not first <= last < MOST_CPUS:
            return None
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpulist(ids: Iterable[int]) -> str:
    """The kernel's list for ``ids``: ``0-3,8``."""
    runs: list[list[int]] = []
    for number in sorted(set(ids)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def cpus_text(ids: Sequence[int]) -> str:
    """``CPU 3``, or ``CPUs 0-3,8``."""
    return f"CPU{'' if len(ids) == 1 else 's'} {format_cpulist(ids)}"
