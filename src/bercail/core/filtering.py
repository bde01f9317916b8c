"""Filters of request bodies, from their tree to their value."""

from bercail.core.config_keys import MODEL_FILTERS, PEER_FILTERS
from bercail.core.declared import Filters
from bercail.core.keys import Table, open_table
from bercail.core.tree import Fields, Json, Node, NoteKind, Reading, is_nothing, kind_of, plain

PROTECTED = "model"
"""The one key of a body that no filter touches: it says whose request it is."""


def read_filters(table: Table, reading: Reading) -> tuple[Filters, tuple[str, ...]]:
    """The filters of a model, and the names that they add to it.

    Raises:
        SettingsError: something in them is wrong.
    """
    own = open_table(table.node("filters"), MODEL_FILTERS, reading, table.at("filters"))
    by_name = {}
    for entry in own.entries("setParamsByID"):
        where = f"{own.at('setParamsByID')}.{entry.name}"
        if not entry.name.strip():
            raise reading.error(entry.line, f"{own.at('setParamsByID')}: a name is empty", "give it one")
        by_name[entry.name] = _settings(entry.node, reading, where)
    filters = Filters(
        strip=_stripped(own, reading),
        values=_settings(own.node("setParams"), reading, own.at("setParams")),
        by_name=by_name,
    )
    return filters, tuple(by_name)


def read_peer_filters(table: Table, reading: Reading) -> Filters:
    """The filters of a peer.

    Raises:
        SettingsError: something in them is wrong.
    """
    own = open_table(table.node("filters"), PEER_FILTERS, reading, table.at("filters"))
    values = _settings(own.node("setParams"), reading, own.at("setParams"))
    return Filters(strip=_stripped(own, reading), values=values)


def _stripped(table: Table, reading: Reading) -> tuple[str, ...]:
    name = "stripParams" if table.has("stripParams") else "strip_params"
    if name == "stripParams" and table.has("strip_params"):
        reading.note(
            table.line("strip_params"), NoteKind.IGNORED, f"{table.at('strip_params')} is ignored: stripParams is there"
        )
    keys = {key for part in table.text(name).split(",") if (key := part.strip())}
    if PROTECTED in keys:
        _protected(table.line(name), table.at(name), reading)
    return tuple(sorted(keys - {PROTECTED}))


def _settings(node: Node | None, reading: Reading, where: str) -> dict[str, Json]:
    if node is None or is_nothing(node):
        return {}
    if not isinstance(node, Fields):
        raise reading.error(node.line, f"{where} is {kind_of(node)}, not a mapping", "write the keys that are set")
    if PROTECTED in node.names:
        _protected(node.line_of(PROTECTED), where, reading)
    return {entry.name: plain(entry.node) for entry in node.entries if entry.name != PROTECTED}


def _protected(line: int, where: str, reading: Reading) -> None:
    reading.note(line, NoteKind.IGNORED, f"{where}: {PROTECTED!r} is left alone")
