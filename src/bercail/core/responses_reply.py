"""Answers of OpenAI's chat in the words of its responses: a stream as events, and one answer as a response."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from bercail.core.chat import Json
from bercail.core.told import calls_in, choice_of, count, inner, name_of, place_of

_CUT: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer that is not complete was cut, by the chat's word for it."""
_TEXTS = {"message": "output_text", "reasoning": "reasoning_text"}
_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer as it grows.

    Items follow one another: each ends before the next one begins.

    Attributes:
        model: the name that the answer goes by.
        echo: what of the request it repeats.
        begun: something of the answer itself has come.
        output: its items, the last of which may still grow.
        number: of the next event, from 0.
    """

    model: str
    echo: Json = field(default_factory=dict)
    begun: bool = False
    output: list[Json] = field(default_factory=list)
    number: int = 0
    _id: str = ""
    _created: object = 0
    _open: str = ""
    _words: list[str] = field(default_factory=list)
    _call: int = -1
    _finish: object = None
    _usage: Json = field(default_factory=dict)

    def take(self, chunk: Json) -> list[Json]:
        """The events that a chunk of the engine's gives the client.

        Raises:
            EngineError: it goes on with a tool call that has ended, or that never had a name.
        """
        choice = choice_of(chunk)
        delta = inner(choice, "delta")
        made = self._begin(chunk)
        made += self._say("reasoning", delta.get("reasoning_content") or delta.get("reasoning"))
        made += self._say("message", delta.get("content"))
        for call in calls_in(delta):
            made += self._grown(call)
        self._finish = choice.get("finish_reason") or self._finish
        self._usage = inner(chunk, "usage") or self._usage
        return made

    def _begin(self, chunk: Json) -> list[Json]:
        """The first chunk, which may only tell of progress, says that the request has arrived."""
        if self.number:
            return []
        identity = chunk.get("id")
        self._id = identity.removeprefix("chatcmpl-") if isinstance(identity, str) else ""
        self._created = chunk.get("created", 0)
        return [self._whole(f"response.{state}", "in_progress") for state in ("created", "in_progress")]

    def _say(self, kind: str, words: object) -> list[Json]:
        """A few more words of that kind, if there are any."""
        if not isinstance(words, str) or not words:
            return []
        return [*self._in(kind), self._delta(words)]

    def _delta(self, words: str) -> Json:
        self._words.append(words)
        logprobs: Json = {"logprobs": []} if self._open == "message" else {}
        return self._at(f"response.{_TEXTS[self._open]}.delta", content_index=0, delta=words) | logprobs

    def more(self, words: bytes) -> Json | None:
        """The event of a few more words of an open text, a JSON string; None where it takes more than that."""
        if self._open != "message" or b"\\u" in words:
            return None
        return self._delta(json.loads(words))

    def _in(self, kind: str) -> list[Json]:
        """What must be said before a text of that kind goes on."""
        if self._open == kind:
            return []
        item: Json = {"role": "assistant"} if kind == "message" else {"summary": []}
        made = self._add(kind, item | {"content": []})
        part = self._at("response.content_part.added", content_index=0, part=_part(kind, ""))
        return [*made, part]

    def _add(self, kind: str, item: Json) -> list[Json]:
        made = self._close("completed")
        self.begun, self._open, self._words = True, kind, []
        head: Json = {"id": f"{_PREFIX[kind]}_{self._id}_{len(self.output)}", "type": kind, "status": "in_progress"}
        self.output.append(head | item)
        return [*made, self._event("response.output_item.added", output_index=self._index, item=dict(self.output[-1]))]

    def _grown(self, call: Json) -> list[Json]:
        """A tool call that begins, or goes on."""
        at, made = place_of(call, self._call), list[Json]()
        if at != self._call or self._open != "function_call":
            name = name_of(call, self._call)
            self._call = at
            identity = call.get("id") or f"call_{self._id}_{at}"
            made = self._add("function_call", {"call_id": identity, "name": name, "arguments": ""})
        arguments = inner(call, "function").get("arguments")
        if isinstance(arguments, str) and arguments:
            self._words.append(arguments)
            made.append(self._at("response.function_call_arguments.delta", delta=arguments))
        return made

    def _close(self, status: str) -> list[Json]:
        """The end of the item that is open."""
        if not self._open:
            return []
        kind, item, words = self._open, self.output[-1], "".join(self._words)
        self._open, item["status"] = "", status
        if kind == "function_call":
            item["arguments"] = words
            made = [self._at("response.function_call_arguments.done", name=item["name"], arguments=words)]
        else:
            part = _part(kind, words)
            item["content"] = [part]
            logprobs: Json = {"logprobs": []} if kind == "message" else {}
            made = [self._at(f"response.{_TEXTS[kind]}.done", content_index=0, text=words) | logprobs]
            made.append(self._at("response.content_part.done", content_index=0, part=part))
        return [*made, self._event("response.output_item.done", output_index=self._index, item=dict(item))]

    def end(self) -> list[Json]:
        """The last events: the whole response, and whether it was cut."""
        state = "incomplete" if str(self._finish) in _CUT else "completed"
        return [*self._close(state), self._whole(f"response.{state}", state)]

    def fail(self, code: str, message: str) -> Json:
        """The event of a response that has broken off, which some clients look for rather than for an error."""
        made = self._whole("response.failed", "failed")
        return made | {"response": inner(made, "response") | {"error": {"code": code, "message": message}}}

    def counts(self) -> Json:
        """The engine's own usage; empty if it told none."""
        return self._usage

    @property
    def is_finished(self) -> bool:
        """The engine has said why it ended."""
        return self._finish is not None

    @property
    def _index(self) -> int:
        return len(self.output) - 1

    def _at(self, kind: str, **members: object) -> Json:
        """An event of the last item."""
        return self._event(kind, item_id=self.output[-1]["id"], output_index=self._index, **members)

    def _event(self, kind: str, **members: object) -> Json:
        made: Json = {"type": kind, "sequence_number": self.number} | members
        self.number += 1
        return made

    def _whole(self, kind: str, status: str) -> Json:
        """An event that holds the response as it is now."""
        reason = _CUT.get(str(self._finish)) if status == "incomplete" else None
        response: Json = {
            "id": f"resp_{self._id}", "object": "response", "created_at": self._created, "status": status,
            "background": False, "error": None, "incomplete_details": {"reason": reason} if reason else None,
            "instructions": None, "max_output_tokens": None, "metadata": {}, "model": self.model,
            "output": [dict(item) for item in self.output], "parallel_tool_calls": True, "previous_response_id": None,
            "store": False, "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
            "tools": [], "top_p": None, "truncation": "disabled",
            "usage": _usage(self._usage) if self._usage else None,
        }  # fmt: skip
        return self._event(kind, response=response | self.echo)


def response(answer: Json, model: str, echo: Json) -> Json:
    """One answer of a chat as a response.

    Args:
        answer: of the engine.
        model: the name that it goes by.
        echo: what of the request it repeats.

    Raises:
        EngineError: a call of a tool has no name.
    """
    choice = choice_of(answer)
    reply = Reply(model=model, echo=echo)
    reply.take(answer | {"choices": [choice | {"delta": inner(choice, "message")}]})
    return inner(reply.end()[-1], "response")


def _part(kind: str, words: str) -> Json:
    made: Json = {"type": _TEXTS[kind], "text": words}
    return made | ({"annotations": [], "logprobs": []} if kind == "message" else {})


def _usage(usage: Json) -> Json:
    """The counts; clients want a number of tokens that were thought, which is 0 unless the engine tells one."""
    prompt, generated = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    thought = count(inner(usage, "completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": count(inner(usage, "prompt_tokens_details"), "cached_tokens")},
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + generated,
    }
