"""Conversations to try a chat template with, and the verdict on what the engine's renderer made of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.launch import TemplateVerdict
from bercail.engines.failure import describe_exit
from bercail.engines.llama_cpp import output

Message: TypeAlias = Mapping[str, str]

WORD = "Paternoster"
"""Said by the user in every conversation: a prompt without it has lost the question."""

_USER: Message = {"role": "user", "content": f"Say {WORD}."}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up_weather",
        "description": "Tells the weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One conversation to render.

    Attributes:
        name: for people.
        required: chat is of no use if it cannot be rendered.
        body: of a POST to ``/apply-template``.
    """

    name: str
    required: bool
    body: bytes


def _trial(name: str, *messages: Message, required: bool = True, tools: bool = False) -> Trial:
    body = {"messages": messages, **({"tools": [_TOOL]} if tools else {})}
    return Trial(name=name, required=required, body=json.dumps(body).encode())


# Neither a system message nor tools are for every model: a template may refuse them and still serve to chat.
TRIALS = (
    _trial("one user message", _USER),
    _trial("a conversation of three messages", _USER, {"role": "assistant", "content": "Yes."}, _USER),
    _trial("a system message", {"role": "system", "content": "Be brief."}, _USER, required=False),
    _trial("tools", _USER, required=False, tools=True),
)


def judge_answer(trial: Trial, status: int, body: bytes) -> str:
    """What is wrong with the rendering of ``trial``, in words; empty if nothing is."""
    try:
        said = json.loads(body)
    except ValueError:
        return f"{trial.name}: the renderer's answer cannot be read"
    if status != 200:
        error = said.get("error") if isinstance(said, dict) else None
        message = str(error.get("message", "")) if isinstance(error, dict) else ""
        return f"{trial.name}: {output.template_complaint(message) or message[:300] or f'status {status}'}"
    prompt = said.get("prompt") if isinstance(said, dict) else None
    if not isinstance(prompt, str) or WORD.lower() not in prompt.lower():
        return f"{trial.name}: what the user said is not in the prompt"
    return ""


def judge_failure(log: tuple[str, ...], exit_code: int) -> TemplateVerdict:
    """The verdict when the engine did not survive loading the template."""
    text = "\n".join(log)
    malformed = "failed to initialize chat template" in text
    complaint = output.template_complaint(text) if "chat template" in text else ""
    if malformed and (not complaint or complaint.startswith("std::")):
        complaint = "it is not a valid template"
    why = complaint or f"the engine's renderer broke down on it: {describe_exit(exit_code)}"
    return TemplateVerdict(usable=False, why=why, malformed=malformed)


def handles_tools(props: bytes) -> bool:
    """Whether the renderer found that the template writes tools down itself, from the answer of ``/props``."""
    try:
        caps = json.loads(props).get("chat_template_caps", {})
    except (ValueError, AttributeError):
        return False
    return isinstance(caps, dict) and caps.get("supports_tools") is True
