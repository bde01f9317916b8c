"""Lines of our own and of every engine, the latest of each kept; and how configurations have them told."""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from operator import attrgetter

from bercail.core.units import KIB, Bytes

OURS = ""
"""Whose lines are the server's own; those of an engine are its model's."""
KEPT_BYTES: Bytes = 100 * KIB
"""Of each."""
LEVELS = ("debug", "info", "warn", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line.

    Attributes:
        number: by which lines of all stand in order.
        source: whose it is.
    """

    number: int
    source: str
    text: str

    def __str__(self) -> str:
        return f"{self.source} | {self.text}" if self.source else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What has been said since a place.

    Attributes:
        lines: in order.
        missed: lines that are kept no more.
        place: where to go on: of each source, how many lines it has said.
        last: the number of the last line of all, whosever it is.
    """

    lines: tuple[Line, ...] = ()
    missed: int = 0
    place: Mapping[str, int] = field(default_factory=dict)
    last: int = 0


class _Ring:
    """The latest lines of one source."""

    def __init__(self, kept_bytes: Bytes) -> None:
        self._kept_bytes = kept_bytes
        self._bytes = 0
        self._lines: deque[Line] = deque()
        self.said = 0

    def add(self, line: Line) -> None:
        self.said += 1
        self._bytes += len(line.text)
        self._lines.append(line)
        while self._bytes > self._kept_bytes:
            self._bytes -= len(self._lines.popleft().text)

    def since(self, said: int) -> tuple[list[Line], int]:
        """The lines after the first ``said``, and how many of those are kept no more."""
        fresh = max(0, self.said - said)
        kept = list(self._lines)[-fresh:] if fresh else []
        return kept, fresh - len(kept)


class Rings:
    """The latest lines of every source. Whoever reads keeps a place of its own, so that nothing waits for slow readers.

    Attributes:
        last: the number of the last line.
    """

    def __init__(self, kept_bytes: Bytes = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._rings: dict[str, _Ring] = {}
        self.last = 0

    def add(self, source: str, text: str) -> None:
        """One line more."""
        self.last += 1
        ring = self._rings.setdefault(source, _Ring(self._kept_bytes))
        ring.add(Line(number=self.last, source=source, text=text))

    def since(self, place: Mapping[str, int], wanted: Callable[[str], bool]) -> Excerpt:
        """What the sources that are wanted have said since."""
        rings = {source: ring for source, ring in self._rings.items() if wanted(source)}
        found = [ring.since(place.get(source, 0)) for source, ring in rings.items()]
        return Excerpt(
            lines=tuple(merge(*(lines for lines, _ in found), key=attrgetter("number"))),
            missed=sum(missed for _, missed in found),
            place={source: ring.said for source, ring in rings.items()},
            last=self.last,
        )


def excerpt_text(excerpt: Excerpt, *, bare: bool) -> str:
    """Lines to read; lost ones are told before the others.

    Args:
        excerpt: the lines.
        bare: they are of one source, which need not be named.
    """
    missed = f"... {excerpt.missed} line{'' if excerpt.missed == 1 else 's'} left out\n" if excerpt.missed else ""
    return missed + "".join(f"{line.text if bare else line}\n" for line in excerpt.lines)


_TIMES = {
    "ansic": "%a %b {day} %H:%M:%S %Y", "unixdate": "%a %b {day} %H:%M:%S {zone} %Y",
    "rubydate": "%a %b %d %H:%M:%S %z %Y", "rfc822": "%d %b %y %H:%M {zone}", "rfc822z": "%d %b %y %H:%M %z",
    "rfc850": "%A, %d-%b-%y %H:%M:%S {zone}", "rfc1123": "%a, %d %b %Y %H:%M:%S {zone}",
    "rfc1123z": "%a, %d %b %Y %H:%M:%S %z", "rfc3339": "%Y-%m-%dT%H:%M:%S{offset}",
    "rfc3339nano": "%Y-%m-%dT%H:%M:%S.%f{offset}", "kitchen": "{hour}:%M%p", "stamp": "%b {day} %H:%M:%S",
    "stampmilli": "%b {day} %H:%M:%S.{milli}", "stampmicro": "%b {day} %H:%M:%S.%f",
    "stampnano": "%b {day} %H:%M:%S.%f000",
}  # fmt: skip
TIMES = tuple(_TIMES)
"""The ways in which configurations of llama-swap have log lines tell the time; Go's names."""


def format_time(way: str, now: datetime) -> str:
    """A moment, with its zone, in one of ``TIMES``; empty if ``way`` is."""
    if not way:
        return ""
    offset = re.sub(r"(\d\d)$", r":\1", now.strftime("%z"))
    return now.strftime(_TIMES[way]).format(
        day=f"{now.day:2}", zone=now.tzname(), offset="Z" if offset == "+00:00" else offset,
        hour=(now.hour - 1) % 12 + 1, milli=f"{now.microsecond // 1000:03}",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is told on the terminal, and how.

    Attributes:
        level: one of ``LEVELS``; less than it is not told.
        output: ``proxy`` is our own lines, ``upstream`` those of engines; ``both`` or ``none``.
    """

    level: str = "info"
    output: str = "proxy"

    def passes(self, level: str) -> bool:
        """Whether lines of ours of that level are told."""
        return self.output in ("proxy", "both") and self.keeps(level)

    def keeps(self, level: str) -> bool:
        """Whether they are kept."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    @property
    def echoes(self) -> bool:
        """Whether lines of engines are told."""
        return self.output in ("upstream", "both")
