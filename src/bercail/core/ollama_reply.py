"""Answers of our engines in Ollama's words."""

from dataclasses import dataclass, field

from bercail.core.chat import Json
from bercail.core.folds import arguments_of
from bercail.core.model import Capability
from bercail.core.route import Phase, ServedModel
from bercail.core.told import choice_of, count, inner
from bercail.core.units import Seconds

INTERFACE = "0.33.0"
"""The version of Ollama whose interface this is; clients ask for it to know what they may use."""
_NEVER = "2999-12-31T00:00:00+00:00"
"""When a loaded model expires: clients want a date, and no time is set."""
_ENDS = {"length": "length"}
_NS = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer as it grows, chunk by chunk of the engine's stream.

    Attributes:
        model: the name the client used.
        chat: a message, rather than a response.
        load_s: until the model was there and had room.
    """

    model: str
    chat: bool
    load_s: Seconds = 0.0
    begun: bool = False
    _calls: dict[int, Json] = field(default_factory=dict)
    _finish: str = "stop"
    _usage: Json = field(default_factory=dict)
    _timings: Json = field(default_factory=dict)

    def take(self, chunk: Json, created_at: str) -> Json | None:
        """What a chunk of the engine's gives the client now, if anything.

        Raises:
            EngineError: a tool was called with arguments that are not JSON.
        """
        self._usage = inner(chunk, "usage") or self._usage
        self._timings = inner(chunk, "timings") or self._timings
        choice = choice_of(chunk)
        delta = inner(choice, "delta")
        self._grow(delta.get("tool_calls"))
        text, thinking = delta.get("content") or choice.get("text"), delta.get("reasoning_content")
        ended = choice.get("finish_reason")
        calls: list[Json] = []
        if ended:
            self._finish = _ENDS.get(str(ended), "stop")
            calls = [_call(call) for _, call in sorted(self._calls.items())]
        return self.piece(created_at, text, thinking, calls) if text or thinking or calls else None

    def piece(self, created_at: str, text: object = "", thinking: object = None, calls: object = None) -> Json:
        """A line of a stream that goes on; without text, a sign of life."""
        self.begun = self.begun or bool(text or thinking or calls)
        made: Json = {"model": self.model, "created_at": created_at}
        more = ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})
        if self.chat:
            made["message"] = {"role": "assistant", "content": text or ""} | more
        else:
            made |= {"response": text or ""} | more
        return made | {"done": False}

    def _grow(self, calls: object) -> None:
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, dict):
                continue
            index = call.get("index")
            known = self._calls.setdefault(index if isinstance(index, int) else len(self._calls), {})
            function = inner(call, "function")
            known["id"] = known.get("id") or call.get("id")
            known["name"] = known.get("name") or function.get("name")
            known["arguments"] = str(known.get("arguments") or "") + str(function.get("arguments") or "")

    def end(self, created_at: str, total_s: Seconds) -> Json:
        """The last line: why it ended, how long it took."""
        return self.piece(created_at) | {
            "done": True,
            "done_reason": self._finish,
            "total_duration": round(total_s * _NS),
            "load_duration": round(self.load_s * _NS),
            "prompt_eval_count": count(self._usage, "prompt_tokens"),
            "prompt_eval_duration": _ns(self._timings, "prompt_ms"),
            "eval_count": count(self._timings, "predicted_n") or count(self._usage, "completion_tokens"),
            "eval_duration": _ns(self._timings, "predicted_ms"),
        }

    def counts(self) -> Json:
        """The engine's timings, for the metrics."""
        return self._timings


def whole(pieces: list[Json], end: Json) -> Json:
    """The lines of a stream as one answer."""
    texts: dict[str, str] = {}
    calls: list[object] = []
    for piece in pieces:
        said = inner(piece, "message") or piece
        for name in ("content", "response", "thinking"):
            text = said.get(name)
            texts[name] = texts.get(name, "") + (text if isinstance(text, str) else "")
        found = said.get("tool_calls")
        calls += found if isinstance(found, list) else []
    more: Json = {"thinking": texts["thinking"]} if texts.get("thinking") else {}
    more |= {"tool_calls": calls} if calls else {}
    if "message" in end:
        return end | {"message": {"role": "assistant", "content": texts.get("content", "")} | more}
    return end | {"response": texts.get("response", "")} | more


def loaded(model: str, created_at: str, total_s: Seconds, *, chat: bool, reason: str = "load") -> Json:
    """The answer to a request for nothing but a loaded model, or, with ``unload``, for one that is not."""
    reply = Reply(model=model, chat=chat)
    duration = round(total_s * _NS)
    end: Json = {"done": True, "done_reason": reason, "total_duration": duration, "load_duration": duration}
    return reply.piece(created_at) | end


def embeddings(model: str, answer: Json, total_s: Seconds, load_s: Seconds) -> Json:
    """The answer of ``/api/embed``."""
    usage = inner(answer, "usage")
    return {
        "model": model,
        "embeddings": vectors(answer),
        "total_duration": round(total_s * _NS),
        "load_duration": round(load_s * _NS),
        "prompt_eval_count": count(usage, "prompt_tokens"),
    }


def vectors(answer: Json) -> list[object]:
    """The embeddings of an answer, in the order of the texts."""
    rows = answer.get("data")
    return [row.get("embedding") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


_WORDS = {
    Capability.COMPLETION: "completion", Capability.CHAT: "completion", Capability.TOOLS: "tools",
    Capability.INFILL: "insert", Capability.VISION: "vision", Capability.EMBEDDINGS: "embedding",
    Capability.THINKING: "thinking", Capability.AUDIO: "audio",
}  # fmt: skip


def shown(model: ServedModel, listed: Json) -> Json:
    """The answer of ``/api/show``.

    The context length is what a request may use where the model is loaded, for clients take it for that.

    Args:
        model: what is known of it.
        listed: its entry in a listing, whose details are the same.
    """
    words = list(dict.fromkeys(_WORDS[one] for one in model.capabilities if one in _WORDS))
    context = model.usable_context_tokens
    architecture = model.architecture or "unknown"
    info: Json = {
        "general.architecture": architecture,
        "general.parameter_count": model.parameter_count,
        f"{architecture}.context_length": context,
        f"{architecture}.vocab_size": model.vocabulary,
    }
    return {
        "modelfile": "",
        "parameters": f"num_ctx {model.slot_context_tokens}" if model.slot_context_tokens else "",
        "template": "{{ .Prompt }}{{ .Suffix }}" if Capability.INFILL in model.capabilities else "{{ .Prompt }}",
        "details": listed["details"],
        "model_info": {name: value for name, value in info.items() if value is not None},
        "capabilities": words,
        "modified_at": listed["modified_at"],
    }


def running(model: ServedModel, listed: Json) -> Json | None:
    """The entry of a loaded model in ``/api/ps``: its sizes are of memory, as planned, and left out if nobody knows."""
    if model.phase is not Phase.LOADED:
        return None
    kept = {name: listed[name] for name in ("name", "model", "digest", "details")}
    sizes: Json = {} if model.held_bytes is None else {"size": model.held_bytes, "size_vram": model.held_gpu_bytes or 0}
    return kept | sizes | {"expires_at": _NEVER, "context_length": model.slot_context_tokens}


def _call(call: Json) -> Json:
    function: Json = {"name": call.get("name"), "arguments": arguments_of(str(call["arguments"]))}
    return ({"id": call["id"]} if call.get("id") else {}) | {"function": function}


def _ns(timings: Json, name: str) -> int:
    found = timings.get(name)
    return round(found * 1_000_000) if isinstance(found, (int, float)) else 0
