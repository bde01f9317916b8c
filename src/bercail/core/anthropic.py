"""Requests in Anthropic's dialect, read and put into the words of OpenAI's chat, which every engine speaks."""

import json
from collections.abc import Iterable, Iterator, Mapping

from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.members import flag, items, member, text, within
from bercail.core.recast import OURS, Wish, carried, content_of, for_template, named, only, settled, try_hard

BILLING = "x-anthropic-billing-header:"
"""How a block of the system prompt begins that some clients fill anew for every request."""


_SAME: Mapping[str, tuple[type, ...]] = {
    "model": (str,), "max_tokens": (int,), "temperature": (int, float), "top_p": (int, float), "top_k": (int,),
}  # fmt: skip
_READ = frozenset({
    "messages", "system", "stop_sequences", "stream", "tools", "tool_choice", "thinking", "metadata", "output_config",
    "output_format", "cache_control",
})  # fmt: skip
_ELSEWHERE = {
    "mcp_servers": "nothing here calls servers of tools: call them yourself, and send their tools in tools",
    "container": "nothing is run here: leave it out",
}


def read(body: Json) -> Wish:
    """A request to ``/v1/messages`` or ``/v1/messages/count_tokens``.

    ``cache_control`` asks for what engines do by themselves, and is passed over.

    Raises:
        UsageError: a member has the wrong type, or asks for what cannot be done.
    """
    notes, made = list[str](), carried(body, _SAME, _ELSEWHERE)
    stops = _stops(body)
    made["messages"] = settled([*_system(without_billing(body)), *_messages(body, notes)], notes)
    if stops:
        made["stop"] = list(stops)
    if user := member(within(body, "metadata"), "user_id", str, at="metadata."):
        made["user"] = user
    made |= _tools(body, notes)
    _think(body, made, notes)
    _output(body, made, notes)
    if others := sorted(body.keys() - _SAME.keys() - OURS - _READ - _ELSEWHERE.keys()):
        notes.append(f"not heeded: {', '.join(others)}"[:400])
    return Wish(body=made, stream=flag(body, "stream", absent=False), stops=stops, notes=tuple(dict.fromkeys(notes)))


def without_billing(body: Json) -> Json:
    """A request without blocks that only count.

    They stand before everything else, so that with them no prompt would be found in the engine's cache.
    """
    system = body.get("system")
    if isinstance(system, list):
        return body | {"system": [block for block in system if not _is_billing(block)]}
    if isinstance(system, str) and system.startswith(BILLING):
        return body | {"system": system.partition("\n")[2]}
    return body


def _is_billing(block: object) -> bool:
    words = block.get("text") if isinstance(block, dict) else None
    return isinstance(words, str) and words.startswith(BILLING)


def _stops(body: Json) -> tuple[str, ...]:
    found = items(body, "stop_sequences")
    if not all(isinstance(one, str) for one in found):
        raise UsageError("stop_sequences must be a list of texts", hint="something in it is none")
    return tuple(one for one in found if isinstance(one, str) and one)


def _system(body: Json) -> list[Json]:
    """The system prompt; its blocks follow one another without anything between, as in llama.cpp."""
    system = member(body, "system", str, list)
    if isinstance(system, list):
        blocks = _blocks(system, "system")
        system = "".join(_text_in(block, place) for block, place in blocks)
    return [{"role": "system", "content": system}] if system else []


def _messages(body: Json, notes: list[str]) -> list[Json]:
    made: list[Json] = []
    for at, message in enumerate(items(body, "messages")):
        place = f"messages[{at}]"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise UsageError(f"{place} must be an object whose role is user, assistant or system", hint="see messages")
        made += _message(message, place, notes)
    return made


def _message(message: Json, place: str, notes: list[str]) -> list[Json]:
    role, content = message["role"], member(message, "content", str, list, at=f"{place}.")
    if content is None:
        raise UsageError(f"{place}.content is missing", hint="it is a text or a list of blocks")
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    blocks = _blocks(content, f"{place}.content")
    if role == "user":
        return _heard(blocks, notes)
    if role == "assistant":
        return [_said(blocks)]
    return [{"role": role, "content": "\n".join(_text_in(*one) for one in blocks)}]


def _blocks(found: list[object], place: str) -> Iterator[tuple[Json, str]]:
    """Blocks with their places."""
    for at, block in enumerate(found):
        if not isinstance(block, dict):
            raise UsageError(f"{place}[{at}] must be an object with a type", hint="such as a block of text")
        yield block, f"{place}[{at}]"


def _said(blocks: Iterable[tuple[Json, str]]) -> Json:
    """A message of the model: what it thought, what it said, what it called."""
    thoughts, parts, calls = list[str](), list[Json](), list[Json]()
    for block, place in blocks:
        match block.get("type"):
            case "thinking":
                thoughts.append(text(block, "thinking", at=f"{place}."))
            case "tool_use":
                calls.append(_call(block, place))
            case _:
                parts.append(_part(block, place))
    made: Json = {"role": "assistant", "content": content_of(parts)}
    made |= {"reasoning_content": "".join(thoughts)} if any(thoughts) else {}
    return made | ({"tool_calls": calls} if calls else {})


def _call(block: Json, place: str) -> Json:
    # As llama.cpp writes it, for it is a part of the prompt.
    arguments = json.dumps(within(block, "input", at=f"{place}."), ensure_ascii=False, separators=(",", ":"))
    function = {"name": named(block, "name", place), "arguments": arguments}
    return {"id": named(block, "id", place), "type": "function", "function": function}


def _heard(blocks: Iterable[tuple[Json, str]], notes: list[str]) -> list[Json]:
    """A message of the user; results of tools are messages of their own, in their order."""
    made, parts = list[Json](), list[Json]()
    for block, place in blocks:
        if block.get("type") != "tool_result":
            parts.append(_part(block, place))
            continue
        if parts:
            made.append({"role": "user", "content": content_of(parts)})
            parts = []
        made.append(_result(block, place))
        if block.get("is_error") is True:
            notes.append("is_error is not told apart: the model reads the result as it is")
    return [*made, {"role": "user", "content": content_of(parts)}] if parts or not made else made


def _result(block: Json, place: str) -> Json:
    found = member(block, "content", str, list, at=f"{place}.")
    content: object = found or ""
    if isinstance(found, list):
        parts = [_part(*one) for one in _blocks(found, f"{place}.content")]
        plain = all(part["type"] == "text" for part in parts)
        content = "".join(str(part["text"]) for part in parts) if plain else parts
    return {"role": "tool", "tool_call_id": named(block, "tool_use_id", place), "content": content}


def _part(block: Json, place: str) -> Json:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": _text_in(block, place)}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image(within(block, "source", at=f"{place}."), place)}}
        case kind:
            hint = "there are text and image, thinking and tool_use of the assistant, and tool_result of the user"
            raise UsageError(f"{place}.type is {str(kind)[:60]!r}, a block that is not supported there", hint=hint)


def _text_in(block: Json, place: str) -> str:
    if block.get("type") != "text" or not isinstance(block.get("text"), str):
        raise UsageError(f"{place} must be a block of text", hint='write {"type": "text", "text": "..."}')
    if block.get("citations"):
        raise UsageError(f"{place}.citations is not supported", hint="leave it out: nothing is cited here")
    return str(block["text"])


def _image(source: Json, place: str) -> str:
    match source.get("type"):
        case "base64":
            kind = text(source, "media_type", at=f"{place}.source.") or "image/jpeg"
            return f"data:{kind};base64,{named(source, 'data', f'{place}.source')}"
        case "url":
            return named(source, "url", f"{place}.source")
        case kind:
            raise UsageError(
                f"{place}.source.type is {str(kind)[:60]!r}: no such files are kept here", hint="send it as base64"
            )


def _tools(body: Json, notes: list[str]) -> Json:
    tools = [_tool(tool, f"tools[{at}]", notes) for at, tool in enumerate(items(body, "tools"))]
    choice = within(body, "tool_choice")
    made: Json = {"tools": tools} if tools else {}
    if flag(choice, "disable_parallel_tool_use", absent=False, at="tool_choice."):
        made["parallel_tool_calls"] = False
    match choice.get("type"):
        case "auto" | "none" as kind:
            return made | ({"tool_choice": kind} if tools else {})
        case "any" | "tool" if not tools:
            raise UsageError("tool_choice asks for a tool, and there are none", hint="send tools along")
        case "any":
            return made | {"tool_choice": "required"}
        case "tool":
            return made | {"tool_choice": "required", "tools": only(tools, named(choice, "name", "tool_choice"))}
        case None if not choice:
            return made
        case kind:
            raise UsageError(f"tool_choice.type is {str(kind)[:60]!r}", hint="there are auto, any, tool and none")


_TOOL = frozenset({"name", "description", "input_schema", "strict", "type", "cache_control", "eager_input_streaming"})


def _tool(tool: object, place: str, notes: list[str]) -> Json:
    if not isinstance(tool, dict):
        raise UsageError(f"{place} must be an object", hint="with name, description and input_schema")
    if tool.get("type") not in (None, "custom"):
        what = f"{place}.type is {str(tool['type'])[:60]!r}: tools that Anthropic runs or defines are not to be had"
        raise UsageError(what, hint="describe a tool of your own, with name, description and input_schema")
    if not isinstance(tool.get("input_schema"), dict):
        raise UsageError(f"{place}.input_schema must be an object", hint="it is the JSON schema of what the tool takes")
    function: Json = {
        "name": named(tool, "name", place),
        "description": text(tool, "description", at=f"{place}."),
        "parameters": tool["input_schema"],
    }
    if flag(tool, "strict", absent=False, at=f"{place}."):
        function["strict"] = True
    notes += [f"not heeded: tools[].{name}" for name in sorted(tool) if name not in _TOOL and tool[name]]
    return {"type": "function", "function": function}


def _think(body: Json, made: Json, notes: list[str]) -> None:
    """Whether, and for how many tokens, the model is to think; what is not said is up to the model."""
    thinking = within(body, "thinking")
    match thinking.get("type"):
        case "enabled" | "adaptive":
            for_template(made, "enable_thinking", value=True)
        case "disabled":
            for_template(made, "enable_thinking", value=False)
        case None if not thinking:
            pass
        case kind:
            raise UsageError(f"thinking.type is {str(kind)[:60]!r}", hint="there are enabled, adaptive and disabled")
    if budget := member(thinking, "budget_tokens", int, at="thinking."):
        made["thinking_budget_tokens"] = budget
    notes += [f"not heeded: thinking.{name}" for name in sorted(thinking) if name not in ("type", "budget_tokens")]


def _output(body: Json, made: Json, notes: list[str]) -> None:
    """How hard the model is to try, and what its answer must look like."""
    config = within(body, "output_config")
    if effort := text(config, "effort", at="output_config."):
        try_hard(made, effort, "output_config.effort", notes)
    form = within(config, "format", at="output_config.") or within(body, "output_format")
    if form:
        if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
            raise UsageError("the format of the output must be of type json_schema, with its schema", hint="see format")
        schema = {"name": "answer", "schema": form["schema"]}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    notes += [f"not heeded: output_config.{name}" for name in sorted(config) if name not in ("effort", "format")]
