"""YAML text -> the tree that core reads: every value with its line, aliases and merge keys resolved, bombs refused."""

import re
from dataclasses import dataclass, field

import yaml

from bercail.core.errors import SettingsError
from bercail.core.tree import EMPTY, Entry, Fields, Items, Node, Scalar, Value

LARGEST = 200_000
"""Values that a file may hold once its aliases are written out."""
DEEPEST = 60
"""Lists and mappings that may stand in each other."""

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))
_WORDS = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    _INT: re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"),
    _FLOAT: re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
    _MERGE: re.compile(r"<<"),
}
_LONGEST_NUMBER = 40
"""Characters of a number; what is longer is text."""


class _Loader(yaml.SafeLoader):
    """Types plain words as YAML 1.2 does: ``no`` and ``1:30`` are texts."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - of the library


for _tag, _word in _WORDS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_word.pattern})$"), None)


def parse_tree(text: str, origin: str) -> Fields:
    """The mapping that a file holds.

    Args:
        text: of the whole file.
        origin: the file, as errors name it.

    Raises:
        SettingsError: it is no YAML or no mapping, a name is given twice, or it is too large written out.
    """
    root = _compose(text, origin)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return EMPTY
    tree = _Maker(origin=origin).make(root, "")
    if not isinstance(tree, Fields):
        raise SettingsError(
            f"{origin}, line {tree.line}: the file holds no settings", hint="write one 'name: value' per line below it"
        )
    return tree


def _compose(text: str, origin: str) -> yaml.Node | None:
    # Composing stops short of making objects: no tag can run anything, and aliases are not multiplied.
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}, line {mark.line + 1}" if mark else origin
        tab = "\\t" in (error.problem or "")
        hint = "a tab stands there: indent with spaces" if tab else "this is not YAML"
        raise SettingsError(f"{place}: {error.problem or error.context}", hint=hint) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{origin}, line {line}: a character that YAML does not allow: {error.character!r}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{origin}: this cannot be read as YAML", hint="is this the right file?") from error


@dataclass(slots=True, kw_only=True)
class _Maker:
    """Makes the tree; a node that several aliases name is made once."""

    origin: str
    made: dict[int, Node] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)

    def make(self, node: yaml.Node, path: str) -> Node:
        """The tree of a node; ``path`` is its name for errors."""
        key = id(node)
        if key in self.open:
            raise self._error(node, f"{path or 'the file'} holds itself", "an alias must not stand in its own anchor")
        if len(self.open) >= DEEPEST:
            raise self._error(node, f"more than {DEEPEST} lists and mappings in each other", "is this the right file?")
        if key not in self.made:
            self.open.add(key)
            tree = self._made(node, path)
            self.open.remove(key)
            self.made[key], self.sizes[key] = tree, self._size(node)
        return self.made[key]

    def _made(self, node: yaml.Node, path: str) -> Node:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            return Scalar(value=self._value(node), text=node.value, line=line)
        if isinstance(node, yaml.SequenceNode):
            items = (self.make(item, f"{path}[{index}]") for index, item in enumerate(node.value))
            return Items(items=tuple(items), line=line)
        return Fields(entries=self._entries(node, path), line=line)

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        parts = (part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,)))
        size = 1 + sum(self.sizes.get(id(part), 1) for part in parts)
        if size > LARGEST:
            raise self._error(node, f"this holds more than {LARGEST:,} values", "its aliases multiply: use fewer")
        return size

    def _entries(self, node: yaml.Node, path: str) -> tuple[Entry, ...]:
        """The entries of a mapping: its own, then those merged into it that it does not have."""
        own: dict[str, Entry] = {}
        merged: list[Entry] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a name must be a word", "write one 'name: value' per line")
            if key.tag == _MERGE:
                merged += self._merged(value, path)
                continue
            name = str(key.value)
            where = f"{path}.{name}" if path else name
            if name in own:
                raise self._error(key, f"{where} is given twice", f"it is already in line {own[name].line}")
            own[name] = Entry(name=name, line=line, node=self.make(value, where))
        for entry in merged:
            own.setdefault(entry.name, entry)
        return tuple(own.values())

    def _merged(self, node: yaml.Node, path: str) -> list[Entry]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        trees = [self.make(part, f"{path}.<<") for part in parts]
        self.sizes.setdefault(id(node), sum(self.sizes.get(id(part), 1) for part in parts))
        found: list[Entry] = []
        for part, tree in zip(parts, trees, strict=True):
            if not isinstance(tree, Fields):
                raise self._error(part, "<< merges mappings alone", "write the alias of a mapping behind it")
            found += tree.entries
        return found

    def _value(self, node: yaml.ScalarNode) -> Value:
        """The value of a scalar by its tag, which is the plain word's own or was written before it."""
        text = str(node.value)
        try:
            return _typed(node.tag, text)
        except ValueError as error:
            raise self._error(node, f"{text!r} is no {node.tag.removeprefix(_TAG)}", "leave its tag out") from error
        except LookupError as error:
            raise self._error(node, f"the tag {node.tag} is not known", "leave it out") from error

    def _error(self, node: yaml.Node, message: str, hint: str) -> SettingsError:
        return SettingsError(f"{self.origin}, line {node.start_mark.line + 1}: {message}", hint=hint)


def _typed(tag: str, text: str) -> Value:
    """The value of a text under a tag.

    Raises:
        ValueError: it is none of that type.
        LookupError: there is no such type.
    """
    if tag == _NULL:
        return None
    if tag in (_STR, _MERGE, _TAG + "timestamp") or (tag in (_INT, _FLOAT) and len(text) > _LONGEST_NUMBER):
        return text
    if tag in _WORDS and not _WORDS[tag].fullmatch(text):
        raise ValueError(text)
    if tag == _BOOL:
        return text.lower() == "true"
    if tag == _FLOAT:
        number = float(text)
        return number if abs(number) < float("inf") else text
    if tag == _INT:
        return _whole(text.replace("_", ""))
    raise LookupError(tag)


def _whole(text: str) -> int | float:
    """A whole number; a leading 0 makes it octal, as in YAML 1.1 and Go."""
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits.isdecimal() and digits[0] == "0":
        sign = -1 if text[0] == "-" else 1
        return sign * int(digits, 8) if not set(digits) & set("89") else sign * float(digits)
    return int(text, 0)
