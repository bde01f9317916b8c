"""Whatever fails, its answer says which model it was."""

import pytest

from bercail.core.errors import (
    BercailError,
    BusyError,
    EngineError,
    ReadError,
    RefusedError,
    StoppingError,
)
from bercail.core.model import Capability
from fakes.bench import Bench
from fakes.host import FakeHost, served

HELLO = [{"role": "user", "content": "hello"}]
PATHS: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 1},
    "/v1/responses": {"input": "x"},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
    "/completion": {"prompt": "x"},
    "/tokenize": {"content": "x"},
    "/api/chat": {"messages": HELLO},
    "/api/generate": {"prompt": "x"},
    "/api/embed": {"input": "x"},
    "/upstream/p/z/any": {},
}
FAILURES: dict[str, BercailError] = {
    "context": RefusedError("context 2,048 is more than 512", hint="context 512 fits", code="cannot_be_had"),
    "memory": RefusedError("needs 8 GiB, 4 are free"),
    "file": ReadError("no such file", path="/models/p/z.gguf"),
    "peer": EngineError("http://127.0.0.1:1 does not answer: Connection refused"),
    "death": EngineError("the engine died (signal 9)", log_tail=("a", "b")),
    "time": EngineError("nothing came for 5 s", code="engine_timeout"),
    "queue": BusyError("128 requests wait already", status=429, retry_after_s=3),
    "wait": BusyError("it waited for 600 s", retry_after_s=3),
    "defect": BercailError("odd"),
}


def words(failure: BercailError, path: str, **body: object) -> str:
    host = FakeHost(known=[served("p/z", capabilities=tuple(Capability), engine="llama.cpp")], refusal=failure)
    error = Bench(host).post(path, {"model": "p/z", **PATHS[path], **body}).json["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("path", PATHS)
def test_the_model_stands_in_front(path: str, name: str) -> None:
    found = words(FAILURES[name], path)
    assert found.startswith(f"p/z: {FAILURES[name].message}")
    assert found.count("p/z:") == 1


@pytest.mark.parametrize("path", PATHS)
def test_what_names_it_already_is_told_as_it_is(path: str) -> None:
    assert words(EngineError("the engine of p/z died"), path) == "the engine of p/z died"


@pytest.mark.parametrize("path", PATHS)
def test_what_is_of_the_whole_server_names_none(path: str) -> None:
    assert words(StoppingError("the server is going down"), path) == "the server is going down"
