"""Conversations and texts made shorter by a policy that asks for it: what may be left out, in which order it goes.

Messages are those of OpenAI's chat, of its responses and of Anthropic: what differs is how each writes a tool's result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from bercail.core.chat import Json
from bercail.core.overflow import Overflow
from bercail.core.units import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """How much of a request was left out.

    Attributes:
        messages: 0 for a text without any.
        tokens: by the engine's own count, before less after.
    """

    messages: int
    tokens: Tokens

    def __str__(self) -> str:
        return f"messages={self.messages}, tokens={self.tokens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """Where the messages of an endpoint's requests stand, and who counts their tokens.

    Attributes:
        member: of the request.
        counter: the path at the engine that counts a request of the same shape.
    """

    member: str
    counter: str


CONVERSATIONS: Mapping[str, Conversations] = {
    "/v1/chat/completions": Conversations(member="messages", counter="/v1/chat/completions/input_tokens"),
    "/v1/messages": Conversations(member="messages", counter="/v1/messages/count_tokens"),
    "/v1/responses": Conversations(member="input", counter="/v1/responses/input_tokens"),
}
"""Endpoints whose requests are conversations, by their path at the engine."""

TEXTS = frozenset(("/v1/completions", "/completion"))
"""Endpoints whose requests are one text."""

_ANSWER = ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict")
_SHARE = 4


def room(body: Json, context_tokens: Tokens) -> Tokens:
    """Tokens that a prompt is cut down to: what the answer may take is left free, a quarter of the context at most."""
    asked = (body.get(name) for name in _ANSWER)
    counts = [count for count in asked if isinstance(count, int) and not isinstance(count, bool) and count > 0]
    most = context_tokens // _SHARE
    return context_tokens - max(1, min([most, *counts]))


class _Kind(StrEnum):
    SYSTEM = "system"
    USER = "user"
    MODEL = "model"
    RESULT = "result"


def _kind(item: object) -> _Kind:
    if not isinstance(item, Mapping):
        return _Kind.USER
    role, kind = item.get("role"), item.get("type")
    if role in ("system", "developer"):
        return _Kind.SYSTEM
    if role in ("tool", "function") or str(kind).endswith("_output") or any(_results(item)):
        return _Kind.RESULT
    return _Kind.USER if role == "user" else _Kind.MODEL


def _blocks(item: Mapping[str, object], name: str, kind: str = "") -> Iterator[Mapping[str, object]]:
    found = item.get(name)
    for block in found if isinstance(found, list) else ():
        if isinstance(block, Mapping) and (not kind or block.get("type") == kind):
            yield block


def _calls(item: object) -> Iterator[object]:
    """The ids of the calls that a message makes."""
    if isinstance(item, Mapping):
        yield from (call.get("id") for call in _blocks(item, "tool_calls"))
        yield from (call.get("id") for call in _blocks(item, "content", "tool_use"))
        if str(item.get("type")).endswith("_call"):
            yield item.get("call_id")


def _results(item: Mapping[str, object]) -> Iterator[object]:
    """The ids of the calls whose results a message holds."""
    if item.get("role") == "tool":
        yield item.get("tool_call_id")
    yield from (result.get("tool_use_id") for result in _blocks(item, "content", "tool_result"))
    if str(item.get("type")).endswith("_output"):
        yield item.get("call_id")


def _spans(items: Sequence[object]) -> Iterator[tuple[int, int]]:
    """From each call to its result."""
    made: dict[str, int] = {}
    for index, item in enumerate(items):
        results = _results(item) if isinstance(item, Mapping) else ()
        yield from ((made[call], index) for call in results if isinstance(call, str) and call in made)
        made |= {call: index for call in _calls(item) if isinstance(call, str)}


def _head(items: Sequence[object]) -> int:
    """How many messages the system prompt is."""
    return next((index for index, item in enumerate(items) if _kind(item) is not _Kind.SYSTEM), len(items))


def _steps(items: Sequence[object]) -> list[range]:
    """What stays together, after the system prompt: a user's words; the model's words and calls, with the results."""
    kinds, head = [_kind(item) for item in items], _head(items)
    inside = {index for first, last in _spans(items) for index in range(first + 1, last + 1)}
    begins = [
        index
        for index in range(head, len(items))
        if index == head
        or (
            index not in inside
            and kinds[index] is not _Kind.RESULT
            and not (kinds[index] is _Kind.MODEL and kinds[index - 1] is _Kind.MODEL)
        )
    ]
    return [range(begin, end) for begin, end in pairwise([*begins, len(items)])]


def _turns(items: Sequence[object], steps: Sequence[range]) -> list[list[range]]:
    """Steps by the message of a user that they follow."""
    turns: list[list[range]] = []
    for step in steps:
        if not turns or _kind(items[step.start]) is _Kind.USER:
            turns.append([])
        turns[-1].append(step)
    return turns


def droppable(items: Sequence[object], policy: Overflow) -> tuple[range, ...]:
    """What of a conversation may be left out, in the order in which it goes: whole turns, then steps of the last one.

    The system prompt at the beginning, the last message of a user and the last message of all stay, a call and its
    results go together, and ``trim-middle`` also keeps the first exchange.

    Args:
        items: the messages.
        policy: ``error`` leaves nothing out.
    """
    steps = _steps(items)
    if policy is Overflow.ERROR or not steps:
        return ()
    turns = _turns(items, steps)
    *earlier, last = turns
    users = [index for index, item in enumerate(items) if _kind(item) is _Kind.USER]
    asked = users[-1] if users else last[0].start
    rest = [step for step in last[1:-1] if asked not in step]
    if policy is Overflow.TRIM_MIDDLE:
        first = next((number for number, turn in enumerate(earlier, 1) if _answers(items, turn)), None)
        earlier, rest = (earlier[first:], rest) if first is not None else ([], rest[1:])
    return (*(range(turn[0].start, turn[-1].stop) for turn in earlier), *rest)


def _answers(items: Sequence[object], turn: Sequence[range]) -> bool:
    return any(_kind(items[index]) is _Kind.MODEL for step in turn for index in step)


def without(items: Sequence[object], left_out: Sequence[range]) -> list[object]:
    """A conversation without these parts of it."""
    gone = {index for part in left_out for index in part}
    return [item for index, item in enumerate(items) if index not in gone]


def cut(tokens: Sequence[int], most: Tokens, policy: Overflow) -> tuple[list[int], list[int]]:
    """The beginning and the end of a text, ``most`` tokens together; ``trim-oldest`` keeps no beginning.

    Args:
        tokens: more than ``most``.
        most: 1 or more.
        policy: not ``error``.
    """
    begin = most // 2 if policy is Overflow.TRIM_MIDDLE else 0
    return list(tokens[:begin]), list(tokens[len(tokens) - (most - begin) :])


def note(answer: Json, trimmed: Trimmed) -> bool:
    """Write into an answer, or an event of one, how much was left out; False if it is not one that tells counts."""
    for holder in (answer, answer.get("message"), answer.get("response")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            usage |= {"trimmed_messages": trimmed.messages, "trimmed_tokens": trimmed.tokens}
            return True
    if answer.get("stop") is True or answer.get("done") is True:
        answer |= {"trimmed_messages": trimmed.messages, "trimmed_tokens": trimmed.tokens}
        return True
    return False
