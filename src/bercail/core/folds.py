"""Streams of engines in other dialects than OpenAI's chat, folded into the one answer they stand for."""

import json
from typing import Protocol, assert_never

from bercail.core.chat import Json
from bercail.core.dialect import Shape
from bercail.core.errors import EngineError
from bercail.core.units import Tokens


class StreamFold(Protocol):
    """Takes in the events of a stream."""

    @property
    def begun(self) -> bool:
        """There is something of an answer."""
        ...

    @property
    def complete(self) -> bool:
        """The stream has come to its end."""
        ...

    def add(self, event: Json) -> None:
        """Take in the next event."""
        ...

    def answer(self) -> Json:
        """The answer so far."""
        ...

    def counts(self) -> tuple[Tokens, Tokens] | None:
        """Prompt tokens worked through and tokens generated, or None if the stream did not tell."""
        ...


def fold_of(shape: Shape) -> StreamFold:
    """What folds streams of that shape."""
    match shape:
        case Shape.MESSAGES:
            return MessagesFold()
        case Shape.RESPONSES:
            return ResponsesFold()
        case Shape.NATIVE:
            return NativeFold()
        case _ as unreachable:
            assert_never(unreachable)


def arguments_of(text: str) -> object:
    """The arguments of a tool call as an object.

    Raises:
        EngineError: they are not JSON, which a model cut short may write.
    """
    try:
        found: object = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise EngineError(
            f"the model called a tool with arguments that are not JSON: {text[:200]}",
            hint="allow a longer answer, or ask again",
            code="tool_arguments",
        ) from error
    return found


class MessagesFold:
    """Anthropic's events: a message, its content block by block, its end."""

    def __init__(self) -> None:
        self._message: Json = {}
        self._blocks: dict[int, Json] = {}
        self._inputs: dict[int, list[str]] = {}
        self._usage: Json = {}
        self.complete = False

    @property
    def begun(self) -> bool:
        """A block has begun."""
        return bool(self._blocks)

    def add(self, event: Json) -> None:
        """Take in the next event; pings add nothing."""
        index = event.get("index")
        at = index if isinstance(index, int) else 0
        match event.get("type"):
            case "message_start":
                self._message = _object(event, "message")
                self._usage |= _object(self._message, "usage")
            case "content_block_start":
                self._blocks[at] = _object(event, "content_block")
            case "content_block_delta":
                self._grow(at, _object(event, "delta"))
            case "message_delta":
                self._message |= _object(event, "delta")
                self._usage |= _object(event, "usage")
            case "message_stop":
                self.complete = True
            case _:
                pass

    def _grow(self, at: int, delta: Json) -> None:
        block = self._blocks.setdefault(at, {})
        for name, value in delta.items():
            if name == "partial_json" and isinstance(value, str):
                self._inputs.setdefault(at, []).append(value)
            elif name != "type" and isinstance(value, str):
                before = block.get(name)
                block[name] = (before if isinstance(before, str) else "") + value

    def answer(self) -> Json:
        """The message.

        Raises:
            EngineError: the arguments of a tool call are not JSON.
        """
        for at, parts in self._inputs.items():
            self._blocks[at]["input"] = arguments_of("".join(parts))
        return self._message | {"content": [block for _, block in sorted(self._blocks.items())], "usage": self._usage}

    def counts(self) -> tuple[Tokens, Tokens] | None:
        """By the usage; what was found in the cache is counted apart there."""
        return _pair(self._usage, "input_tokens", "output_tokens")


class ResponsesFold:
    """Events of OpenAI's responses: the last holds the whole."""

    def __init__(self) -> None:
        self._last: Json = {}
        self._timings: Json = {}
        self.begun = False

    @property
    def complete(self) -> bool:
        """The response has come."""
        return bool(self._last)

    def add(self, event: Json) -> None:
        """Take in the next event."""
        kind = str(event.get("type"))
        self.begun = self.begun or kind.endswith(".delta")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._last = _object(event, "response")
            self._timings = _object(event, "timings")

    def answer(self) -> Json:
        """The response."""
        return self._last

    def counts(self) -> tuple[Tokens, Tokens] | None:
        """By the engine's timings."""
        return _pair(self._timings, "prompt_n", "predicted_n")


class NativeFold:
    """Chunks of llama.cpp's own completion."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._last: Json = {}
        self.complete = False

    @property
    def begun(self) -> bool:
        """There is text."""
        return bool(self._texts)

    def add(self, event: Json) -> None:
        """Take in the next chunk."""
        text = event.get("content")
        if isinstance(text, str) and text:
            self._texts.append(text)
        if event.get("stop") is True:
            self._last, self.complete = event, True

    def answer(self) -> Json:
        """The last chunk with all the text."""
        settings = _object(self._last, "generation_settings")
        whole: Json = {"generation_settings": settings | {"stream": False}} if settings else {}
        return self._last | {"content": "".join(self._texts)} | whole

    def counts(self) -> tuple[Tokens, Tokens] | None:
        """By the engine's timings."""
        return _pair(_object(self._last, "timings"), "prompt_n", "predicted_n")


def _object(holder: Json, name: str) -> Json:
    found = holder.get(name)
    return dict(found) if isinstance(found, dict) else {}


def _pair(counts: Json, prompt: str, generated: str) -> tuple[Tokens, Tokens] | None:
    first, second = counts.get(prompt), counts.get(generated)
    return (first, second) if isinstance(first, int) and isinstance(second, int) else None
