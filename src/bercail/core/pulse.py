"""Whether an engine that was ready still answers, and from when on it does not."""

from dataclasses import dataclass

from bercail.core.units import Seconds

ANSWER_S: Seconds = 10.0
"""How long an engine may take to say that it is well."""
MOST_MISSED = 3
"""So often in a row it may not be well: a machine that was busy with something else is no reason to start anew."""
MOST_MISSED_AT_WORK = 9
"""The same while it has requests, for those are lost with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What an engine said when it was asked whether it is well.

    Attributes:
        words: what is wrong, one sentence without a full stop; empty if nothing is.
        silent: it did not answer in time, as one may that has its hands full.
    """

    words: str = ""
    silent: bool = False


def missed(before: int, pulse: Pulse, *, at_work: bool, aside: bool) -> int:
    """How often in a row an engine was not well.

    Args:
        before: how often it was not before this time.
        pulse: what it said.
        at_work: it has requests.
        aside: it answers such a question also while it works; of others silence says nothing then.
    """
    if not pulse.words:
        return 0
    return before if pulse.silent and at_work and not aside else before + 1


def is_ill(missed: int, *, at_work: bool) -> bool:
    """Whether that is too often."""
    return missed >= (MOST_MISSED_AT_WORK if at_work else MOST_MISSED)
