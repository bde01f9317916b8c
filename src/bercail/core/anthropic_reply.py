"""Answers of OpenAI's chat in Anthropic's words: a stream as events, chunk by chunk, and one answer as a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bercail.core.chat import Json
from bercail.core.folds import arguments_of
from bercail.core.told import calls_in, choice_of, count, inner, name_of, place_of

_ENDS: Mapping[str, str] = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
    "content_filter": "refusal",
}  # fmt: skip
TOLD = "__verbose"
"""Member of an answer in which llama.cpp, asked for with ``verbose``, names the text that ended it (b11549)."""


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer as it grows.

    Blocks follow one another: each ends before the next one begins.

    Attributes:
        model: the name that the answer goes by.
        stops: texts at which the client wants it to end.
        begun: its first event has been made.
        index: of the block that has begun last, from 0.
    """

    model: str
    stops: tuple[str, ...] = ()
    begun: bool = False
    index: int = -1
    _id: str = ""
    _open: str = ""
    _call: int = -1
    _finish: object = None
    _word: str = ""
    _prompt: tuple[int, int] = (0, 0)
    _usage: Json = field(default_factory=dict)

    def take(self, chunk: Json) -> list[Json]:
        """The events that a chunk of the engine's gives the client.

        Raises:
            EngineError: it goes on with a tool call that has ended, or that never had a name.
        """
        self._note(chunk)
        choice = choice_of(chunk)
        delta = inner(choice, "delta")
        made: list[Json] = []
        made += self._say("thinking", delta.get("reasoning_content") or delta.get("reasoning"))
        made += self._say("text", delta.get("content"))
        for call in calls_in(delta):
            made += self._grown(call)
        self._finish = choice.get("finish_reason") or self._finish
        return made

    def _note(self, chunk: Json) -> None:
        """Take in what is told beside the answer."""
        identity = chunk.get("id")
        if not self._id and isinstance(identity, str):
            self._id = identity.removeprefix("chatcmpl-")
        if progress := inner(chunk, "prompt_progress"):
            self._prompt = count(progress, "total"), count(progress, "cache")
        self._usage = inner(chunk, "usage") or self._usage
        self._word = _word(chunk, self.stops) or self._word

    def _say(self, kind: str, words: object) -> list[Json]:
        """A few more words of that kind, if there are any."""
        if not isinstance(words, str) or not words:
            return []
        return [*self._in(kind, {"type": kind, kind: ""}), self._delta(f"{kind}_delta", kind, words)]

    def _grown(self, call: Json) -> list[Json]:
        """A tool call that begins, or goes on."""
        at, made = place_of(call, self._call), list[Json]()
        if at != self._call or self._open != "tool_use":
            name = name_of(call, self._call)
            self._call = at
            identity = call.get("id") or f"toolu_{self._id}_{at}"
            made = self._in("tool_use", {"type": "tool_use", "id": identity, "name": name, "input": {}}, new=True)
        arguments = inner(call, "function").get("arguments")
        if isinstance(arguments, str) and arguments:
            made.append(self._delta("input_json_delta", "partial_json", arguments))
        return made

    def _in(self, kind: str, block: Json, *, new: bool = False) -> list[Json]:
        """What must be said before a block of that kind goes on."""
        if self._open == kind and not new:
            return []
        made = [*self._begin(), *self._close()]
        self._open, self.index = kind, self.index + 1
        block = block | {"signature": ""} if kind == "thinking" else block
        return [*made, {"type": "content_block_start", "index": self.index, "content_block": block}]

    def _delta(self, kind: str, name: str, words: str) -> Json:
        return {"type": "content_block_delta", "index": self.index, "delta": {"type": kind, name: words}}

    def _begin(self) -> list[Json]:
        if self.begun:
            return []
        self.begun = True
        # A server that tells neither progress nor counts beside its pieces leaves 0 here: the last event has them all,
        # and clients take what stands there.
        usage = self.usage() | {"output_tokens": 0}
        head = _head(self._id, self.model) | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return [{"type": "message_start", "message": head}, {"type": "ping"}]

    def _close(self) -> list[Json]:
        if not self._open:
            return []
        signed = [self._delta("signature_delta", "signature", "")] if self._open == "thinking" else []
        self._open = ""
        return [*signed, {"type": "content_block_stop", "index": self.index}]

    def end(self) -> list[Json]:
        """The last events: why it ended, and the counts."""
        reason = _ended(self._finish, self._word)
        last: Json = {"type": "message_delta", "delta": reason, "usage": self.usage()}
        return [*self._begin(), *self._close(), last, {"type": "message_stop"}]

    def usage(self) -> Json:
        """The counts of the whole answer."""
        return _usage_of(self._usage) if self._usage else _usage(*self._prompt, 0)

    def counts(self) -> Json:
        """The engine's own usage; empty if it told none."""
        return self._usage

    @property
    def is_talking(self) -> bool:
        """It is in the middle of its text, to which words may be added."""
        return self._open == "text"

    @property
    def is_finished(self) -> bool:
        """The engine has said why it ended."""
        return self._finish is not None


def message(answer: Json, model: str, stops: tuple[str, ...]) -> Json:
    """One answer of a chat as a message.

    Args:
        answer: of the engine.
        model: the name that it goes by.
        stops: texts at which the client wanted it to end.

    Raises:
        EngineError: a tool was called with arguments that are not JSON.
    """
    choice = choice_of(answer)
    said, content = inner(choice, "message"), list[Json]()
    if thought := said.get("reasoning_content") or said.get("reasoning"):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    if said.get("content"):
        content.append({"type": "text", "text": said["content"]})
    identity = str(answer.get("id") or "").removeprefix("chatcmpl-")
    for at, call in enumerate(calls_in(said)):
        function = inner(call, "function")
        used = {"type": "tool_use", "id": call.get("id") or f"toolu_{identity}_{at}", "name": function.get("name")}
        content.append(used | {"input": arguments_of(str(function.get("arguments") or ""))})
    reason = _ended(choice.get("finish_reason"), _word(answer, stops))
    return _head(identity, model) | {"content": content} | reason | {"usage": _usage_of(inner(answer, "usage"))}


def _head(identity: str, model: str) -> Json:
    return {"id": f"msg_{identity}", "type": "message", "role": "assistant", "model": model}


def _ended(finish: object, word: str) -> Json:
    """Why an answer ended; llama.cpp calls an end at a text that the client named the end of a turn."""
    if finish == "stop" and word:
        return {"stop_reason": "stop_sequence", "stop_sequence": word}
    return {"stop_reason": _ENDS.get(str(finish), "end_turn"), "stop_sequence": None}


def _word(told: Json, stops: tuple[str, ...]) -> str:
    """The text that ended an answer, if it is one of the client's: the model's template has some too."""
    word = inner(told, TOLD).get("stopping_word")
    return word if isinstance(word, str) and word in stops else ""


def _usage_of(usage: Json) -> Json:
    cached = count(inner(usage, "prompt_tokens_details"), "cached_tokens")
    return _usage(count(usage, "prompt_tokens"), cached, count(usage, "completion_tokens"))


def _usage(prompt: int, cached: int, generated: int) -> Json:
    """The counts; what was found in the cache is counted apart in this dialect."""
    return {
        "input_tokens": max(0, prompt - cached), "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": generated,
    }  # fmt: skip
