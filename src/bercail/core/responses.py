"""Requests to OpenAI's responses: read as far as they can be done, and put into the words of its chat."""

import json
from collections.abc import Mapping

from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.members import flag, items, member, text, within
from bercail.core.recast import OURS, Wish, carried, content_of, for_template, named, only, settled, try_hard

_SAME: Mapping[str, tuple[type, ...]] = {
    "model": (str,), "temperature": (int, float), "top_p": (int, float), "user": (str,),
}  # fmt: skip
_READ = frozenset({
    "input", "instructions", "max_output_tokens", "stream", "tools", "tool_choice", "parallel_tool_calls", "reasoning",
    "text", "metadata", "store", "truncation",
})  # fmt: skip
_PASSED_OVER = frozenset({
    "client_metadata", "include", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier",
    "stream_options", "top_logprobs",
})  # fmt: skip
_ELSEWHERE = {
    "previous_response_id": "no answer is kept here: send the whole conversation in input",
    "conversation": "no conversation is kept here: send the whole of it in input",
    "prompt": "no prompts are kept here: write it into instructions and input",
    "background": "ask for a stream, and wait for it",
}
_ROLES = ("user", "assistant", "system", "developer")
_SYSTEM = ("system", "developer")


def read(body: Json) -> Wish:
    """A request to ``/v1/responses`` or ``/v1/responses/input_tokens``.

    Raises:
        UsageError: a member has the wrong type, or asks for what cannot be done.
    """
    notes, made = list[str](), carried(body, _SAME, _ELSEWHERE)
    if (most := member(body, "max_output_tokens", int)) is not None:
        made["max_tokens"] = most
    made["messages"] = settled(_conversation(body), notes)
    made |= _tools(body, notes)
    _think(within(body, "reasoning"), made, notes)
    _shape(within(body, "text"), made, notes)
    _tell(body, notes)
    return Wish(
        body=made, stream=flag(body, "stream", absent=False), notes=tuple(dict.fromkeys(notes)), echo=_echo(body)
    )


def _tell(body: Json, notes: list[str]) -> None:
    """Say what is not done as asked."""
    if flag(body, "store", absent=False):
        notes.append("not heeded: store, for no answer is kept here")
    if text(body, "truncation") == "auto":
        notes.append("not heeded: truncation, for the server's own policy says whether a prompt is cut")
    known = _SAME.keys() | OURS | _READ | _PASSED_OVER | _ELSEWHERE.keys()
    if others := sorted(name for name in body.keys() - known if body[name] is not None):
        notes.append(f"not heeded: {', '.join(others)}"[:400])


def _echo(body: Json) -> Json:
    """What of a request its answer repeats; not what may be long."""
    same = ("temperature", "top_p", "max_output_tokens", "metadata", "parallel_tool_calls", "user")
    choice, shape = body.get("tool_choice"), within(within(body, "text"), "format").get("type")
    made: Json = {name: body[name] for name in same if body.get(name) is not None}
    made |= {"tool_choice": choice} if isinstance(choice, str) else {}
    return made | ({"text": {"format": {"type": shape}}} if shape else {})


def _conversation(body: Json) -> list[Json]:
    """The messages; one for each item, but for all that the model did in a row."""
    found = member(body, "input", str, list)
    if found is None:
        raise UsageError("input is missing", hint="it is a text or a list of items")
    made = list[Json]()
    if instructions := text(body, "instructions"):
        made.append({"role": "system", "content": instructions})
    if isinstance(found, str):
        made.append({"role": "user", "content": found})
    for at, item in enumerate(found if isinstance(found, list) else ()):
        _take(made, item, f"input[{at}]")
    return made


def _take(made: list[Json], item: object, place: str) -> None:
    """The next item of a conversation, which may go on with the model's last message."""
    if not isinstance(item, dict):
        raise UsageError(f"{place} must be an object", hint="such as a message with its role and content")
    match item.get("type"):
        case None | "message":
            _say(made, item, place)
        case "function_call":
            _call(made, item, place, text(item, "arguments", at=f"{place}."))
        case "custom_tool_call":
            words = {"input": text(item, "input", at=f"{place}.")}
            _call(made, item, place, json.dumps(words, ensure_ascii=False))
        case "function_call_output" | "custom_tool_call_output":
            content = _content(item, "output", place)
            made.append({"role": "tool", "tool_call_id": named(item, "call_id", place), "content": content})
        case "reasoning":
            _thought(made, item, place)
        case "item_reference":
            hint = "send the item itself; clients do so once they are told store: false"
            raise UsageError(f"{place} refers to an item of an earlier answer, and none is kept here", hint=hint)
        case kind:
            hint = "there are messages, reasoning, function_call and function_call_output"
            raise UsageError(f"{place}.type is {str(kind)[:60]!r}, an item that is not supported", hint=hint)


def _say(made: list[Json], item: Json, place: str) -> None:
    role = item.get("role")
    if role not in _ROLES:
        raise UsageError(f"{place}.role must be one of {', '.join(_ROLES)}", hint="see input")
    content = _content(item, "content", place)
    if role == "assistant":
        _turn(made, "content", "tool_calls")["content"] = content
    elif role in _SYSTEM:
        made.append({"role": "system", "content": _plain(content, place)})
    else:
        made.append({"role": role, "content": content})


def _plain(content: object, place: str) -> str:
    """What the system says: text alone."""
    if not isinstance(content, list):
        return str(content)
    if any(part["type"] != "text" for part in content):
        raise UsageError(f"{place}.content must be text", hint="send pictures and sound in messages of the user")
    return "\n\n".join(str(part["text"]) for part in content)


def _call(made: list[Json], item: Json, place: str, arguments: str) -> None:
    function = {"name": named(item, "name", place), "arguments": arguments}
    call: Json = {"id": named(item, "call_id", place), "type": "function", "function": function}
    message = _turn(made)
    message["tool_calls"] = [*items(message, "tool_calls"), call]


def _thought(made: list[Json], item: Json, place: str) -> None:
    """What the model thought; nothing where it is encrypted, which is not read here."""
    found = [*items(item, "content", at=f"{place}."), *items(item, "summary", at=f"{place}.")]
    words = "".join(str(part["text"]) for part in found if isinstance(part, dict) and isinstance(part.get("text"), str))
    if words:
        message = _turn(made, "content", "tool_calls")
        message["reasoning_content"] = text(message, "reasoning_content") + words


def _turn(made: list[Json], *closed: str) -> Json:
    """The model's message that goes on: the last one, unless it is another's or has one of these members already."""
    if not made or made[-1]["role"] != "assistant" or any(made[-1].get(name) for name in closed):
        made.append({"role": "assistant", "content": ""})
    return made[-1]


def _content(item: Json, name: str, place: str) -> object:
    found = member(item, name, str, list, at=f"{place}.")
    if found is None:
        raise UsageError(f"{place}.{name} is missing", hint="it is a text or a list of parts")
    if not isinstance(found, list):
        return found
    return content_of([_part(part, f"{place}.{name}[{at}]") for at, part in enumerate(found)])


def _part(part: object, place: str) -> Json:
    if not isinstance(part, dict):
        raise UsageError(f"{place} must be an object with a type", hint="such as a part of text")
    match part.get("type"):
        case "input_text" | "output_text" | "text" | "summary_text":
            return {"type": "text", "text": text(part, "text", at=f"{place}.")}
        case "refusal":
            return {"type": "text", "text": text(part, "refusal", at=f"{place}.")}
        case "input_image":
            return {"type": "image_url", "image_url": {"url": named(part, "image_url", place)}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": within(part, "input_audio", at=f"{place}.")}
        case kind:
            hint = "there are input_text, output_text, refusal, input_image and input_audio"
            raise UsageError(f"{place}.type is {str(kind)[:60]!r}, a part that is not supported", hint=hint)


def _tools(body: Json, notes: list[str]) -> Json:
    """The tools that the client runs itself; others are left out, and told."""
    tools: list[Json] = []
    for at, tool in enumerate(items(body, "tools")):
        if not isinstance(tool, dict):
            raise UsageError(f"tools[{at}] must be an object", hint="with type, name and parameters")
        if tool.get("type") == "function":
            tools.append(_tool(tool, f"tools[{at}]"))
        else:
            notes.append(f"left out: tools of type {str(tool.get('type'))[:40]}")
    made = _chosen(member(body, "tool_choice", str, dict), tools)
    if "tools" in made and (several := member(body, "parallel_tool_calls", bool)) is not None:
        made["parallel_tool_calls"] = several
    return made


def _tool(tool: Json, place: str) -> Json:
    parameters = within(tool, "parameters", at=f"{place}.") or {"type": "object", "properties": {}}
    function: Json = {
        "name": named(tool, "name", place),
        "description": text(tool, "description", at=f"{place}."),
        "parameters": parameters,
    }
    if flag(tool, "strict", absent=False, at=f"{place}."):
        function["strict"] = True
    return {"type": "function", "function": function}


def _chosen(choice: object, tools: list[Json]) -> Json:
    """The tools that may be called, and whether one must be."""
    found: Json = {"type": choice} if isinstance(choice, str) else choice if isinstance(choice, dict) else {}
    must = found.get("type") in ("required", "function") or found.get("mode") == "required"
    if must and not tools:
        raise UsageError("tool_choice asks for a tool, and there are none", hint="send tools of type function along")
    match found.get("type"):
        case None | "auto" | "none" | "required" as kind:
            return ({"tools": tools} | ({"tool_choice": kind} if kind else {})) if tools else {}
        case "function":
            return {"tools": only(tools, named(found, "name", "tool_choice")), "tool_choice": "required"}
        case "allowed_tools":
            names = {tool.get("name") for tool in items(found, "tools", at="tool_choice.") if isinstance(tool, dict)}
            allowed = [tool for tool in tools if within(tool, "function")["name"] in names]
            return _chosen(text(found, "mode", at="tool_choice.") or "auto", allowed)
        case kind:
            hint = "there are auto, none, required, function and allowed_tools"
            raise UsageError(f"tool_choice is {str(kind)[:60]!r}", hint=hint)


def _think(reasoning: Json, made: Json, notes: list[str]) -> None:
    """How hard the model is to try; what is not said is up to the model."""
    match text(reasoning, "effort", at="reasoning."):
        case "":
            pass
        case "none":
            for_template(made, "enable_thinking", value=False)
        case "minimal":
            for_template(made, "reasoning_effort", value="low")
        case effort:
            try_hard(made, effort, "reasoning.effort", notes)


def _shape(wanted: Json, made: Json, notes: list[str]) -> None:
    """What the answer must look like."""
    form = within(wanted, "format", at="text.")
    match form.get("type"):
        case None | "text":
            pass
        case "json_object":
            made["response_format"] = {"type": "json_object"}
        case "json_schema" if isinstance(form.get("schema"), dict):
            schema = {name: form[name] for name in ("name", "schema", "strict") if form.get(name) is not None}
            made["response_format"] = {"type": "json_schema", "json_schema": schema}
        case kind:
            hint = "there are text, json_object, and json_schema with its schema"
            raise UsageError(f"text.format is of type {str(kind)[:60]!r}", hint=hint)
    notes += [f"not heeded: text.{name}" for name in sorted(wanted) if name != "format" and wanted[name] is not None]
