"""Groups and matrices of a configuration, from their trees to their values."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bercail.core.config_keys import GROUP, MATRIX
from bercail.core.errors import SettingsError
from bercail.core.groups import DEFAULT, Group, Groups
from bercail.core.keys import Table, as_count, named, open_table
from bercail.core.matrix import Expression, Matrix, One, all_of, either_of
from bercail.core.tree import Entry, Node, Reading, Scalar

_VARIABLE = re.compile(r"[A-Za-z0-9.-]{1,32}")
_TOKEN = re.compile(r"([&|()])|\+([^\s&|()+]*)|([^\s&|()+]+)")
DEEPEST = 60
"""How far parentheses and sets may stand in each other."""


def read_groups(node: Node | None, models: tuple[str, ...], reading: Reading, where: str) -> Groups:
    """The groups of a configuration, with the default group for models in no other.

    Raises:
        SettingsError: a model is in two groups, twice in one, or does not exist.
    """
    found: list[Group] = []
    places: dict[str, str] = {}
    for entry, place in named(node, reading, where):
        if entry.name == DEFAULT:
            raise reading.error(entry.line, f"{where}: the name {DEFAULT} is reserved", "take another name")
        table = open_table(entry.node, GROUP, reading, place)
        found.append(
            Group(
                name=entry.name,
                members=tuple(_members(table, models, places, reading)),
                swap=table.flag("swap", default=True),
                exclusive=table.flag("exclusive", default=True),
                persistent=table.flag("persistent", default=False),
            )
        )
    rest = tuple(sorted(set(models) - set(places)))
    return Groups(groups=(*found, Group(name=DEFAULT, members=rest)) if rest else tuple(found))


def _members(table: Table, models: tuple[str, ...], places: dict[str, str], reading: Reading) -> Iterator[str]:
    for item in table.scalars("members"):
        name = item.text
        if name not in models:
            raise reading.unknown(item.line, f"{table.where}: no model {name!r}", name, models)
        if name in places:
            again = "twice" if places[name] == table.where else f"in {places[name]} as well"
            raise reading.error(item.line, f"{table.where}: {name} is a member {again}", "name it once")
        places[name] = table.where
        yield name


def read_matrix(node: Node | None, models: tuple[str, ...], reading: Reading, where: str) -> Matrix:
    """The matrix of a configuration.

    Raises:
        SettingsError: a model or set does not exist, an expression is wrong, sets use each other, a cost is none.
    """
    table = open_table(node, MATRIX, reading, where)
    variables = _variables(table, models, reading)
    entries = {entry.name: entry for entry in table.entries("sets")}
    if not entries:
        raise reading.error(table.line("sets"), f"{where} has no sets", "name the models that may be loaded together")
    reader = _Sets(
        entries=entries, variables=variables, models=models, reading=reading, where=table.at("sets"), done={}
    )
    sets = {name: reader.read(entry, (), 0) for name, entry in entries.items()}
    return Matrix(sets=sets, costs=_costs(table, variables, models, reading))


def _variables(table: Table, models: tuple[str, ...], reading: Reading) -> dict[str, str]:
    variables = {}
    for entry in table.entries("vars"):
        if not _VARIABLE.fullmatch(entry.name):
            raise reading.error(
                entry.line,
                f"{table.at('vars')}: {entry.name!r} is no name",
                "take 1 to 32 letters, digits, '.' and '-'",
            )
        model = entry.node.text if isinstance(entry.node, Scalar) else ""
        if model not in models:
            raise reading.unknown(entry.node.line, f"{table.at('vars')}: no model {model!r}", model, models)
        variables[entry.name] = model
    return variables


def _costs(table: Table, variables: Mapping[str, str], models: tuple[str, ...], reading: Reading) -> dict[str, int]:
    costs = {}
    where = table.at("evict_costs")
    for entry in table.entries("evict_costs"):
        model = variables.get(entry.name, entry.name)
        if model not in models:
            names = (*variables, *models)
            raise reading.unknown(entry.line, f"{where}: no variable or model {entry.name!r}", entry.name, names)
        try:
            cost = as_count(entry.node.value) if isinstance(entry.node, Scalar) else 0
        except ValueError:
            cost = 0
        if cost < 1:
            raise reading.error(entry.node.line, f"{where}.{entry.name} is no cost", "write a whole number from 1")
        costs[model] = cost
    return costs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sets:
    """Sets that are being read; ``done`` holds those that are."""

    entries: Mapping[str, Entry]
    variables: Mapping[str, str]
    models: tuple[str, ...]
    reading: Reading
    where: str
    done: dict[str, Expression]

    def read(self, entry: Entry, above: tuple[str, ...], depth: int) -> Expression:
        """The expression of a set; ``above`` are the sets that led to it."""
        if entry.name not in self.done:
            where = f"{self.where}.{entry.name}"
            text = entry.node.text if isinstance(entry.node, Scalar) and entry.node.value is not None else ""
            if not text.strip():
                raise self.reading.error(entry.line, f"{where} is empty", "name the models that may be loaded together")
            parser = _Parser(
                sets=self, entry=entry, where=where, above=(*above, entry.name), tokens=_tokens(text), depth=depth
            )
            self.done[entry.name] = parser.whole()
        return self.done[entry.name]

    def another(self, name: str, user: Entry, above: tuple[str, ...], depth: int) -> Expression:
        """The set that ``user`` names with ``+``."""
        line, where = user.node.line, f"{self.where}.{user.name}"
        if name not in self.entries:
            raise self.reading.unknown(line, f"{where}: no set {name!r}", name, tuple(self.entries))
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise self.reading.error(line, f"{where}: sets use each other: {circle}", "take one of the + out")
        return self.read(self.entries[name], above, depth)

    def model(self, name: str, user: Entry) -> Expression:
        """The model that a name stands for."""
        model = self.variables.get(name, name)
        if model not in self.models:
            names, where = (*self.variables, *self.models), f"{self.where}.{user.name}"
            raise self.reading.unknown(user.node.line, f"{where}: no variable or model {name!r}", name, names)
        return One(model)


def _tokens(text: str) -> deque[str]:
    """Signs as they are, sets with a leading ``+``, names with a leading blank; a ``+`` alone is one, too."""
    found = (match.groups(default="") for match in _TOKEN.finditer(text))
    return deque(sign or (f" {name}" if name else f"+{other}") for sign, other, name in found)


@dataclass(slots=True, kw_only=True)
class _Parser:
    """An expression that is being read, from the first of ``tokens`` on."""

    sets: _Sets
    entry: Entry
    where: str
    above: tuple[str, ...]
    tokens: deque[str]
    depth: int

    def whole(self) -> Expression:
        found = self._either()
        if self.tokens:
            raise self._refuse(self.tokens[0])
        return found

    def _either(self) -> Expression:
        self.depth += 1
        parts = [self._all()]
        while self._take("|"):
            parts.append(self._all())
        self.depth -= 1
        return self._low_enough(either_of(tuple(parts)))

    def _all(self) -> Expression:
        parts = [self._one()]
        while self._take("&"):
            parts.append(self._one())
        return all_of(tuple(parts))

    def _one(self) -> Expression:
        if not self.tokens:
            raise self._error("it ends too early", "a name is missing at its end")
        if self.depth > DEEPEST:
            raise self._too_deep()
        token = self.tokens.popleft()
        if token == "(":
            found = self._either()
            if not self._take(")"):
                raise self._error("a parenthesis is not closed", "add ')'")
            return found
        if token.startswith(" "):
            return self.sets.model(token[1:], self.entry)
        if len(token) > 1:
            return self.sets.another(token[1:], self.entry, self.above, self.depth)
        raise self._refuse(token)

    def _low_enough(self, found: Expression) -> Expression:
        if not isinstance(found, One) and found.height > 2 * DEEPEST:
            raise self._too_deep()
        return found

    def _take(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == sign:
            self.tokens.popleft()
            return True
        return False

    def _too_deep(self) -> SettingsError:
        return self._error(f"more than {DEEPEST} parentheses or sets in each other", "write it with fewer")

    def _refuse(self, token: str) -> SettingsError:
        return self._error(f"{token.strip()!r} is out of place", "write names with & | ( ) between them, and +set")

    def _error(self, message: str, hint: str) -> SettingsError:
        return self.sets.reading.error(self.entry.node.line, f"{self.where}: {message}", hint)
