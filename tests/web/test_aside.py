"""Side requests: another model answers, and says so."""

import json
from typing import Any

import pytest

from bercail.core.configuration import SideRule
from bercail.core.route import Phase
from fakes.bench import Bench, answer
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream

CHAT = "/v1/chat/completions"
TASK = {"role": "user", "content": "### Task:\nGenerate a title"}
RULE = SideRule(id="titles", line=1, clients=("open-webui",))


def bench() -> Bench:
    host = FakeHost(known=(served("big", phase=Phase.UNLOADED, tells_loading=True), served("tiny")), rules=(RULE,))
    return Bench(host, FakeUpstream(answer("hi")))


def body(**more: Any) -> dict[str, Any]:
    return {"model": "big", "messages": [TASK], **more}


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_in_memory_answers_and_is_named(stream: bool) -> None:
    one = bench()
    client = one.post(CHAT, body(stream=stream))
    assert (client.status, client.headers["x-bercail-model"]) == (200, "tiny")
    assert b'"model":"tiny"' in one.upstream.asked[0].body
    assert json.loads(one.upstream.asked[0].body)["model"] == "tiny"
    assert one.host.substituted == [("tiny",)]
    assert "tiny" in one.app.metrics.text(()).decode()
    assert b"reasoning_content" not in client.body


@pytest.mark.parametrize("stream", [True, False])
def test_in_the_words_of_ollama_too(stream: bool) -> None:
    one = bench()
    one.host.rules = (SideRule(id="titles", line=1, clients=("open-webui",), max_tokens=9),)
    client = one.post("/api/chat", body(stream=stream, options={"num_predict": 9}))
    assert client.headers["x-bercail-model"] == "tiny"
    assert {json.loads(line)["model"] for line in client.body.splitlines()} == {"tiny"}


@pytest.mark.parametrize(
    "request_body",
    [
        body(messages=[{"role": "user", "content": "hello"}]),
        body(tools=[{"type": "function"}]),
        body(messages=[{"role": "user", "content": [{"type": "text", "text": "### Task:"}]}]),
        body(messages=[]),
    ],
)
def test_what_is_no_side_request_gets_its_own_model(request_body: dict[str, Any]) -> None:
    one = bench()
    client = one.post(CHAT, request_body)
    assert "x-bercail-model" not in client.headers
    assert one.host.substituted == [()]


def test_without_a_rule_nobody_else_answers() -> None:
    one = bench()
    one.host.rules = ()
    assert "x-bercail-model" not in one.post(CHAT, body()).headers


def test_a_system_prompt_counts_as_well() -> None:
    one = bench()
    one.host.rules = (SideRule(id="t", line=1, prompts=("you write titles",)),)
    client = one.post(CHAT, body(messages=[{"role": "system", "content": "You write titles"}, {"role": "user"}]))
    assert client.headers["x-bercail-model"] == "tiny"
