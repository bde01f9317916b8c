"""An engine's answer to a chat, piece by piece, for gateways that put it into other words."""

import json
from typing import Any

from fakes.bench import Bench
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream, Scripted

CHAT, COUNTER = "/v1/chat/completions", "/v1/chat/completions/input_tokens"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
TIMINGS = {"prompt_n": 5, "predicted_n": 3, "cache_n": 4}


def packed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def chunk(finish: str | None = None, *, said: dict[str, Any] | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "delta": said or {}}
    return b"data: " + packed({"id": "chatcmpl-1", "created": 7, "choices": [choice]} | more) + b"\n\n"


BEGIN = chunk(said={"role": "assistant", "content": None}, prompt_progress={"total": 9, "cache": 4, "processed": 9})
COUNTS = b"data: " + packed({"choices": [], "usage": USAGE, "timings": TIMINGS}) + b"\n\n"


def words(*said: str) -> list[bytes]:
    return [chunk(said={"content": word}) for word in said]


def bench(*pieces: Any, status: int = 200, **model: Any) -> Bench:
    """A gateway before llama.cpp, unless ``model`` says otherwise, which answers with ``pieces``."""
    host = FakeHost(known=[served(**{"engine": "llama.cpp", "format": "gguf"} | model)])
    return Bench(host, FakeUpstream(Scripted(pieces=pieces, status=status)))
