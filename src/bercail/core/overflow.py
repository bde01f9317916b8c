"""What becomes of a prompt that is longer than the context, in the words of settings, configurations and API keys."""

from enum import StrEnum


class Overflow(StrEnum):
    """What becomes of a prompt that is longer than the context."""

    ERROR = "error"
    """It is refused."""
    TRIM_OLDEST = "trim-oldest"
    """The oldest turns after the system prompt are left out."""
    TRIM_MIDDLE = "trim-middle"
    """Turns after the first exchange are left out."""


OVERFLOWS = tuple(overflow.value for overflow in Overflow)


def decided(*wishes: Overflow | None) -> Overflow:
    """The first of the wishes that says anything; to refuse if none does."""
    for wish in wishes:
        if wish is not None:
            return wish
    return Overflow.ERROR
