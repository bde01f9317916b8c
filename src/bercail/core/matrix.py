"""Which models may be in memory together, as expressions; who leaves for whom at the least cost.

An expression gives combinations of models: ``a & b`` both, ``a | b`` one of them, ``+name`` those of another set.
Every part of a combination is allowed, too. Nothing is expanded but what concerns the models at hand.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class One:
    """A model."""

    model: str


@dataclass(frozen=True, slots=True)
class All:
    """A combination of each part; ``models`` are all that occur, ``height`` is how far parts stand in each other."""

    parts: "tuple[Expression, ...]"
    models: frozenset[str]
    height: int


@dataclass(frozen=True, slots=True)
class Either:
    """The combinations of any part."""

    parts: "tuple[Expression, ...]"
    models: frozenset[str]
    height: int


Expression: TypeAlias = One | All | Either


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Sets of models that may be in memory together.

    Attributes:
        sets: expressions by name, in their order.
        costs: what unloading a model costs; 1 for those that are not there.
    """

    sets: Mapping[str, Expression]
    costs: Mapping[str, int]

    def eviction_for(self, target: str, running: Collection[str]) -> frozenset[str]:
        """Those of ``running`` that must leave before ``target`` is loaded: the cheapest; of equals the first written.

        A model in no set runs alone.
        """
        others = frozenset(running) - {target}
        kept = [
            found
            for expression in self.sets.values()
            for found in combinations(expression, others | {target})
            if target in found
        ]
        if not kept:
            return others
        costs = [sum(self.costs.get(model, 1) for model in others - found) for found in kept]
        return others - kept[costs.index(min(costs))]

    def may_coexist(self, models: Collection[str]) -> bool:
        """Whether all of them may be in memory at once."""
        wanted = frozenset(models)
        return len(wanted) < 2 or any(covers(expression, wanted) for expression in self.sets.values())


def models_of(expression: Expression) -> frozenset[str]:
    """Every model that occurs in an expression."""
    return frozenset({expression.model}) if isinstance(expression, One) else expression.models


def combinations(expression: Expression, within: frozenset[str]) -> tuple[frozenset[str], ...]:
    """The largest combinations of the models of ``within``, in the order in which they are written.

    What is part of another is left out, so there are few: parts of ``within`` none of which holds another.
    """
    match expression:
        case One(model):
            return (within & {model},)
        case Either(parts):
            return _largest(found for part in parts for found in combinations(part, within))
        case All(parts):
            found: tuple[frozenset[str], ...] = (frozenset(),)
            for part in parts:
                more = combinations(part, within)
                found = _largest(one | other for one in found for other in more)
            return found
        case _ as unreachable:
            assert_never(unreachable)


def _largest(found: Iterator[frozenset[str]]) -> tuple[frozenset[str], ...]:
    kept: list[frozenset[str]] = []
    for one in found:
        if not any(one <= other for other in kept):
            kept = [other for other in kept if not other < one]
            kept.append(one)
    return tuple(kept)


def covers(expression: Expression, wanted: frozenset[str]) -> bool:
    """Whether one combination holds all of ``wanted``."""
    match expression:
        case One(model):
            return wanted <= {model}
        case Either(parts):
            return any(covers(part, wanted) for part in parts)
        case All(parts, models):
            if not wanted <= models:
                return False
            shares = [wanted & models_of(part) for part in parts]
            if sum(map(len, shares)) == len(wanted):
                return all(covers(part, share) for part, share in zip(parts, shares, strict=True))
            return any(wanted <= found for found in combinations(expression, wanted))
        case _ as unreachable:
            assert_never(unreachable)


def all_of(parts: tuple[Expression, ...]) -> Expression:
    """What holds a combination of each part."""
    return parts[0] if len(parts) == 1 else All(parts, _occurring(parts), _above(parts))


def either_of(parts: tuple[Expression, ...]) -> Expression:
    """What holds the combinations of any part."""
    return parts[0] if len(parts) == 1 else Either(parts, _occurring(parts), _above(parts))


def _occurring(parts: tuple[Expression, ...]) -> frozenset[str]:
    return frozenset().union(*map(models_of, parts))


def _above(parts: tuple[Expression, ...]) -> int:
    return 1 + max(0 if isinstance(part, One) else part.height for part in parts)
