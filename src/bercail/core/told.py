"""What engines tell in OpenAI's chat: members as far as they are there, for nobody can refuse an answer."""

from collections.abc import Mapping

from bercail.core.chat import Json
from bercail.core.errors import EngineError


def inner(holder: Mapping[str, object], name: str) -> Json:
    """An object, empty where there is none."""
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def count(counts: Mapping[str, object], name: str) -> int:
    """A number of tokens, 0 where there is none."""
    found = counts.get(name)
    return found if isinstance(found, int) else 0


def choice_of(told: Mapping[str, object]) -> Json:
    """The first choice, empty where there is none."""
    choices = told.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def calls_in(delta: Mapping[str, object]) -> list[Json]:
    """What is told of calls of tools."""
    found = delta.get("tool_calls")
    return [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []


def place_of(call: Json, last: int) -> int:
    """Which call, from 0, a piece belongs to, where ``last`` is the one that came last (-1: none has)."""
    index = call.get("index")
    return index if isinstance(index, int) else last + bool(inner(call, "function").get("name"))


def name_of(call: Json, last: int) -> str:
    """The name in the first piece of a call.

    Raises:
        EngineError: it has none, or belongs to a call before ``last``, which has ended.
    """
    name = inner(call, "function").get("name")
    if place_of(call, last) <= last or not isinstance(name, str) or not name:
        words = "the engine went on with a tool call that has ended, or has no name"
        raise EngineError(words, code="engine_event")
    return name
