"""What is declared of a model with its macros and its port put in."""

from dataclasses import replace

from bercail.core.command import PORT
from bercail.core.config_keys import MODEL
from bercail.core.errors import SettingsError
from bercail.core.macros import Macros, Values, expand, mentions, merged, read_macros, resolve
from bercail.core.tree import Entry, Fields, Node, Reading, Scalar, text_scalar

_WITH_PORT = ("cmd", "cmdStop", "proxy", "env")
"""Keys whose ``${PORT}`` is replaced when the program starts, not before."""


def expanded(model_id: str, fields: Fields, macros: Macros, port: int, reading: Reading, where: str) -> Fields:
    """What is declared of a model, its macros replaced; ``${PORT}`` is left where the start replaces it."""
    own = read_macros(fields.get("macros"), reading, f"{where}.macros")
    values = resolve(merged(macros, own), {"MODEL_ID": model_id}, reading, f"{where}.macros")
    known = {key.name for key in MODEL}
    entries = []
    for entry in fields.entries:
        if entry.name in known and entry.name != "macros":
            left = frozenset({"PORT", "PID"} if entry.name == "cmdStop" else {"PORT"})
            node = _without_comments(entry.node) if entry.name in ("cmd", "cmdStop") else entry.node
            node = expand(node, values, reading, f"{where}.{entry.name}", left=left)
            entries.append(replace(entry, node=_with_names(entry.name, node, values, reading, where)))
        else:
            entries.append(entry)
    return _with_port(Fields(entries=tuple(entries), line=fields.line), port, reading, where)


def _with_names(name: str, node: Node, values: Values, reading: Reading, where: str) -> Node:
    """The keys of ``setParamsByID`` are names of models, so macros are replaced in them, too."""
    if name != "filters" or not isinstance(node, Fields):
        return node
    by_name = node.get("setParamsByID")
    if not isinstance(by_name, Fields):
        return node
    place = f"{where}.filters.setParamsByID"
    entries: dict[str, Entry] = {}
    for entry in by_name.entries:
        key = expand(text_scalar(entry.name, entry.line), values, reading, place, left=frozenset({"PORT"}))
        assert isinstance(key, Scalar)
        if key.text in entries:
            first = entries[key.text].line
            raise reading.error(
                entry.line, f"{place}: {key.text} is given twice", f"it is already in {reading.origin.beside(first)}"
            )
        entries[key.text] = replace(entry, name=key.text)
    names = Fields(entries=tuple(entries.values()), line=by_name.line)
    return replace(
        node,
        entries=tuple(replace(entry, node=names) if entry.name == "setParamsByID" else entry for entry in node.entries),
    )


def _with_port(fields: Fields, port: int, reading: Reading, where: str) -> Fields:
    """``${PORT}`` replaced in every key but those that the start fills; an error where no port is given."""
    cmd = fields.get("cmd")
    # What is no text is told as such where it is read.
    uses = mentions(cmd.text, "PORT") if isinstance(cmd, Scalar) else cmd is not None
    given: Values = {"PORT": port} if uses else {}
    proxy = fields.get("proxy")
    if not given and isinstance(proxy, Scalar) and mentions(proxy.text, "PORT"):
        raise portless(reading, fields.line_of("proxy"), where)
    known = {key.name for key in MODEL} - {"macros"}
    later = _WITH_PORT if given else ("cmd",)
    left = frozenset({"PID"})
    entries = []
    for entry in fields.entries:
        if entry.name in known and entry.name not in later:
            node = expand(entry.node, given, reading, f"{where}.{entry.name}", left=left)
            entries.append(replace(entry, node=_with_names(entry.name, node, given, reading, where)))
        else:
            entries.append(entry)
    return Fields(entries=tuple(entries), line=fields.line)


def portless(reading: Reading, line: int, where: str) -> SettingsError:
    """The error for a port that is asked for where none is given."""
    return reading.error(
        line,
        f"{where}: proxy uses {PORT} but cmd does not",
        f"let cmd listen on {PORT}, or give proxy the address where it answers",
        code="no_port",
    )


def _without_comments(node: Node) -> Node:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return node
    lines = (line for line in node.text.split("\n") if not line.lstrip().startswith("#"))
    return text_scalar("\n".join(lines), node.line)
