"""What a configuration changes in the bodies of requests: keys taken out, keys set, the name of the model."""

import json
from collections.abc import Mapping
from typing import Any

from bercail.core.declared import Declared, Filters


def changes(declared: Declared | None, asked: str) -> bool:
    """Whether anything is changed in a request that named the model ``asked``."""
    if declared is None:
        return False
    filters = declared.filters
    return bool(declared.upstream_name or filters.strip or filters.values or filters.by_name.get(asked))


def rewritten(body: bytes, declared: Declared, asked: str) -> bytes:
    """``body``, a JSON object, as the server behind ``declared`` is to get it.

    Keys are taken out first, then set, last those of the name that was asked for; the name of the model is only ever
    changed to the one that the server has for it.
    """
    values: dict[str, Any] = json.loads(body)
    _filter(values, declared.filters, asked)
    if declared.upstream_name:
        values["model"] = declared.upstream_name
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _filter(values: dict[str, Any], filters: Filters, asked: str) -> None:
    name = values.get("model")
    for key in filters.strip:
        values.pop(key, None)
    for added in (filters.values, filters.by_name.get(asked, _NOTHING)):
        values.update(added)
    if name is not None:
        values["model"] = name


_NOTHING: Mapping[str, Any] = {}
