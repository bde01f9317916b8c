"""NVIDIA's cards as ``nvidia-smi`` tells of them.

It is asked as a child, within a limit: NVIDIA's library inside this process would take it along when it fails, as it
does after an upgrade of the driver.
"""

import csv
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bercail.core.sample import CardSample
from bercail.core.units import MIB, Seconds

FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu", "power.draw")
"""What is asked for, in the order of the columns; source: ``nvidia-smi --help-query-gpu``."""
ANSWER_S: Seconds = 4.0
"""A driver that hangs answers never; one that was asleep takes up to two seconds."""
AGAIN_S: Seconds = 60.0
"""After a failure it is left alone for so long: a card may come back, and to ask takes a program each time."""
_WSL = "/usr/lib/wsl/lib/nvidia-smi"
_END_S: Seconds = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of the cards.

    Attributes:
        unread: why nothing is, in words; empty if they were read.
    """

    cards: tuple[CardSample, ...] = ()
    unread: str = ""


def parse_smi(text: str) -> tuple[CardSample, ...]:
    """The cards in an answer to ``--query-gpu``, CSV without header and units; lines of another shape are none."""
    rows = [[value.strip() for value in row] for row in csv.reader(text.splitlines())]
    return tuple(_card(row) for row in rows if len(row) == len(FIELDS) and row[0].isdecimal())


def _card(row: list[str]) -> CardSample:
    busy, used, total, celsius, power = map(_number, row[2:])
    return CardSample(
        number=int(row[0]),
        name=row[1],
        busy=None if busy is None else busy / 100,
        used_bytes=None if used is None else int(used * MIB),
        total_bytes=None if total is None else int(total * MIB),
        celsius=celsius,
        power_w=power,
    )


def _number(word: str) -> float | None:
    """A value; None for ``[N/A]``, ``[Unknown Error]`` and whatever else it writes in place of one."""
    return float(word) if word.replace(".", "", 1).isdecimal() else None


class NvidiaSmi:
    """Asks it, and remembers for a while that it failed.

    Args:
        program: its path; None if it is not there.
        answer_s: how long it may take.
        clock: seconds that only grow.
    """

    def __init__(
        self, program: str | None, answer_s: Seconds = ANSWER_S, clock: Callable[[], Seconds] = time.monotonic
    ) -> None:
        self._program = program
        self._answer_s = answer_s
        self._clock = clock
        self._failed: tuple[Seconds, Told] | None = None

    def read(self) -> Told:
        """The cards now."""
        if self._program is None:
            return Told(unread="nvidia-smi is not there, which comes with the driver")
        if self._failed is not None and self._clock() - self._failed[0] < AGAIN_S:
            return self._failed[1]
        told = self._ask(self._program)
        self._failed = (self._clock(), told) if told.unread else None
        return told

    def _ask(self, program: str) -> Told:
        argv = (program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
        try:
            child = subprocess.Popen(  # noqa: S603 - no shell, and nothing in it is of a user
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except OSError as error:
            return Told(unread=f"{program} cannot be started: {error.strerror}")
        try:
            said, _ = child.communicate(timeout=self._answer_s)
        except subprocess.TimeoutExpired:
            child.kill()
            with suppress(subprocess.TimeoutExpired):  # a child that hangs in the driver cannot be ended
                child.communicate(timeout=_END_S)
            return Told(unread=f"nvidia-smi does not answer within {self._answer_s:g} s")
        if child.returncode:
            words = next(filter(None, map(str.strip, said.splitlines())), "no word why")
            return Told(unread=f"nvidia-smi failed with status {child.returncode}: {words[:200]}")
        return Told(cards=parse_smi(said))


def find_smi() -> str | None:
    """Where the program is; None if it is not there."""
    return shutil.which("nvidia-smi") or shutil.which(_WSL)
