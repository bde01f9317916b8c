"""One option or setting: how it is declared, and read from text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import TypeVar, assert_never

from bercail.core.alike import alike
from bercail.core.errors import SettingsError, UsageError
from bercail.core.units import format_bytes, parse_bytes, parse_seconds, parse_tokens

T = TypeVar("T")


class Kind(StrEnum):
    """How the text of an option is read."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    BYTES = "bytes"
    TOKENS = "tokens"
    SECONDS = "seconds"
    FLAG = "flag"
    CHOICE = "choice"
    PATHS = "paths"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as people see it.

    Attributes:
        group: name of its group.
        name: name within the group.
        default: its value if nobody sets it; None means Bercail decides.
        minimum: smallest number allowed, or None.
        maximum: largest number allowed, or None.
        choices: the words allowed, for ``Kind.CHOICE``.
        help: one sentence.
        word: its name on the command line, where that is another; empty otherwise.
    """

    group: str
    name: str
    kind: Kind
    default: object
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    word: str = ""

    @property
    def key(self) -> str:
        """Its key in the settings file."""
        return f"{self.group}.{self.name}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return variable_of(self.key)

    @property
    def flag(self) -> str:
        """Its command-line flag."""
        return "--" + (self.word or self.name.replace("_", "-"))


def option(  # each argument is a column of the reference
    default: T,
    kind: Kind,
    help: str,  # noqa: A002 - the word people look for
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    word: str = "",
) -> T:
    """A dataclass field that declares an option."""
    facts = {"kind": kind, "help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "word": word}
    return field(default=default, metadata=facts)


def read_value(spec: Option, raw: object, *, origin: str) -> object:
    """The value of an option from text, or from a YAML scalar or list.

    Args:
        spec: the option.
        raw: what was written.
        origin: where it was written, for the error; it may end in the option's own flag or variable.

    Raises:
        SettingsError: it is not a value of this option.
    """
    place = origin if origin.endswith((spec.flag, spec.variable)) else f"{origin}: {spec.key}"
    try:
        value = _convert(spec, raw)
    except (UsageError, ValueError, OverflowError) as error:
        detail = error.message if isinstance(error, UsageError) else f"{raw!r} is not a {spec.kind}"
        raise SettingsError(f"{place}: {detail}", hint=spec.help) from error
    if isinstance(value, int | float) and not isinstance(value, bool):
        if spec.minimum is not None and value < spec.minimum:
            raise SettingsError(f"{place}: {raw} is less than {bound_text(spec, spec.minimum)}", hint=spec.help)
        if spec.maximum is not None and value > spec.maximum:
            raise SettingsError(f"{place}: {raw} is more than {bound_text(spec, spec.maximum)}", hint=spec.help)
    return value


def bound_text(spec: Option, number: float) -> str:
    """A bound as it would be written."""
    return format_bytes(int(number)) if spec.kind is Kind.BYTES else f"{number:g}"


_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _convert(spec: Option, raw: object) -> object:  # noqa: C901 - one branch per kind
    _refuse_shapes(spec, raw)
    text = str(raw).strip()
    match spec.kind:
        case Kind.TEXT:
            return text
        case Kind.COUNT:
            return int(text)
        case Kind.NUMBER:
            number = float(text)
            if not isfinite(number):
                raise ValueError(text)
            return number
        case Kind.BYTES:
            return parse_bytes(text)
        case Kind.TOKENS:
            return parse_tokens(text)
        case Kind.SECONDS:
            return parse_seconds(text)
        case Kind.FLAG:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError(text)
            return text.lower() in _TRUE
        case Kind.CHOICE:
            if text not in spec.choices:
                near = alike(text, spec.choices)
                meant = f"; did you mean {near[0]}?" if near else ""
                raise UsageError(f"{text!r} is none of {', '.join(spec.choices)}{meant}")
            return text
        case Kind.PATHS:
            parts = raw if isinstance(raw, list | tuple) else text.split(":")
            return tuple(str(part) for part in parts if str(part))
        case _ as unreachable:
            assert_never(unreachable)


def _refuse_shapes(spec: Option, raw: object) -> None:
    """Refuse what YAML may hold and a single value may not be: nothing, lists, mappings."""
    parts = raw if isinstance(raw, list | tuple) and spec.kind is Kind.PATHS else (raw,)
    for part in parts:
        if part is None:
            raise UsageError("it has no value: leave the line out, or write one")
        if isinstance(part, list | tuple | Mapping):
            raise UsageError(f"one value is wanted, not {'a mapping' if isinstance(part, Mapping) else 'a list'}")


def variable_of(key: str) -> str:
    """The environment variable of a key."""
    return "BERCAIL_" + key.replace(".", "_").upper()
