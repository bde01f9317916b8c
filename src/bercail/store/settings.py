"""Settings: defaults, then the file, then the environment, then the command line."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

import yaml

from bercail.core.errors import SettingsError
from bercail.core.options import Kind, Option, Settings, every_option, read_value, unknown_key

FILE_NAME = "bercail.yaml"
"""The settings file in the config folder."""

PREFIX = "BERCAIL_"
OTHER_VARIABLES = ("BERCAIL_CONFIG", "BERCAIL_SHARED")
"""Variables with our prefix that are no settings: the settings file, and material for tests."""

_LONGEST_BYTES = 1024 * 1024
_TAG = "tag:yaml.org,2002:"
_NULL = _TAG + "null"
_WORDS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "timestamp"))


def load_settings(
    *, file: Path | None, default_file: Path, environment: Mapping[str, str], given: Mapping[str, object], home: Path
) -> Settings:
    """The settings in force.

    Args:
        file: named on the command line; it must exist. Next comes ``BERCAIL_CONFIG``, which must exist, too.
        default_file: read if it exists and no other is named.
        environment: every ``BERCAIL_*`` in it must be known.
        given: values of the command line by key, such as ``server.port``; None is not given.
        home: what ``~/`` stands for in folders: no shell has replaced it in a file, nor after ``=``.

    Raises:
        SettingsError: a file or variable is wrong; tells the place, and the nearest known name of an unknown one.
    """
    values: dict[str, object] = {}
    named = file or (Path(environment["BERCAIL_CONFIG"]) if environment.get("BERCAIL_CONFIG") else None)
    text = read_text(named or default_file, must_exist=named is not None)
    if text is not None:
        values.update(parse_settings(text, origin=str(named or default_file)))
    values.update(read_environment(environment))
    values.update(read_given(given))
    for spec in every_option():
        folders = values.get(spec.key)
        if spec.kind is Kind.PATHS and isinstance(folders, tuple):
            values[spec.key] = tuple(_expand(str(folder), home) for folder in folders)
    return apply(values)


def apply(values: Mapping[str, object]) -> Settings:
    """The default settings with ``values`` by key in their places."""
    settings = Settings()
    groups: dict[str, object] = {}
    for group in fields(settings):
        prefix = f"{group.name}."
        own = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        groups[group.name] = replace(getattr(settings, group.name), **own)
    return replace(settings, **groups)  # type: ignore[arg-type] # each group is of its field's own type


def read_text(path: Path, *, must_exist: bool) -> str | None:
    """The text of a settings file; None if it need not exist and does not.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES + 1)
    except FileNotFoundError as error:
        if not must_exist:
            return None
        hint = "check --config and BERCAIL_CONFIG, or leave both out"
        raise SettingsError(f"the settings file {path} does not exist", hint=hint, code="no_settings_file") from error
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST_BYTES:
        raise SettingsError(f"the settings file {path} is longer than 1 MiB", hint="is this the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: this is not UTF-8 text", hint="save it as UTF-8") from error


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


def read_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Values by key in the environment.

    Raises:
        SettingsError: a variable of ours is unknown or its value is wrong.
    """
    known = {spec.variable: spec for spec in every_option()}
    values: dict[str, object] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if name not in known:
            raise unknown_key(name, (*known, *OTHER_VARIABLES), origin="environment")
        spec = known[name]
        if not environment[name].strip() and spec.kind is not Kind.PATHS:
            raise SettingsError(f"environment: {name} is empty", hint=f"unset it, or give it a value: {spec.help}")
        values[spec.key] = read_value(spec, environment[name], origin=f"environment: {name}")
    return values


def read_given(given: Mapping[str, object]) -> dict[str, object]:
    """Values by key from the command line, without those not given.

    Raises:
        SettingsError: a key is unknown or a value is wrong.
    """
    known = {spec.key: spec for spec in every_option()}
    values: dict[str, object] = {}
    for key, raw in given.items():
        if key not in known:
            raise unknown_key(key, tuple(known), origin="command line")
        if raw is not None:
            values[key] = read_value(known[key], raw, origin=known[key].flag)
    return values


def _expand(folder: str, home: Path) -> str:
    return str(home / folder[2:]) if folder == "~" or folder.startswith("~/") else folder


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
