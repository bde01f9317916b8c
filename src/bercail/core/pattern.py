"""Names with ``*`` in them, which stands for any letters: aliases that are meant for many names."""

from collections.abc import Iterable, Mapping

ANY = "*"


def is_pattern(name: str) -> bool:
    """Whether it stands for many names."""
    return ANY in name


def weight(pattern: str) -> int:
    """How many letters it tells; of those that match a name, the heaviest one counts."""
    return len(pattern.replace(ANY, ""))


def meant_by(name: str, patterns: Mapping[str, str]) -> str | None:
    """What the heaviest pattern that matches ``name`` leads to, or None.

    Args:
        name: that no one has.
        patterns: what each leads to.
    """
    fitting = [pattern for pattern in patterns if _matches(pattern, name)]
    return patterns[max(fitting, key=weight)] if fitting else None


def rival(pattern: str, others: Iterable[str]) -> str:
    """The first of ``others`` that is as heavy and matches a name that ``pattern`` matches too; empty if none does."""
    return next((other for other in others if weight(other) == weight(pattern) and _meet(pattern, other)), "")


def _matches(pattern: str, name: str) -> bool:
    """Whether ``*`` can stand for the rest of a name, in the time that reading it takes: clients send any."""
    first, *middle, last = pattern.split(ANY)
    at, end = len(first), len(name) - len(last)
    if at > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        if (found := name.find(part, at, end)) < 0:
            return False
        at = found + len(part)
    return True


def _meet(one: str, other: str) -> bool:
    """Whether some name is matched by both: the ends that are left of both are compared, the shortest ones first."""
    left = {(len(one), len(other))}
    for here in range(len(one), -1, -1):
        for there in range(len(other), -1, -1):
            first, second = one[here : here + 1], other[there : there + 1]
            if (
                (first == ANY and ((here + 1, there) in left or (second and (here, there + 1) in left)))
                or (second == ANY and ((here, there + 1) in left or (first and (here + 1, there) in left)))
                or (first and first == second and (here + 1, there + 1) in left)
            ):
                left.add((here, there))
    return (0, 0) in left
