"""Requests in Ollama's dialect, read and put into the words of our engines."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bercail.core.chat import Json
from bercail.core.errors import UsageError
from bercail.core.keys import parse_duration
from bercail.core.members import flag, items, member, text, within
from bercail.core.model import Capability
from bercail.core.route import ServedModel
from bercail.core.units import Seconds


class Way(StrEnum):
    """Which endpoint of the engine answers; the value is its path."""

    CHAT = "/v1/chat/completions"
    TEXT = "/v1/completions"
    NONE = ""
    """Nothing is to be generated: the model is to be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request in Ollama's words, read.

    Attributes:
        model: as the client wrote it.
        body: for the engine, without what the gateway adds.
        needs: what the model must be able to do, with Ollama's word for it.
        options: of the client, for what is to be told of them.
        stay_s: how long the model is to stay in memory unused; infinity for ever, None if that is not said.
        cut: what is too long is to be cut, says the client.
    """

    model: str
    way: Way
    body: Json
    stream: bool = True
    needs: Mapping[Capability, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    stay_s: Seconds | None = None
    cut: bool = False

    @property
    def gap(self) -> bool:
        """What is asked for has a text before it and one after it."""
        return "suffix" in self.body

    @property
    def unloads(self) -> bool:
        """Nothing is asked but to unload the model."""
        return self.way is Way.NONE and self.stay_s == 0


_SAME = frozenset({
    "temperature", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta",
})  # fmt: skip
_RENAMED = {"typical_p": "typical_p", "num_predict": "n_predict", "num_keep": "n_keep", "stop": "stop"}


def read_chat(body: Json) -> Wish:
    """A request to ``/api/chat``.

    Raises:
        UsageError: a member has the wrong type, or asks for what cannot be done.
    """
    messages = _messages(body)
    made = _common(body)
    made["messages"] = messages
    tools = items(body, "tools")
    if tools:
        made["tools"] = tools
    _think(body, made)
    return _wish(body, Way.CHAT if messages else Way.NONE, made, _needs(body))


def read_generate(body: Json) -> Wish:
    """A request to ``/api/generate``: a question, a text to go on with (``raw``), or a gap to fill (``suffix``).

    Raises:
        UsageError: a member has the wrong type, or asks for what cannot be done.
    """
    for name, instead in (("template", "raw: true with the whole prompt"), ("context", "/api/chat with all messages")):
        if member(body, name, str, list):
            raise UsageError(f"{name} is not supported", hint=f"use {instead}")
    prompt = text(body, "prompt")
    suffix = text(body, "suffix")
    images = items(body, "images")
    made = _common(body)
    if not prompt and not suffix and not images:
        return _wish(body, Way.NONE, made, {})
    if suffix:
        made |= {"prompt": prompt, "suffix": suffix}
        return _wish(body, Way.TEXT, made, {Capability.INFILL: "insert"})
    if flag(body, "raw", absent=False):
        made["prompt"] = prompt
        return _wish(body, Way.TEXT, made, {Capability.COMPLETION: "generate"})
    system = text(body, "system")
    said: list[Json] = [{"role": "system", "content": system}] if system else []
    made["messages"] = [*said, {"role": "user", "content": _content(prompt, images)}]
    _think(body, made)
    return _wish(body, Way.CHAT, made, {**_needs(body), Capability.CHAT: "chat; it completes with raw: true"})


def read_embed(body: Json, name: str) -> Wish:
    """A request for embeddings of what stands in ``name``.

    Raises:
        UsageError: it is no text and no list of texts, or another size is asked for.
    """
    texts = member(body, name, str, list) or ""
    if isinstance(texts, list) and not all(isinstance(one, str) for one in texts):
        raise UsageError(f"{name} must be a text or a list of texts", hint="tokens are not taken")
    if member(body, "dimensions", int):
        raise UsageError("dimensions cannot be chosen", hint="leave it out: the model has a size of its own")
    made: Json = {"model": model_in(body), "input": texts}
    return _wish(body, Way.NONE, made, {})


def model_in(body: Json) -> str:
    """The name of the model, which older clients write as ``name``.

    Raises:
        UsageError: it is no text.
    """
    return text(body, "model") or text(body, "name")


def found_name(name: str, known: Callable[[str], bool]) -> str:
    """A name without the tag that clients of Ollama add by themselves, where only that one is known."""
    plain = name.removesuffix(":latest")
    return plain if not known(name) and known(plain) else name


def notes(wish: Wish, model: ServedModel) -> tuple[str, ...]:
    """What of a request is not done, or was done otherwise, in words for the client and the log."""
    options = wish.options
    told: list[str] = []
    asked, loaded = options.get("num_ctx"), model.slot_context_tokens
    if isinstance(asked, int) and loaded is not None and asked > loaded:
        told.append(f"num_ctx {asked} is not loaded: a request has {loaded} tokens, longer ones are refused")
    others = sorted(name for name in options if name not in _SAME and name not in _RENAMED and name != "num_ctx")
    if others:
        told.append(f"not changed by a request: {', '.join(others)}"[:400])
    if wish.cut:
        told.append("truncate is not heeded: nothing is cut, what is too long is refused")
    return tuple(told)


def lacking(wish: Wish, model: ServedModel) -> str:
    """What the model cannot do of what is asked, in Ollama's words; empty if nothing, or if that is not known yet."""
    if not model.capabilities:
        return ""
    for capability, word in wish.needs.items():
        if capability not in model.capabilities:
            return f'"{model.id}" does not support {word}'
    return ""


def _wish(body: Json, way: Way, made: Json, needs: Mapping[Capability, str]) -> Wish:
    return Wish(
        model=model_in(body),
        way=way,
        body=made,
        stream=flag(body, "stream", absent=True),
        needs=needs,
        options=within(body, "options"),
        stay_s=_stay_s(member(body, "keep_alive", int, float, str)),
        cut=flag(body, "truncate", absent=False),
    )


def _stay_s(said: object) -> Seconds | None:
    """Seconds from a number of them, or a duration as Go writes it; what is negative is for ever.

    Raises:
        UsageError: it is neither.
    """
    words = "" if said is None else str(said).strip()
    if not words:
        return None
    try:
        stay_s = parse_duration(words.removeprefix("-")) if words[-1].isalpha() else abs(float(words))
    except ValueError:
        stay_s = math.nan
    if not math.isfinite(stay_s):
        raise UsageError(f"keep_alive is {said!r}, no duration", hint="write seconds, or 10m, or -1 for ever")
    return math.inf if words.startswith("-") else stay_s


def _needs(body: Json) -> Mapping[Capability, str]:
    thinks = {Capability.THINKING: "thinking"} if body.get("think") else {}
    return {Capability.CHAT: "chat"} | thinks


def _common(body: Json) -> Json:
    """Options and format."""
    made: Json = {"model": model_in(body)}
    for name, value in within(body, "options").items():
        if value is not None and (name in _SAME or name in _RENAMED):
            made[_RENAMED.get(name, name)] = value
    form = member(body, "format", str, dict)
    if isinstance(form, dict):
        made["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
    elif form == "json":
        made["response_format"] = {"type": "json_object"}
    elif form:
        raise UsageError(f"format {str(form)[:40]!r} is not known", hint='write "json", or a JSON schema as an object')
    return made


def _think(body: Json, made: Json) -> None:
    """Whether, and how hard, the model is to think before it answers."""
    think = member(body, "think", bool, str)
    if isinstance(think, bool):
        made["chat_template_kwargs"] = {"enable_thinking": think}
    elif think is not None:
        made["chat_template_kwargs"] = {"enable_thinking": True, "reasoning_effort": think}


def _messages(body: Json) -> list[Json]:
    made: list[Json] = []
    calls: list[tuple[str, str]] = []
    for at, message in enumerate(items(body, "messages")):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UsageError(f"messages[{at}] must be an object with a role", hint="such as user or assistant")
        made.append(_message(message, calls))
    return made


def _message(message: Json, calls: list[tuple[str, str]]) -> Json:
    """One message; ``calls`` are ids and names of calls that have no result yet."""
    made: Json = {"role": message["role"], "content": _content(text(message, "content"), items(message, "images"))}
    if thinking := text(message, "thinking"):
        made["reasoning_content"] = thinking
    if asked := items(message, "tool_calls"):
        made["tool_calls"] = [_call(call, calls) for call in asked]
    if made["role"] == "tool":
        name = text(message, "tool_name") or text(message, "name")
        made["tool_call_id"] = text(message, "tool_call_id") or _taken(name, calls)
    return made


def _call(call: object, calls: list[tuple[str, str]]) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UsageError("a tool call must be an object with a function that has a name", hint="see tool_calls")
    given = call.get("id")
    name = str(function["name"])
    identity = given if isinstance(given, str) and given else f"call_{len(calls)}_{name}"
    calls.append((identity, name))
    arguments = function.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": written}}


def _taken(name: str, calls: list[tuple[str, str]]) -> str:
    """The id of the first call of that name that has no result yet, else of the first call at all."""
    at = next((at for at, (_, called) in enumerate(calls) if called == name), 0)
    return calls.pop(at)[0] if calls else "call_0"


_KINDS = {"iVBOR": "png", "R0lGOD": "gif", "UklGR": "webp"}


def _content(words: str, images: list[object]) -> object:
    """Text alone, or with pictures, which Ollama's clients send as bare base64."""
    if not images:
        return words
    parts: list[Json] = [{"type": "text", "text": words}] if words else []
    for image in images:
        if not isinstance(image, str):
            raise UsageError("images must be texts in base64", hint="send the bytes of each image in base64")
        kind = next((kind for start, kind in _KINDS.items() if image.startswith(start)), "jpeg")
        url = image if ":" in image[:16] else f"data:image/{kind};base64,{image}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts
