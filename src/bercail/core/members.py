"""Members of a request as a client wrote it: in the type that is meant, or refused by name."""

from collections.abc import Mapping

from bercail.core.chat import Json
from bercail.core.errors import UsageError

_WORDS: Mapping[type, str] = {
    str: "a text", list: "a list", dict: "an object", bool: "true or false", int: "a whole number", float: "a number",
}  # fmt: skip


def member(body: Json, name: str, *kinds: type, at: str = "") -> object:
    """A member of a request, or None where it is not there.

    Args:
        body: the request, or an object in it.
        name: of the member.
        kinds: what it may be; true and false are no numbers.
        at: where in the request ``body`` lies, with a dot at its end; empty for the request itself.

    Raises:
        UsageError: it is none of ``kinds``.
    """
    found = body.get(name)
    if found is not None and (not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds)):
        words = " or ".join(_WORDS[kind] for kind in kinds)
        raise UsageError(f"{at}{name} must be {words}", hint=f"it is {_WORDS[type(found)]}")
    return found


def text(body: Json, name: str, *, at: str = "") -> str:
    """A text, empty where there is none."""
    found = member(body, name, str, at=at)
    return found if isinstance(found, str) else ""


def flag(body: Json, name: str, *, absent: bool, at: str = "") -> bool:
    """True or false, ``absent`` where neither is said."""
    found = member(body, name, bool, at=at)
    return found if isinstance(found, bool) else absent


def items(body: Json, name: str, *, at: str = "") -> list[object]:
    """A list, empty where there is none."""
    found = member(body, name, list, at=at)
    return found if isinstance(found, list) else []


def within(body: Json, name: str, *, at: str = "") -> Json:
    """An object, empty where there is none."""
    found = member(body, name, dict, at=at)
    return found if isinstance(found, dict) else {}
