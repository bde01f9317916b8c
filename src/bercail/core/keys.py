"""Keys of a configuration as tables: what each may hold, and the reading of a mapping by its table.

The reader and the JSON schema come from the same tables.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import assert_never

from bercail.core.tree import (
    Entry,
    Fields,
    Items,
    Node,
    NoteKind,
    Reading,
    Scalar,
    Value,
    is_nothing,
    kind_of,
    nearest,
)
from bercail.core.units import Seconds


class Shape(StrEnum):
    """What a key holds."""

    TEXT = "text"
    COUNT = "a whole number"
    FLAG = "true or false"
    DURATION = "a duration, such as 5s or 1m30s"
    TEXTS = "a list of texts"
    PAIRS = "a mapping"
    OBJECT = "a mapping of known keys"
    OBJECTS = "a mapping of names"
    OPTION = "an option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key.

    Attributes:
        minimum: smallest number, of seconds for a duration; None if there is none.
        maximum: largest number, or None.
        choices: the words allowed, of a text or of each in a list.
        below: the keys of the mapping, or of each mapping in a mapping of names.
        ours: llama-swap does not have it.
        example: the right form, for who wrote another; empty if the help says enough.
        instead: words that people write in its place.
    """

    name: str
    shape: Shape
    help: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    below: "tuple[Key, ...]" = ()
    ours: bool = False
    example: str = ""
    instead: tuple[str, ...] = ()


Keys = tuple[Key, ...]

_TRUE, _FALSE = ("true", "yes", "on", "y"), ("false", "no", "off", "n")
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})(?:ns|us|µs|μs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A mapping that holds what its keys may hold, and nothing else.

    Attributes:
        where: the mapping, as errors name it; empty for the whole file.
    """

    fields: Fields
    where: str

    def has(self, name: str) -> bool:
        """Whether something stands there."""
        return not is_nothing(self.fields.get(name))

    def node(self, name: str) -> Node | None:
        """What stands there; None where nothing does."""
        node = self.fields.get(name)
        return None if is_nothing(node) else node

    def line(self, name: str) -> int:
        """Its line."""
        return self.fields.line_of(name)

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        node = self.node(name)
        return node.text if isinstance(node, Scalar) else default

    def count(self, name: str, default: int) -> int:
        """A whole number."""
        node = self.node(name)
        return as_count(node.value) if isinstance(node, Scalar) else default

    def flag(self, name: str, *, default: bool) -> bool:
        """A truth."""
        node = self.node(name)
        return node.text.lower() in _TRUE if isinstance(node, Scalar) else default

    def duration(self, name: str, default: Seconds) -> Seconds:
        """Seconds."""
        node = self.node(name)
        return parse_duration(node.text) if isinstance(node, Scalar) else default

    def scalars(self, name: str) -> tuple[Scalar, ...]:
        """The texts of a list, with their lines."""
        node = self.node(name)
        return tuple(item for item in node.items if isinstance(item, Scalar)) if isinstance(node, Items) else ()

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list."""
        return tuple(item.text for item in self.scalars(name))

    def entries(self, name: str) -> tuple[Entry, ...]:
        """The names of a mapping and what they hold."""
        node = self.node(name)
        return node.entries if isinstance(node, Fields) else ()

    def at(self, name: str) -> str:
        """A key of it, as errors name it."""
        return f"{self.where}.{name}" if self.where else name


def as_count(value: Value) -> int:
    """A whole number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or int(value) != value:
        raise ValueError(value)
    return int(value)


def parse_duration(text: str) -> Seconds:
    """Seconds of a duration in the notation of Go, such as ``1m30s``.

    Raises:
        ValueError: it is none.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise ValueError(text)
    return sum(_part_s(part) for part in parts)


def _part_s(part: str) -> Seconds:
    number = part.rstrip("nuµμmsh")
    return float(number) * _UNIT_S[part.removeprefix(number)]


def open_table(node: Node | None, keys: Keys, reading: Reading, where: str, *, also: tuple[str, ...] = ()) -> Table:
    """A mapping, checked by its table of keys.

    Args:
        node: None is a mapping without anything.
        keys: what it may hold.
        reading: the file.
        where: it, as errors name it; empty for the whole file.
        also: names that stand beside these keys, and are read elsewhere.

    Raises:
        SettingsError: it is no mapping, a value is none that its key may hold, or, in our own files, a key is unknown.
    """
    if node is None or is_nothing(node):
        return Table(fields=Fields(entries=(), line=node.line if node else 1), where=where)
    if not isinstance(node, Fields):
        raise reading.error(
            node.line, f"{where} is {kind_of(node)}, not a mapping", "write one 'name: value' per line below it"
        )
    table = Table(fields=node, where=where)
    known = {key.name: key for key in keys if reading.strict or not key.ours}
    own = Reading(origin=reading.origin, dialect=reading.dialect, notes=reading.notes)
    for entry in node.entries:
        own.attempt(partial(_check_entry, entry, known, also, own, where), entry.line)
    own.settle()
    return table


def _check_entry(entry: Entry, known: Mapping[str, Key], also: tuple[str, ...], reading: Reading, where: str) -> None:
    if entry.name in known:
        check(known[entry.name], entry.node, reading, f"{where}.{entry.name}" if where else entry.name)
    else:
        _refuse_unknown(entry, known, also, reading, where)


def _refuse_unknown(
    entry: Entry, known: Mapping[str, Key], also: tuple[str, ...], reading: Reading, where: str
) -> None:
    place = f" in {where}" if where else ""
    meant = next((key.name for key in known.values() if entry.name in key.instead), None)
    hint = f"did you mean {meant}?" if meant else nearest(entry.name, (*known, *also))
    if reading.strict:
        raise reading.error(entry.line, f"unknown setting {entry.name!r}{place}", hint, code="unknown_setting")
    suggestion = f": {hint}" if hint.startswith("did you") else ""
    reading.note(entry.line, NoteKind.IGNORED, f"unknown key {entry.name!r}{place} is ignored{suggestion}")


def check(key: Key, node: Node, reading: Reading, where: str) -> None:
    """Refuse what a key may not hold.

    Raises:
        SettingsError: that.
    """
    if key.shape is Shape.OPTION:
        return
    if is_nothing(node):
        scalar = key.shape in (Shape.TEXT, Shape.COUNT, Shape.FLAG, Shape.DURATION)
        if scalar and reading.strict:
            raise reading.error(node.line, f"{where} has no value", f"leave it out, or give it one: {key.help}")
        return
    match key.shape:
        case Shape.TEXTS:
            _check_list(key, node, reading, where)
        case Shape.PAIRS | Shape.OBJECT | Shape.OBJECTS:
            if not isinstance(node, Fields):
                raise _unfit(key, node, reading, where)
        case Shape.TEXT | Shape.COUNT | Shape.FLAG | Shape.DURATION:
            _check_scalar(key, node, reading, where)
        case _ as unreachable:
            assert_never(unreachable)


def _check_list(key: Key, node: Node, reading: Reading, where: str) -> None:
    if not isinstance(node, Items):
        raise _unfit(key, node, reading, where)
    for index, item in enumerate(node.items):
        if not isinstance(item, Scalar) or item.value is None:
            raise reading.error(item.line, f"{where}[{index}] is {kind_of(item)}, not a text", key.help)
        _check_choice(key, item, reading, f"{where}[{index}]")


def _check_scalar(key: Key, node: Node, reading: Reading, where: str) -> None:
    if not isinstance(node, Scalar):
        raise _unfit(key, node, reading, where)
    try:
        number = _number(key.shape, node)
    except (ValueError, OverflowError) as error:
        raise _unfit(key, node, reading, where) from error
    _check_choice(key, node, reading, where)
    if key.minimum is not None and number is not None and number < key.minimum:
        raise reading.error(node.line, f"{where}: {node.text} is less than {key.minimum}", key.help)
    if key.maximum is not None and number is not None and number > key.maximum:
        raise reading.error(node.line, f"{where}: {node.text} is more than {key.maximum}", key.help)


def _number(shape: Shape, node: Scalar) -> float | None:
    """The number of a scalar that has one.

    Raises:
        ValueError: it should be a number or a truth, and is none.
    """
    if shape is Shape.COUNT:
        return as_count(node.value)
    if shape is Shape.DURATION:
        return parse_duration(node.text)
    if shape is Shape.FLAG and node.text.lower() not in _TRUE + _FALSE:
        raise ValueError(node.text)
    return None


def _check_choice(key: Key, node: Scalar, reading: Reading, where: str) -> None:
    if key.choices and node.text not in key.choices:
        raise reading.error(node.line, f"{where}: {node.text!r} is none of {', '.join(key.choices)}", key.help)


def _unfit(key: Key, node: Node, reading: Reading, where: str) -> Exception:
    quoted = key.shape is Shape.COUNT and isinstance(node, Scalar) and isinstance(node.value, str)
    hint = "remove the quotes" if quoted and kind_of(node).strip("'").isdigit() else key.help
    if key.example:
        hint = f"{hint.rstrip('.')}, such as {key.example}"
    return reading.error(node.line, f"{where} is {kind_of(node)}, not {key.shape}", hint)


def named(node: Node | None, reading: Reading, where: str) -> Iterator[tuple[Entry, str]]:
    """The entries of a mapping of names, and each as errors name it.

    Raises:
        SettingsError: a name is empty.
    """
    if not isinstance(node, Fields):
        return
    for entry in node.entries:
        if not entry.name.strip():
            raise reading.error(entry.line, f"{where}: a name is empty", "give it one")
        yield entry, f"{where}.{entry.name}"
