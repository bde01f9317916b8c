"""What the fake engine says, in llama-server's shapes: everything that does not change is rendered once."""

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from bercail.core.units import Tokens

WORDS = (
    "Once",
    " upon",
    " a",
    " time",
    ",",
    " there",
    " was",
    " a",
    " little",
    " fold",
    " of",
    " quiet",
    " sheep",
    ".",
)
EMBEDDING_WIDTH = 8
_CREATED = 1_700_000_000
BYTES_PER_TOKEN = 4


class Failure(StrEnum):
    """How a request may go wrong."""

    NONE = ""
    HANG = "hang"
    """Never answers."""
    DIE = "die"
    """Closes the connection in the middle of the answer."""
    ERROR = "error"
    """Status 500."""
    CONTEXT = "context"
    """Status 400, as for a prompt over the context."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request meets.

    Attributes:
        tokens: to generate where the request sets no ``max_tokens``.
        delay_s: between tokens; 0 sends them all at once.
        prefill_s: before the first token, in ``prefill_steps`` reported steps.
        prefill_steps: progress chunks of a stream that asked for them, before the last one.
        fail: how it goes wrong.
    """

    tokens: int = 16
    delay_s: float = 0.0
    prefill_s: float = 0.0
    prefill_steps: int = 4
    fail: Failure = Failure.NONE


class StreamOptions(msgspec.Struct):
    """What the end of a stream tells."""

    include_usage: bool = False


class Question(msgspec.Struct):
    """The part of a request that matters here."""

    model: str = "fake"
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool = False
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: str | list[str] | msgspec.Raw = ""
    encoding_format: str = "float"
    fake: dict[str, object] | None = None
    stop: str | list[str] | None = None
    logprobs: int | bool | None = None

    @property
    def unsupported(self) -> str:
        """What it asks for that the fake engine has not, or empty."""
        return "stop" if self.stop else "logprobs" if self.logprobs else ""


QUESTION = msgspec.json.Decoder(Question)


@dataclass(frozen=True, slots=True)
class Kind:
    """Chat or plain completion: what differs in the JSON."""

    object: str
    chunk: str
    content: Callable[[str], str]
    whole: Callable[[str], str]


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()


_CHAT = Kind(
    "chat.completion",
    "chat.completion.chunk",
    lambda text: f'"delta":{{"content":{_quote(text)}}}',
    lambda text: f'"message":{{"role":"assistant","content":{_quote(text)}}}',
)
_PLAIN = Kind(
    "text_completion",
    "text_completion",
    lambda text: f'"text":{_quote(text)},"logprobs":null',
    lambda text: f'"text":{_quote(text)},"logprobs":null',
)
KINDS = {
    "/v1/chat/completions": _CHAT, "/chat/completions": _CHAT, "/v1/completions": _PLAIN,
}  # fmt: skip

_ROLE = '"delta":{"role":"assistant","content":null}'
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: fake\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Answer:
    """One answer, in pieces; everything that does not change is rendered once per model and kind."""

    _rendered: dict[tuple[str, str], list[bytes]] = {}  # noqa: RUF012 - shared on purpose

    def __init__(
        self, kind: Kind, model_id: str, question: Question, behaviour: Behaviour, prompt_tokens: Tokens
    ) -> None:
        self._kind = kind
        self._question = question
        self._behaviour = behaviour
        self._prompt_tokens = prompt_tokens
        self._tail = (
            f'"created":{_CREATED},"model":{_quote(model_id)},"system_fingerprint":"fake","id":"chatcmpl-fake",'
        )
        key = (kind.chunk, model_id)
        if key not in self._rendered:
            self._rendered[key] = [self._event(kind.content(word), None) for word in WORDS]
        self._tokens = self._rendered[key]

    def whole(self) -> bytes:
        """Everything at once."""
        if not self._question.stream:
            return self.closing()
        count = self._behaviour.tokens
        rounds, rest = divmod(count, len(self._tokens))
        middle = b"".join(self._tokens) * rounds + b"".join(self._tokens[:rest])
        steps = b"".join(self.progress(step) for step in range(self._behaviour.prefill_steps))
        return steps + self.opening() + middle + self.closing()

    def progress(self, step: int) -> bytes:
        """How far the prompt has been read, for a stream that asked for it; the head comes with the first."""
        if not (self._question.stream and self._question.return_progress):
            return b""
        return (_STREAM_HEAD if step == 0 else b"") + self._progress_event(step)

    def opening(self) -> bytes:
        """What comes before the first token of a stream; the head too if nothing has come yet."""
        if not self._question.stream:
            return b""
        head = b"" if self._question.return_progress else _STREAM_HEAD
        role = self._event(_ROLE, None) if self._kind is _CHAT else b""
        return self.progress(self._behaviour.prefill_steps) + head + role

    def token(self, index: int) -> bytes:
        """One token of a stream."""
        return self._tokens[index % len(self._tokens)] if self._question.stream else b""

    def closing(self) -> bytes:
        """The end of a stream, or all of another answer."""
        if not self._question.stream:
            return response(200, self._body())
        last = self._event('"delta":{}' if self._kind is _CHAT else '"text":"","logprobs":null', "length")
        options = self._question.stream_options
        if options is not None and options.include_usage:
            last += self._data(f'{{"choices":[],{self._tail}"object":"{self._kind.chunk}",{self._usage()}}}')
        return last + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def _body(self) -> bytes:
        count = self._behaviour.tokens
        text = "".join(WORDS[index % len(WORDS)] for index in range(count))
        choice = f'{{"finish_reason":"length","index":0,{self._kind.whole(text)}}}'
        return f'{{"choices":[{choice}],{self._tail}"object":"{self._kind.object}",{self._usage()}}}'.encode()

    def _event(self, content: str, finish: str | None) -> bytes:
        reason = "null" if finish is None else f'"{finish}"'
        choice = f'{{"finish_reason":{reason},"index":0,{content}}}'
        return self._data(f'{{"choices":[{choice}],{self._tail}"object":"{self._kind.chunk}"}}')

    def _progress_event(self, step: int) -> bytes:
        total, steps = self._prompt_tokens, self._behaviour.prefill_steps
        read = total * step // steps if step < steps else total
        told = f'"prompt_progress":{{"total":{total},"cache":0,"processed":{read},"time_ms":0}}'
        content = _ROLE if self._kind is _CHAT else self._kind.content("")
        choice = f'{{"finish_reason":null,"index":0,{content}}}'
        return self._data(f'{{"choices":[{choice}],{self._tail}"object":"{self._kind.chunk}",{told}}}')

    def _data(self, text: str) -> bytes:
        return _chunk(b"data: %s\n\n" % text.encode())

    def _usage(self) -> str:
        prompt, count = self._prompt_tokens, self._behaviour.tokens
        return (
            f'"usage":{{"completion_tokens":{count},"prompt_tokens":{prompt},"total_tokens":{prompt + count},'
            f'"prompt_tokens_details":{{"cached_tokens":0}}}},"timings":{{"cache_n":0,"prompt_n":{prompt},'
            f'"prompt_ms":1.0,"prompt_per_token_ms":{1.0 / prompt},"prompt_per_second":{prompt * 1000.0},'
            f'"predicted_n":{count},"predicted_ms":1.0,"predicted_per_token_ms":1.0,"predicted_per_second":1000.0}}'
        )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def response(status: int, body: bytes, *, close: bool = False) -> bytes:
    """A whole answer of JSON."""
    reason = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 500: b"Internal Server Error"}[status]
    last = b"Connection: close\r\n" if close else b""
    kind = b"Server: fake\r\nContent-Type: application/json; charset=utf-8"
    return b"HTTP/1.1 %d %s\r\n%s\r\nContent-Length: %d\r\n%s\r\n" % (status, reason, kind, len(body), last) + body


def refuse(code: int, message: str, kind: str) -> bytes:
    """An error in the engine's shape."""
    return msgspec.json.encode({"error": {"code": code, "message": message, "type": kind}})


def too_long(prompt_tokens: Tokens, context_tokens: Tokens) -> bytes:
    """The error for a prompt over the context."""
    message = (
        f"request ({prompt_tokens} tokens) exceeds the available context size ({context_tokens} tokens), "
        "try increasing it"
    )
    error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
    return msgspec.json.encode({"error": {**error, "n_prompt_tokens": prompt_tokens, "n_ctx": context_tokens}})


def models(model_id: str, context_tokens: Tokens) -> bytes:
    """The list of models: one."""
    meta = {"n_vocab": len(WORDS), "n_ctx": context_tokens, "n_ctx_train": context_tokens, "n_embd": 8}
    model = {"id": model_id, "object": "model", "created": _CREATED, "owned_by": "llamacpp", "meta": meta}
    return msgspec.json.encode({"object": "list", "data": [model]})


def embeddings(model_id: str, context_tokens: Tokens, body: bytes) -> tuple[int, bytes]:
    """Status and body: vectors that depend on the length of the texts."""
    try:
        question = QUESTION.decode(body)
    except msgspec.MsgspecError as error:
        return 400, refuse(400, f"parse error: {error}", "invalid_request_error")
    texts = [question.input] if isinstance(question.input, str) else question.input
    lengths = [len(text) for text in texts] if isinstance(texts, list) else [1]
    counts = [length // BYTES_PER_TOKEN + 1 for length in lengths]
    if max(counts, default=0) > context_tokens:
        return 400, too_long(max(counts), context_tokens)
    rows = [[1.0 / (length + place + 1) for place in range(EMBEDDING_WIDTH)] for length in lengths]
    data = [
        {"embedding": _packed(row) if question.encoding_format == "base64" else row, "index": i, "object": "embedding"}
        for i, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return 200, msgspec.json.encode({"model": model_id, "object": "list", "usage": usage, "data": data})


def _packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
