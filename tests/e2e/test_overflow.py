"""A conversation that is longer than the context of a real engine, where trimming is asked for."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Server, environment_in, serve

pytestmark = pytest.mark.engine

LONG: Any = [
    {"role": "system", "content": "You tell stories."},
    *(
        {"role": role, "content": f"{number} words of a {role} that go on for a while"}
        for number in range(40)
        for role in ("user", "assistant")
    ),
    {"role": "user", "content": "And then?"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trim")
    server = serve(environment_in(folder), folder, "--context", "1024", "--overflow", "trim-middle", tiny)
    server.wait_for("ready")
    yield server
    server.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": LONG, "max_tokens": 4, "temperature": 0}),
        ("/v1/messages", {"messages": LONG[1:], "system": "You tell stories.", "max_tokens": 4, "temperature": 0}),
        ("/v1/completions", {"prompt": "a story " * 900, "max_tokens": 4, "temperature": 0}),
    ],
)
def test_what_is_too_long_is_answered_and_the_engine_agrees_with_the_count(
    server: Server, path: str, body: dict[str, Any]
) -> None:
    status, answer = server.request("POST", path, body)
    assert status == 200, answer
    usage = answer["usage"]
    read = usage.get("prompt_tokens") or usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert read < 1024
    if "messages" in body:
        assert usage["trimmed_messages"] > 0
        _, whole = server.request("POST", "/v1/messages/count_tokens", {"messages": LONG})
        assert read + usage["trimmed_tokens"] == whole["input_tokens"]
    assert usage["trimmed_tokens"] > 0


def test_a_message_that_is_too_long_alone_is_refused(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "a story " * 2000}]}
    status, answer = server.request("POST", "/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert "overflow: trim-middle" in json.dumps(answer)
