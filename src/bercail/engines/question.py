"""What clients ask of a library that generates: the body of a request, with the defaults of llama.cpp b11549."""

import json
from typing import Any

import msgspec

from bercail.core.units import Tokens


class StreamOptions(msgspec.Struct):
    """What the end of a stream tells."""

    include_usage: bool = False


class Format(msgspec.Struct):
    """What an answer must look like."""

    type: str = "text"
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None


class Question(msgspec.Struct):
    """A request; the defaults are those of llama.cpp."""

    model: str = ""
    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] = ""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    ignore_eos: bool = False
    response_format: Format | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool = False
    verbose: bool = False
    n: int = 1
    logprobs: int | bool | None = None
    tools: list[Any] | None = None
    grammar: str | None = None
    logit_bias: Any = None

    @property
    def most_tokens(self) -> Tokens | None:
        """To generate at most, or None."""
        asked = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        return next((count for count in asked if count is not None and count >= 0), None)

    @property
    def least_p(self) -> float:
        """``min_p``, or what llama.cpp takes if nothing is said."""
        return 0.05 if self.min_p is None else self.min_p

    @property
    def stops(self) -> tuple[str, ...]:
        """Where the answer ends."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in found if text)

    @property
    def schema(self) -> str | None:
        """JSON schema of the answer, as text; None if it may be anything."""
        form = self.response_format
        if form is None or form.type == "text":
            return None
        found = form.schema or (form.json_schema or {}).get("schema") or {"type": "object"}
        return json.dumps(found)

    def asks_for(self) -> frozenset[str]:
        """What not every library can do."""
        wants = {
            "logprobs": self.logprobs, "tools": self.tools, "grammar": self.grammar, "logit_bias": self.logit_bias,
            "n": self.n > 1, "response_format": self.schema, "min_p": self.min_p,
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
        }  # fmt: skip
        return frozenset(name for name, value in wants.items() if value)
