"""Small requests beside a conversation (titles, tags): which they are, and who may answer them instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bercail.core.configuration import SideRule
from bercail.core.model import Capability
from bercail.core.route import Phase, ServedModel
from bercail.core.units import Bytes, Tokens

BYTES_PER_TOKEN = 2
"""Fewer than prompts have (3 to 4 in most languages): what is thought to fit does fit."""
_TASK = "### task:"
"""How every task prompt of Open WebUI begins, titles, tags, follow-ups, queries and completions alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What rules look at in a request.

    Attributes:
        name: of the model that is asked for, as the client wrote it.
        system: its system prompt; empty without one.
        last: its last message.
        headers: by name in lower case.
        max_tokens: of the answer; None if it does not say.
        bytes: of the whole request.
    """

    name: str
    system: str
    last: str
    bytes: Bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    max_tokens: Tokens | None = None


def matches(rule: SideRule, aside: Aside) -> bool:
    """Whether all that a rule says holds of a request."""
    texts = (aside.system.lower(), aside.last.lower())
    return (
        (rule.max_tokens is None or (aside.max_tokens is not None and aside.max_tokens <= rule.max_tokens))
        and (not rule.names or aside.name in rule.names)
        and all(aside.headers.get(name) == value for name, value in rule.headers.items())
        and (not rule.clients or texts[1].lstrip().startswith(_TASK))
        and (not rule.prompts or any(prompt.lower() in text for prompt in rule.prompts for text in texts))
    )


def substitutes(
    rules: Sequence[SideRule], aside: Aside, asked: ServedModel, models: Sequence[ServedModel]
) -> tuple[str, ...]:
    """Ids of the models that may answer a request, the best first; none if its own is there, or no rule is for it.

    Args:
        rules: the first that matches counts.
        aside: the request.
        asked: the model that it is for.
        models: those that its sender may use.
    """
    rule = next((rule for rule in rules if matches(rule, aside)), None)
    if rule is None or asked.phase is Phase.LOADED:
        return ()
    able = {model.id: model for model in models if model.id != asked.id and _able(model, aside, asked)}
    if rule.models:
        return tuple(name for name in rule.models if name in able)
    chatting = [model for model in able.values() if Capability.CHAT in model.capabilities]
    return tuple(model.id for model in sorted(chatting, key=lambda model: model.requests + model.waiting))


def _able(model: ServedModel, aside: Aside, asked: ServedModel) -> bool:
    """Whether a model is in memory and takes such a request, written as it is for the model that was asked."""
    room, needed = model.slot_context_tokens, aside.bytes // BYTES_PER_TOKEN + (aside.max_tokens or 0)
    return (
        model.phase is Phase.LOADED
        and not model.chat_refusal
        and (not model.capabilities or Capability.CHAT in model.capabilities)
        and model.plain == asked.plain
        and (room is None or needed <= room)
    )
