"""The text of a settings file: strict YAML, every complaint with its line."""

from collections.abc import Iterator
from dataclasses import fields

import yaml

from bercail.core.errors import SettingsError
from bercail.core.options import Kind, Option, Settings, every_option, read_value, unknown_key

_TAG = "tag:yaml.org,2002:"
_NULL = _TAG + "null"
_WORDS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "timestamp"))


def parse_settings(text: str, *, origin: str) -> dict[str, object]:
    """Values by key in the text of a settings file.

    Raises:
        SettingsError: it is no YAML, a key is unknown or given twice, or a value is wrong; tells the line.
    """
    known = {spec.key: spec for spec in every_option()}
    values: dict[str, object] = {}
    lines: dict[str, int] = {}
    for key, node, line in _entries(_compose(text, origin), origin):
        place = f"{origin}, line {line}"
        if key not in known:
            raise unknown_key(key, tuple(known), origin=place)
        if key in lines:
            raise SettingsError(f"{place}: {key} is given twice", hint=f"it is already in line {lines[key]}")
        lines[key] = line
        values[key] = _value(known[key], node, f"{origin}, line {node.start_mark.line + 1}")
    return values


def _compose(text: str, origin: str) -> yaml.Node | None:
    # Composing stops short of making objects: no tag can run anything, and aliases are not multiplied.
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}, line {mark.line + 1}" if mark else origin
        raise SettingsError(f"{place}: {error.problem or error.context}", hint="this is not YAML") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{origin}, line {line}: a character that YAML does not allow: {error.character!r}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{origin}: this cannot be read as YAML", hint="is this the right file?") from error


def _entries(root: yaml.Node | None, origin: str) -> Iterator[tuple[str, yaml.Node, int]]:
    """Key, value and line of every setting, written below its group or with its full name."""
    groups = tuple(group.name for group in fields(Settings))
    if root is None or root.tag == _NULL:
        return
    seen: dict[str, int] = {}
    for name, node, line in _pairs(root, origin, "the file"):
        place = f"{origin}, line {line}"
        if "." in name:
            yield name, node, line
        elif name not in groups:
            raise unknown_key(name, groups, origin=place)
        elif name in seen:
            raise SettingsError(f"{place}: {name} is given twice", hint=f"add to the one in line {seen[name]}")
        elif node.tag != _NULL:
            seen[name] = line
            for key, value, own_line in _pairs(node, origin, name):
                yield f"{name}.{key}", value, own_line


def _pairs(node: yaml.Node, origin: str, what: str) -> Iterator[tuple[str, yaml.Node, int]]:
    if not isinstance(node, yaml.MappingNode):
        place = f"{origin}, line {node.start_mark.line + 1}"
        raise SettingsError(f"{place}: {what} holds no settings", hint="write one 'name: value' per line below it")
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SettingsError(f"{origin}, line {line}: a name must be a word")
        yield key.value, value, line


def _value(spec: Option, node: yaml.Node, place: str) -> object:
    """The value of a node, read from its text: YAML would make 1:30 a number and ``no`` a falsehood."""
    if node.tag == _NULL:
        if spec.default is None:
            return None
        raise SettingsError(f"{place}: {spec.key} has no value", hint=f"remove the line, or give a value: {spec.help}")
    if spec.kind is Kind.PATHS and isinstance(node, yaml.SequenceNode):
        return read_value(spec, [_scalar(spec, item, place) for item in node.value], origin=place)
    text = _scalar(spec, node, place)
    if spec.kind is Kind.TEXT and not text.strip():
        raise SettingsError(f"{place}: {spec.key} is empty", hint=spec.help)
    # A path may hold a colon, which parts a list only in the environment.
    return read_value(spec, [text] if spec.kind is Kind.PATHS else text, origin=place)


def _scalar(spec: Option, node: yaml.Node, place: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _WORDS:
        raise SettingsError(f"{place}: {spec.key} needs a single value", hint=spec.help)
    return str(node.value)
