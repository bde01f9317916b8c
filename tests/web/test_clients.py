"""What agents send, in short: every member that they were seen to send, with words of ours."""

import json
from typing import Any

import pytest

from bercail.core.dialect import PASSAGES
from bercail.web.dialects.tongue import tongue_of
from fakes.bench import Bench, answer
from fakes.host import FakeHost, served
from fakes.upstream import FakeUpstream

SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
CALLED = {"name": "run", "description": "runs", "parameters": SCHEMA}
CACHED = {"type": "ephemeral"}
REMINDER = "<system-reminder>\nAgents: none.\n</system-reminder>"


def words(text: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"type": kind, "text": text} | more


CLAUDE_CODE: dict[str, Any] = {
    "model": "tiny", "max_tokens": 32_000, "stream": True, "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"}, "metadata": {"user_id": '{"session_id":"1"}'},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "system": [words("x-anthropic-billing-header: cc_version=2"), words("You are an agent."), words(" Be brief.")],
    "tools": [{"name": "run", "description": "runs", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": [words("Today is Sunday."), words("What is in a.txt?")]},
        {"role": "system", "content": "Agents: none."},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I look.", "signature": ""},
            {"type": "tool_use", "id": "t", "name": "run", "input": {"command": "cat a.txt"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": "hello", "is_error": False, "cache_control": CACHED},
        ]},
    ],
}  # fmt: skip
"""As Claude Code 2.1.197 sends it after its first call of a tool."""

CODEX: dict[str, Any] = {
    "model": "tiny", "stream": True, "store": False, "tool_choice": "auto", "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "1",
    "client_metadata": {"session_id": "1"},
    "tools": [
        {"type": "function", "strict": False} | CALLED,
        {"type": "namespace", "name": "agents", "description": "", "tools": []},
        {"type": "web_search", "external_web_access": False},
    ],
    "input": [
        {"type": "message", "id": "1", "role": "developer", "content": [words("You are an agent.", "input_text")]},
        {"type": "message", "id": "2", "role": "developer", "content": [
            words("Skills: none.", "input_text"), words("Nothing may be written.", "input_text"),
        ]},
        {"type": "message", "id": "3", "role": "user", "content": [words("The shell is bash.", "input_text")]},
        {"type": "message", "id": "4", "role": "user", "content": [words("What is in a.txt?", "input_text")]},
        {"type": "reasoning", "id": "5", "summary": [], "encrypted_content": None},
        {"type": "function_call", "id": "6", "call_id": "t", "name": "run", "arguments": '{"command":"cat a.txt"}'},
        {"type": "function_call_output", "call_id": "t", "output": "hello"},
    ],
}  # fmt: skip
"""As Codex 0.169.0 sends it then."""

CALL = {"id": "t", "type": "function", "function": {"name": "run", "arguments": '{"command":"cat a.txt"}'}}


@pytest.mark.parametrize(
    ("path", "body", "messages", "notes"),
    [
        (
            "/v1/messages?beta=true",
            CLAUDE_CODE,
            [
                {"role": "system", "content": "You are an agent. Be brief."},
                {"role": "user", "content": [words("Today is Sunday."), words("What is in a.txt?"), words(REMINDER)]},
                {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "t", "content": "hello"},
            ],
            {
                "not heeded: context_management",
                "what the system says after others is told as a part of what the user says",
            },
        ),
        (
            "/v1/responses",
            CODEX,
            [
                {"role": "system", "content": "You are an agent.\n\nSkills: none.\n\nNothing may be written."},
                {"role": "user", "content": [words("The shell is bash."), words("What is in a.txt?")]},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "t", "content": "hello"},
            ],
            {"left out: tools of type namespace", "left out: tools of type web_search"},
        ),
    ],
)
def test_what_an_agent_sends_is_a_chat_that_templates_take(
    path: str, body: dict[str, Any], messages: list[Any], notes: set[str]
) -> None:
    one = Bench(FakeHost(known=[served(engine="llama.cpp", format="gguf")]), FakeUpstream(answer("hi")))
    client = one.post(path, body)
    assert (client.status, client.complete) == (200, True)
    assert client.headers["x-bercail-note"] in notes
    assert set(tongue_of(PASSAGES[path.partition("?")[0]]).read(body).notes) == notes
    [asked] = one.upstream.asked
    sent = json.loads(asked.body)
    assert sent["messages"] == messages
    assert sent["tools"] == [{"type": "function", "function": CALLED}]
