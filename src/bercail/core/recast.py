"""Requests of other dialects put into the words of OpenAI's chat: what these dialects share."""

from dataclasses import dataclass, field

from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.members import text, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request for an answer, read.

    Attributes:
        body: for the engine, without what the gateway adds.
        stops: texts at which the client wants the answer to end.
        notes: what of the request is not done, or was done otherwise, in words for the client and the log.
        echo: what of the request the answer repeats.
    """

    body: Json
    stream: bool
    stops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    echo: Json = field(default_factory=dict)


OURS = frozenset({
    "chat_template_kwargs", "seed", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "cache_prompt",
    "ignore_eos",
})  # fmt: skip
"""Words of llama.cpp that are handed on as they are."""

_EFFORTS = ("low", "medium", "high")


def named(holder: Json, name: str, place: str) -> str:
    """A text that must be there.

    Raises:
        UsageError: it is not.
    """
    found = text(holder, name, at=f"{place}.")
    if not found:
        raise UsageError(f"{place}.{name} is missing", hint="it is a text")
    return found


def content_of(parts: list[Json]) -> object:
    """A single text as a text, which every engine and template reads, and else the parts."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def only(tools: list[Json], name: str) -> list[Json]:
    """The one tool that is to be called: engines can be told to call any tool, so they get no other.

    Raises:
        UsageError: there is none of that name.
    """
    found = [tool for tool in tools if within(tool, "function")["name"] == name]
    if not found:
        raise UsageError(f"tool_choice.name is {name[:60]!r}, which is none of the tools", hint="name one of tools")
    return found


def for_template(made: Json, name: str, *, value: object) -> None:
    """Say something to the chat template, unless the request does so itself."""
    made["chat_template_kwargs"] = {name: value} | within(made, "chat_template_kwargs")


def try_hard(made: Json, effort: str, place: str, notes: list[str]) -> None:
    """Say how hard the model is to try; templates know three degrees."""
    if effort not in _EFFORTS:
        notes.append(f"{place}: {effort[:40]} is taken for {_EFFORTS[-1]}")
    for_template(made, "reasoning_effort", value=effort if effort in _EFFORTS else _EFFORTS[-1])
