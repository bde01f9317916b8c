from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.anthropic import read
from bercail.core.errors import UsageError
from bercail.core.recast import Wish

USER = {"role": "user", "content": "x"}
SCHEMA = {"type": "object"}
TOOL = {"name": "f", "description": "does f", "input_schema": SCHEMA}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "does f", "parameters": SCHEMA}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}


def asked(**members: Any) -> Wish:
    return read({"messages": [USER]} | members)


def said(*messages: Any) -> Any:
    return read({"messages": list(messages)}).body["messages"]


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text} | more


def test_what_both_dialects_call_by_the_same_name_stays_as_it_is() -> None:
    same = {"model": "tiny", "max_tokens": 9, "temperature": 0.5, "top_p": 1, "top_k": 4, "seed": 1, "min_p": 0.1}
    wish = asked(**same, stream=True, stop_sequences=["a", "", "b"], metadata={"user_id": "u"}, cache_control={"x": 1})
    assert wish.body == same | {"messages": [USER], "stop": ["a", "b"], "user": "u"}
    assert (wish.stream, wish.stops, wish.notes) == (True, ("a", "b"), ())
    assert asked() == Wish(body={"messages": [USER]}, stream=False, stops=(), notes=())


@pytest.mark.parametrize(
    ("system", "prompt"),
    [
        ("Be brief.", "Be brief."),
        ([words("Be "), words("brief.", cache_control={"type": "ephemeral"})], "Be brief."),
        ([words("x-anthropic-billing-header: cc=1"), words("Be brief.")], "Be brief."),
        ("x-anthropic-billing-header: cc=1\nBe brief.", "Be brief."),
    ],
)
def test_the_system_prompt_is_the_first_message(system: object, prompt: str) -> None:
    assert asked(system=system).body["messages"] == [{"role": "system", "content": prompt}, USER]


@pytest.mark.parametrize("system", [None, "", [], [words("x-anthropic-billing-header: cc=1")]])
def test_a_system_prompt_that_says_nothing_is_none(system: object) -> None:
    assert asked(system=system).body["messages"] == [USER]


def test_a_single_text_is_a_text_and_several_blocks_are_parts() -> None:
    assert said({"role": "user", "content": [words("x", cache_control={})]}) == [USER]
    [both] = said({"role": "user", "content": [words("see"), PNG]})
    assert both["content"] == [words("see"), PICTURE]
    address = {"type": "image", "source": {"type": "url", "url": "data:image/png;base64,aa"}}
    assert said({"role": "user", "content": [address]}) == [{"role": "user", "content": [PICTURE]}]
    assert said({"role": "user", "content": []}) == [{"role": "user", "content": ""}]
    assert said({"role": "system", "content": [words("a"), words("b")]}) == [{"role": "system", "content": "a\nb"}]
    bare = {"type": "image", "source": {"type": "base64", "data": "aa"}}
    assert "data:image/jpeg;base64,aa" in str(said({"role": "user", "content": [bare]}))


def test_most_templates_know_one_system_at_the_head_and_a_user_and_a_model_in_turn() -> None:
    later = {"role": "system", "content": "Tools: f."}
    wish = asked(system="Be brief.", messages=[USER, later, {"role": "assistant", "content": "a"}, later, USER, USER])
    reminder = words("<system-reminder>\nTools: f.\n</system-reminder>")
    assert wish.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [words("x"), reminder]},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [reminder, words("x"), words("x")]},
    ]
    assert wish.notes == ("what the system says after others is told as a part of what the user says",)
    first = asked(system="Be brief.", messages=[later, USER])
    assert first.body["messages"] == [{"role": "system", "content": "Be brief.\n\nTools: f."}, USER]
    assert first.notes == ()


def test_thoughts_and_calls_of_the_model_go_with_its_words() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        words("so"),
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "ä", "b": [1]}},
    ]
    arguments = '{"a":"ä","b":[1]}'
    assert said({"role": "assistant", "content": blocks}) == [
        {
            "role": "assistant",
            "content": "so",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}],
        }
    ]
    assert said({"role": "assistant", "content": [words("a")]}) == [{"role": "assistant", "content": "a"}]


def test_results_follow_their_call_in_their_order_and_what_the_user_says_stays_where_it_was() -> None:
    def result(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "tool_result", "tool_use_id": name} | more

    made = said(
        {
            "role": "user",
            "content": [
                result("a", content="1"),
                result("b", content=[words("2"), words("3")]),
                words("now"),
                result("c"),
                result("d", content=[words("see"), PNG]),
                words("go on"),
            ],
        }
    )
    assert [(one["role"], one.get("tool_call_id"), one["content"]) for one in made] == [
        ("tool", "a", "1"),
        ("tool", "b", "23"),
        ("user", None, "now"),
        ("tool", "c", ""),
        ("tool", "d", [words("see"), PICTURE]),
        ("user", None, "go on"),
    ]
    assert said({"role": "user", "content": [result("a")]}) == [{"role": "tool", "tool_call_id": "a", "content": ""}]


def test_tools_become_functions() -> None:
    assert asked(tools=[TOOL]).body["tools"] == [FUNCTION]
    strict = asked(tools=[TOOL | {"type": "custom", "strict": True, "cache_control": {}}]).body["tools"]
    assert strict == [{"type": "function", "function": FUNCTION["function"] | {"strict": True}}]  # type: ignore[operator] # a dict
    assert "tools" not in asked(tools=[]).body


OTHER = TOOL | {"name": "g"}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": "required", "tools": [FUNCTION]}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"type": "any", "disable_parallel_tool_use": False}, {"tool_choice": "required"}),
    ],
)
def test_the_choice_of_a_tool_is_told_in_words_that_engines_heed(choice: Any, made: dict[str, Any]) -> None:
    body = asked(tools=[TOOL, OTHER], tool_choice=choice).body
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} | (
        {"tools": body["tools"]} if "tools" in made else {}
    ) == made


def test_a_choice_among_no_tools_is_none() -> None:
    assert asked(tool_choice={"type": "auto"}).body == {"messages": [USER]}


@pytest.mark.parametrize(
    ("thinking", "made"),
    [
        ({"type": "enabled", "budget_tokens": 99}, {"chat_template_kwargs": {"enable_thinking": True}, "n": 99}),
        ({"type": "adaptive"}, {"chat_template_kwargs": {"enable_thinking": True}, "n": None}),
        ({"type": "disabled"}, {"chat_template_kwargs": {"enable_thinking": False}, "n": None}),
        (None, {"chat_template_kwargs": None, "n": None}),
    ],
)
def test_thinking_is_asked_of_the_template_and_bounded_by_the_engine(thinking: Any, made: dict[str, Any]) -> None:
    body = asked(thinking=thinking).body
    found = {"chat_template_kwargs": body.get("chat_template_kwargs"), "n": body.get("thinking_budget_tokens")}
    assert found == made


def test_what_a_client_says_to_the_template_itself_counts() -> None:
    said_itself = {"enable_thinking": False, "x": 1}
    body = asked(thinking={"type": "adaptive"}, chat_template_kwargs=said_itself).body
    assert body["chat_template_kwargs"] == said_itself


def test_the_form_of_the_answer_and_the_effort_are_carried() -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    made = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    wish = asked(output_config={"effort": "low", "format": form})
    assert (wish.body["response_format"], wish.body["chat_template_kwargs"]) == (made, {"reasoning_effort": "low"})
    assert asked(output_format=form).body["response_format"] == made
    most = asked(output_config={"effort": "max"})
    assert most.body["chat_template_kwargs"] == {"reasoning_effort": "high"}
    assert most.notes == ("output_config.effort: max is taken for high",)


def test_what_is_not_heeded_is_told() -> None:
    wish = asked(
        service_tier="auto", context_management={}, container=None, mcp_servers=[],
        thinking={"type": "adaptive", "display": "omitted"}, output_config={"task_budget": 5},
        tools=[TOOL | {"defer_loading": True, "input_examples": []}],
        messages=[{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "is_error": True},
            {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        ]}],
    )  # fmt: skip
    assert wish.notes == (
        "is_error is not told apart: the model reads the result as it is",
        "not heeded: tools[].defer_loading",
        "not heeded: thinking.display",
        "not heeded: output_config.task_budget",
        "not heeded: context_management, service_tier",
    )


def heard(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [USER, {"role": role, "content": list(blocks)}]}


REFUSALS: list[tuple[dict[str, Any], str]] = [
    (heard({"type": "document", "source": {}}), "messages[1].content[0].type is 'document'"),
    (heard({"type": "search_result"}), "messages[1].content[0].type is 'search_result'"),
    (heard({"type": "tool_use", "id": "a", "name": "b", "input": {}}), "messages[1].content[0].type is 'tool_use'"),
    (heard({"type": "redacted_thinking", "data": "x"}, role="assistant"), "type is 'redacted_thinking'"),
    (heard({"type": "server_tool_use", "id": "x"}, role="assistant"), "type is 'server_tool_use'"),
    (heard({"type": "tool_result", "tool_use_id": "a"}, role="assistant"), "type is 'tool_result'"),
    (heard(words("a", citations=[{"x": 1}]), role="assistant"), "messages[1].content[0].citations is not supported"),
    (heard("x"), "messages[1].content[0] must be an object with a type"),
    (heard({"type": "text", "text": 5}), "messages[1].content[0] must be a block of text"),
    (heard({"type": "image", "source": {"type": "file", "file_id": "f"}}), "source.type is 'file'"),
    (heard({"type": "image", "source": {"type": "base64"}}), "messages[1].content[0].source.data is missing"),
    (heard({"type": "tool_result", "content": "x"}), "messages[1].content[0].tool_use_id is missing"),
    (
        heard({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "document"}]}),
        "messages[1].content[0].content[0].type is 'document'",
    ),
    (heard({"type": "tool_use", "id": "a", "name": "b", "input": "c"}, role="assistant"), "input must be an object"),
    ({"messages": [5]}, "messages[0] must be an object whose role is user, assistant or system"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0] must be an object whose role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content is missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be a text or a list"),
    ({"system": 5}, "system must be a text or a list"),
    ({"system": [PNG]}, "system[0] must be a block of text"),
    ({"stop_sequences": [5]}, "stop_sequences must be a list of texts"),
    ({"max_tokens": "9"}, "max_tokens must be a whole number"),
    ({"temperature": True}, "temperature must be a whole number or a number"),
    ({"tools": [5]}, "tools[0] must be an object"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type is 'web_search_20250305'"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema must be an object"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name is missing"),
    ({"tool_choice": {"type": "any"}}, "tool_choice asks for a tool, and there are none"),
    ({"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice asks for a tool, and there are none"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "h"}}, "tool_choice.name is 'h', which is none"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name is missing"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type is 'some'"),
    ({"thinking": {"type": "some"}}, "thinking.type is 'some'"),
    ({"thinking": {"type": "enabled", "budget_tokens": "9"}}, "thinking.budget_tokens must be a whole number"),
    ({"output_format": {"type": "xml"}}, "the format of the output must be of type json_schema"),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers is not supported"),
    ({"container": "c"}, "container is not supported"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id must be a text"),
]


@pytest.mark.parametrize(("body", "told"), REFUSALS, ids=[told for _, told in REFUSALS])
def test_what_cannot_be_carried_is_refused_by_its_place(body: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read({"messages": [USER]} | body)
    assert told in refused.value.message
    assert refused.value.hint


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=3)
    | st.sampled_from(["text", "user", "assistant", "tool_use", "tool_result", "image", "thinking", "auto", "tool"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["type", "role", "content", "text", "name", "input", "source", "tool_use_id", "input_schema"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
NAMES = ["messages", "system", "tools", "tool_choice", "thinking", "stop_sequences", "metadata", "output_config"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUE))
def test_no_body_makes_the_reader_break(body: dict[str, Any]) -> None:
    with suppress(UsageError):
        assert isinstance(read(body).body["messages"], list)
