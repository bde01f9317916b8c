"""Several files that hold one configuration, as one tree."""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from bercail.core.tree import EMPTY, Entry, Fields, Items, Node, Origin, Reading, Scalar, is_nothing, kind_of

_APART = frozenset(
    {
        ("models",), ("groups",), ("profiles",), ("selectors",), ("peers",), ("matrix",),
        ("routing", "router", "settings", "groups"), ("routing", "router", "settings", "matrix"),
    }
)  # fmt: skip
"""Mappings in which each name stands for a thing of its own, which is declared in one place."""


def merged(trees: Sequence[Fields], origin: Origin) -> Fields:
    """One tree of all: mappings are joined, lists follow one another, and what is said twice is said alike.

    Args:
        trees: what each file holds, its lines counted on from the file before; see ``counted_on``.
        origin: these files.

    Raises:
        SettingsError: two files contradict each other; tells both places.
    """
    reading, whole = Reading(origin=origin), EMPTY
    for tree in trees:
        whole = _joined(whole, tree, (), reading)
    return whole


def counted_on(node: Node, before: int) -> Node:
    """The same with ``before`` lines above it."""
    match node:
        case Scalar():
            return replace(node, line=node.line + before)
        case Items():
            return Items(items=tuple(counted_on(item, before) for item in node.items), line=node.line + before)
        case Fields():
            entries = tuple(
                Entry(name=entry.name, line=entry.line + before, node=counted_on(entry.node, before))
                for entry in node.entries
            )
            return Fields(entries=entries, line=node.line + before)
        case _ as unreachable:
            assert_never(unreachable)


def _joined(one: Fields, other: Fields, path: tuple[str, ...], reading: Reading) -> Fields:
    entries = {entry.name: entry for entry in one.entries}
    for entry in other.entries:
        known = entries.get(entry.name)
        entries[entry.name] = entry if known is None else _both(known, entry, (*path, entry.name), reading)
    return Fields(entries=tuple(entries.values()), line=one.line if one.entries else other.line)


def _both(one: Entry, other: Entry, path: tuple[str, ...], reading: Reading) -> Entry:
    where, first = ".".join(path), reading.origin.beside(one.line)
    if path[:-1] in _APART:
        raise reading.error(other.line, f"{where} is declared twice", f"it is already in {first}: keep one of them")
    if is_nothing(one.node) or is_nothing(other.node):
        return other if is_nothing(one.node) else one
    match one.node, other.node:
        case Fields() as before, Fields() as after:
            return replace(one, node=_joined(before, after, path, reading))
        case Items() as before, Items() as after:
            return replace(one, node=replace(before, items=(*before.items, *after.items)))
        case Scalar(value=before), Scalar(value=after) if before == after:
            return one
    found, known = kind_of(other.node), kind_of(one.node)
    raise reading.error(other.line, f"{where} is {found}, and {known} in {first}", "files that are merged must agree")
