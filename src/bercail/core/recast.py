"""Requests of other dialects put into the words of OpenAI's chat: what these dialects share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.members import member, text, within


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


def carried(body: Json, same: Mapping[str, tuple[type, ...]], elsewhere: Mapping[str, str]) -> Json:
    """What a chat words as the dialect does: the members ``same``, each of its types, and llama.cpp's own.

    Raises:
        UsageError: one has another type, or there is one of ``elsewhere``, whose value says what to do instead.
    """
    for name, hint in elsewhere.items():
        if body.get(name):
            raise UsageError(f"{name} is not supported", hint=hint)
    made: Json = {name: body[name] for name, kinds in same.items() if member(body, name, *kinds) is not None}
    return made | {name: value for name, value in body.items() if name in OURS and value is not None}


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


def settled(messages: list[Json], notes: list[str]) -> list[Json]:
    """Messages as nearly every chat template takes them: the system speaks first and once, then never twice the user.

    What the system says later becomes the user's, marked as a reminder of the system.

    Args:
        messages: of a chat; those of the system hold text alone.
        notes: hear of it.
    """
    made: list[Json] = []
    for message in messages:
        if message["role"] == "system" and any(one["role"] != "system" for one in made):
            notes.append("what the system says after others is told as a part of what the user says")
            words = f"<system-reminder>\n{message['content']}\n</system-reminder>"
            message = {"role": "user", "content": words}
        if made and made[-1]["role"] == message["role"] in ("system", "user"):
            made[-1] = message | {"content": _joined(made[-1], message)}
        else:
            made.append(message)
    return made


def _joined(first: Json, second: Json) -> object:
    if first["role"] == "system":
        return f"{first['content']}\n\n{second['content']}"
    return [part for one in (first, second) for part in _parts(one["content"])]


def _parts(content: object) -> list[Json]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


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
