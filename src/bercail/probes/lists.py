"""Masks and cache sizes as the Linux kernel writes them; lists of CPUs are in ``core.cpulist``."""

from bercail.core.cpulist import MOST_CPUS, parse_number


def parse_cpumask(text: str) -> tuple[int, ...] | None:
    """Ids from a kernel mask such as ``00000000,0000000f``, ascending; None if it is not a mask."""
    digits = text.strip().replace(",", "")
    if not digits or len(digits) > MOST_CPUS // 4 or not all(c in "0123456789abcdefABCDEF" for c in digits):
        return None
    bits = int(digits, 16)
    return tuple(index for index in range(bits.bit_length()) if bits >> index & 1)


def parse_cache_size(text: str) -> int | None:
    """Bytes from a cache size of sysfs such as ``36864K`` or ``32M``, or None."""
    body = text.strip()
    factor = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(body[-1:].upper(), 1)
    number = parse_number(body[:-1] if factor > 1 else body)
    return None if number is None else number * factor
