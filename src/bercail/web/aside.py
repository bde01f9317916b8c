"""Side requests as they come in: what of them the rules look at."""

from typing import Any

import msgspec

from bercail.core.aside import Aside, substitutes
from bercail.core.chat import splice
from bercail.core.route import ServedModel
from bercail.ports import Lease
from bercail.web.asgi import Scope
from bercail.web.desk import Desk
from bercail.web.turn import Turn

ANSWERED_BY = b"x-bercail-model"
"""Header that names the model that answered, where it is not the one that was asked."""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | None = None


class _Peek(msgspec.Struct):
    """A request of plain text; one with tools, pictures or anything else is no side request."""

    messages: list[_Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    tools: list[Any] | None = None


_decoder = msgspec.json.Decoder(_Peek)


def look_aside(desk: Desk, turn: Turn, scope: Scope, model: ServedModel, body: bytes) -> None:
    """Note who may answer a chat instead of its model, if a rule says so."""
    rules = desk.host.side_rules()
    if not rules:
        return
    try:
        seen = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # whoever answers it says what is wrong with it
    if seen.tools or not seen.messages:
        return
    aside = Aside(
        name=model.asked or model.id,
        system=next((message.content or "" for message in seen.messages if message.role == "system"), ""),
        last=seen.messages[-1].content or "",
        headers={name.decode("latin-1"): value.decode("latin-1").strip() for name, value in scope["headers"]},
        max_tokens=seen.max_tokens or seen.max_completion_tokens or seen.n_predict,
        bytes=len(body),
    )
    turn.substitutes = substitutes(rules, aside, model, desk.sees(turn).models())


def told_aside(turn: Turn, model: ServedModel, lease: Lease) -> None:
    """Another model answers than the one that was asked: its name goes with the request and with the answer."""
    name = lease.model.id
    if not turn.substitutes or name == model.id:
        return
    turn.record.model = name
    turn.payload = splice(turn.payload, b'"model":' + msgspec.json.encode(name))
    header = (ANSWERED_BY, name.encode("ascii", "backslashreplace"))
    turn.headers.append(header)
    if turn.stream is not None:
        turn.stream.headers = [*turn.stream.headers, header]
