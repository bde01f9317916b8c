"""The chunks of a stream of OpenAI's dialects, folded into the one answer they stand for."""

from bercail.core.chat import Endpoint, Json
from bercail.core.told import count


class Fold:
    """Folds the chunks of a stream into the one answer that the engine would have given without streaming."""

    def __init__(self, endpoint: Endpoint, *, choices_per_prompt: int = 1) -> None:
        self._chat = endpoint is Endpoint.CHAT
        self._per_prompt = max(1, choices_per_prompt)
        self._top: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._usages: list[Json] = []
        self._timings: tuple[int, object] | None = None
        self._latest = 0

    @property
    def begun(self) -> bool:
        """There is something of an answer."""
        return any(choice.texts or choice.calls for choice in self._choices.values())

    @property
    def complete(self) -> bool:
        """There is an answer, and every choice has been finished."""
        return bool(self._choices) and all(choice.finish_reason is not None for choice in self._choices.values())

    def add(self, chunk: Json) -> None:
        """Take in the next chunk, which is used up; those that only report progress add nothing but their ids."""
        self._add_choices(chunk.pop("choices", None))
        if isinstance(usage := chunk.pop("usage", None), dict):
            self._usages.append(usage)
        if "timings" in chunk:
            timings = chunk.pop("timings")
            if self._timings is None or self._latest <= self._timings[0]:
                self._timings = (self._latest, timings)
        chunk.pop("prompt_progress", None)
        self._top.update(chunk)

    def _add_choices(self, choices: object) -> None:
        for item in choices if isinstance(choices, list) else ():
            if isinstance(item, dict):
                index = item.get("index")
                self._latest = index if isinstance(index, int) else 0
                choice = self._choices.setdefault(self._latest, _Choice())
                choice.add(item, chat=self._chat)

    def answer(self) -> Json:
        """The answer so far."""
        made: Json = {
            "choices": [choice.folded(index, chat=self._chat) for index, choice in sorted(self._choices.items())]
        }
        made |= self._top
        made["object"] = "chat.completion" if self._chat else "text_completion"
        if self._usages:
            made["usage"] = self._usage()
        if self._timings is not None:
            made["timings"] = self._timings[1]
        return made

    def _usage(self) -> Json:
        """Tokens over all choices; a prompt that several choices share counts once."""
        if len(self._usages) == 1:
            return self._usages[0]
        made = _sum(self._usages)
        prompt = count(made, "prompt_tokens") // self._per_prompt
        details = made.get("prompt_tokens_details")
        if isinstance(details, dict):
            made["prompt_tokens_details"] = {name: count(details, name) // self._per_prompt for name in details}
        return made | {"prompt_tokens": prompt, "total_tokens": prompt + count(made, "completion_tokens")}


class _Choice:
    """One choice while it grows."""

    __slots__ = ("calls", "finish_reason", "function_call", "logprobs", "others", "role", "texts")

    def __init__(self) -> None:
        self.role: object = "assistant"
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, Json] = {}
        self.function_call: Json | None = None
        self.logprobs: object = None
        self.finish_reason: object = None
        self.others: Json = {}

    def add(self, item: Json, *, chat: bool) -> None:
        """Take in what a chunk says of this choice, which is used up."""
        item.pop("index", None)
        self._add_delta(item.pop("delta", None))
        if (reason := item.pop("finish_reason", None)) is not None:
            self.finish_reason = reason
        for name, value in item.items():
            if name == "text" and not chat:
                self._add_text(name, value)
            elif name == "logprobs":
                self.logprobs = _joined(self.logprobs, value)
            else:
                self.others[name] = value

    def _add_delta(self, delta: object) -> None:
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name == "role":
                self.role = value or self.role
            elif name == "tool_calls":
                self._add_calls(value)
            elif name == "function_call":
                self.function_call = _grown(self.function_call or {}, value)
            else:
                self._add_text(name, value)

    def _add_text(self, name: str, value: object) -> None:
        if isinstance(value, str):
            self.texts.setdefault(name, []).append(value)
        elif value is not None:
            self.others[name] = value

    def _add_calls(self, calls: object) -> None:
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                index = call.get("index")
                at = index if isinstance(index, int) else len(self.calls)
                rest = {name: value for name, value in call.items() if name != "index"}
                self.calls[at] = _grown(self.calls.get(at, {"type": "function"}), rest)

    def folded(self, index: int, *, chat: bool) -> Json:
        """This choice in the shape of a single answer."""
        texts = {name: "".join(parts) for name, parts in self.texts.items()}
        if not chat:
            made: Json = {"text": texts.pop("text", ""), "index": index, "logprobs": self.logprobs}
            return made | self.others | texts | {"finish_reason": self.finish_reason}
        message: Json = {"role": self.role, "content": texts.pop("content", "")} | texts | self.others
        if self.calls:
            message["tool_calls"] = [call for _, call in sorted(self.calls.items())]
        if self.function_call is not None:
            message["function_call"] = self.function_call
        made = {"finish_reason": self.finish_reason, "index": index, "message": message}
        return made if self.logprobs is None else made | {"logprobs": self.logprobs}


def _grown(known: Json, delta: object) -> Json:
    """A tool call with a delta added: arguments grow, everything else is told once."""
    made = dict(known)
    for name, value in delta.items() if isinstance(delta, dict) else ():
        before = made.get(name)
        if name == "function":
            made[name] = _grown(before if isinstance(before, dict) else {"name": "", "arguments": ""}, value)
        elif name == "arguments" and isinstance(value, str):
            made[name] = (before if isinstance(before, str) else "") + value
        elif value is not None:
            made[name] = value
    return made


def _joined(known: object, more: object) -> object:
    """Log probabilities with more appended, list by list."""
    if not isinstance(more, dict):
        return known
    if not isinstance(known, dict):
        return dict(more)
    made = dict(known)
    for name, value in more.items():
        before = made.get(name)
        made[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return made


def _sum(usages: list[Json]) -> Json:
    """Counters added up, nested ones too."""
    made: Json = {}
    for usage in usages:
        for name, value in usage.items():
            before = made.get(name)
            if isinstance(value, dict):
                made[name] = _sum([before, value]) if isinstance(before, dict) else dict(value)
            elif isinstance(value, int):
                made[name] = value + (before if isinstance(before, int) else 0)
    return made
