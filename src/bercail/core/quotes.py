"""Quotes that became part of a path, as where a shell or YAML was given two pairs of them."""

_PAIRS = {"'": "'", '"': '"', "`": "`", "’": "‘", "”": "“"}  # noqa: RUF001 - so word processors write them
"""The quote that opens, by the one that closes."""


def in_quotes(path: str) -> bool:
    """Whether a path, or what of it follows a folder that was put before it, stands in quotes."""
    opening = _PAIRS.get(path[-1:])
    return opening is not None and len(path) > 1 and (path.startswith(opening) or f"/{opening}" in path[:-1])


def told(path: str, otherwise: str = "") -> str:
    """What to do about a path that leads nowhere because of its quotes; ``otherwise`` if that is not why."""
    return "the quotes are part of that name: write it without them" if in_quotes(path) else otherwise
