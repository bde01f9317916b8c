"""Quantities: the only parser and formatter of bytes, tokens and seconds."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias

from bercail.core.errors import UsageError

Bytes: TypeAlias = int
Tokens: TypeAlias = int
Seconds: TypeAlias = float

KIB: Bytes = 1024
MIB: Bytes = 1024 * KIB
GIB: Bytes = 1024 * MIB

_QUANTITY = re.compile(r"\s*(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)
_BYTE_UNITS = {
    "": 1, "b": 1, "k": KIB, "kib": KIB, "kb": 1000, "m": MIB, "mib": MIB, "mb": 1000**2,
    "g": GIB, "gib": GIB, "gb": 1000**3, "t": 1024 * GIB, "tib": 1024 * GIB, "tb": 1000**4,
}  # fmt: skip
_TOKEN_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}
_SECOND_UNITS: Mapping[str, int | Fraction] = {"": 1, "ms": Fraction(1, 1000), "s": 1, "m": 60, "min": 60, "h": 3600}
_LONGEST_TEXT = 64


def parse_bytes(text: str) -> Bytes:
    """Bytes from text such as ``512``, ``1.5 GiB``, ``64k`` or ``2GB``.

    ``K M G T`` alone mean powers of 1024, as llama.cpp and Docker read them; ``kB MB GB TB`` mean powers of 1000.

    Raises:
        UsageError: the text is not a quantity of bytes.
    """
    number, factor = _split(text, _BYTE_UNITS, "a size in bytes, such as 512 MiB or 1.5 GB")
    return int(number * factor)


def parse_tokens(text: str) -> Tokens:
    """Tokens from text such as ``4096`` or ``32k``; ``k`` is 1,024 tokens, as context lengths are named.

    Raises:
        UsageError: the text is not a quantity of tokens.
    """
    number, factor = _split(text, _TOKEN_UNITS, "a number of tokens, such as 4096 or 32k")
    return int(number * factor)


def parse_seconds(text: str) -> Seconds:
    """Seconds from text such as ``30``, ``250ms``, ``5m`` or ``1h``.

    Raises:
        UsageError: the text is not a duration.
    """
    number, factor = _split(text, _SECOND_UNITS, "a duration, such as 30, 250ms or 5m")
    return float(number * factor)


def _split(text: str, units: Mapping[str, int | Fraction], wanted: str) -> tuple[Fraction, int | Fraction]:
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{text!r} is not {wanted}", hint=f"write {wanted}")
    return Fraction(match[1].replace("_", "").replace(",", "")), factor


def format_bytes(count: Bytes) -> str:
    """``count`` in the largest binary unit that leaves at least 1: ``1.21 GiB``, ``34.0 MiB``, ``512 B``."""
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(count) >= size:
            number = count / size
            return f"{number:.2f} {unit}" if abs(number) < 10 else f"{number:.1f} {unit}"
    return f"{count} B"


def format_count(count: int) -> str:
    """A large count for people: ``8.03 B``, ``260 K``, ``512``."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(count) >= 0.9995 * size:  # what rounds to 1,000 of a unit is 1 of the next
            return f"{count / size:.3g} {unit}"
    return str(count)


def format_tokens(count: Tokens) -> str:
    """``count`` with thousands separators: ``131,072``."""
    return f"{count:,}"


def format_seconds(seconds: Seconds) -> str:
    """A duration for people: ``740 ms``, ``2.3 s``, ``4 min 10 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def format_rate(per_second: float) -> str:
    """A rate of tokens for people: ``43.1 tokens/s``."""
    return f"{per_second:.1f} tokens/s" if per_second < 100 else f"{per_second:,.0f} tokens/s"


def format_bandwidth(bytes_per_s: float) -> str:
    """A memory bandwidth for people, in decimal gigabytes as data sheets write it: ``36.2 GB/s``."""
    return f"{bytes_per_s / 1e9:.1f} GB/s"
