"""The settings in a file: strict, every complaint with its line."""

from collections.abc import Iterator
from functools import partial

from bercail.core.configuring import ANCHORS, GROUPS, KNOWN, dialect_of
from bercail.core.errors import SettingsError
from bercail.core.option import Kind, Option, read_value
from bercail.core.options import every_option, unknown_key
from bercail.core.tree import Dialect, Entry, Fields, Items, Node, Origin, Reading, Scalar, is_nothing


def read_settings(root: Fields, *, origin: Origin) -> dict[str, object]:
    """Values by key in the tree of a file; models and all that concerns them is left to others.

    Raises:
        SettingsError: a key is unknown or given twice, or a value is wrong; tells the line.
    """
    values: dict[str, object] = {}
    lines: dict[str, int] = {}
    if dialect_of(root) is Dialect.LLAMA_SWAP:
        return {}
    reading = Reading(origin=origin)
    for key, node, line in _entries(root, reading):
        values[key] = reading.attempt(partial(_setting, key, node, line, lines, origin), line)
    reading.settle()
    return values


def _setting(key: str, node: Node, line: int, lines: dict[str, int], origin: Origin) -> object:
    """The value of one setting; ``lines`` are those of the settings before it."""
    known, place = {spec.key: spec for spec in every_option()}, origin.place(line)
    if key not in known:
        raise unknown_key(key, tuple(known) if "." in key else (*GROUPS, *KNOWN), origin=place)
    if key in lines:
        raise SettingsError(f"{place}: {key} is given twice", hint=f"it is already in {origin.beside(lines[key])}")
    lines[key] = line
    return _value(known[key], node, origin.place(node.line))


def _entries(root: Fields, reading: Reading) -> Iterator[tuple[str, Node, int]]:
    """Key, value and line of every setting, written below its group or with its full name; and what is unknown."""
    for entry in root.entries:
        if entry.name in GROUPS:
            group = reading.attempt(partial(_group, entry, reading.origin), entry.node.line) or ()
            yield from ((f"{entry.name}.{own.name}", own.node, own.line) for own in group)
        elif "." in entry.name or (entry.name not in KNOWN and not entry.name.startswith(ANCHORS)):
            yield entry.name, entry.node, entry.line


def _group(entry: Entry, origin: Origin) -> tuple[Entry, ...]:
    if is_nothing(entry.node):
        return ()
    if not isinstance(entry.node, Fields):
        raise SettingsError(
            f"{origin.place(entry.node.line)}: {entry.name} holds no settings",
            hint="write one 'name: value' per line below it",
        )
    return entry.node.entries


def _value(spec: Option, node: Node, place: str) -> object:
    """The value of a node, read from its text as people write it, not as YAML types it."""
    if is_nothing(node):
        if spec.default is None:
            return None
        raise SettingsError(f"{place}: {spec.key} has no value", hint=f"remove the line, or give a value: {spec.help}")
    if spec.kind is Kind.PATHS and isinstance(node, Items):
        return read_value(spec, [_text(spec, item, place) for item in node.items], origin=place)
    text = _text(spec, node, place)
    if spec.kind is Kind.TEXT and not text.strip():
        raise SettingsError(f"{place}: {spec.key} is empty", hint=spec.help)
    # A path may hold a colon, which parts a list only in the environment.
    return read_value(spec, [text] if spec.kind is Kind.PATHS else text, origin=place)


def _text(spec: Option, node: Node, place: str) -> str:
    if not isinstance(node, Scalar) or node.value is None:
        raise SettingsError(f"{place}: {spec.key} needs a single value", hint=spec.help)
    return node.text
