from typing import Any

import pytest

from bercail.core.errors import UsageError
from bercail.core.recast import Wish
from bercail.core.responses import read

SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}}
TOOL = {"type": "function", "name": "run", "description": "runs", "strict": False, "parameters": SCHEMA}
OTHER = {"type": "function", "name": "look", "strict": True}
FUNCTION = {"type": "function", "function": {"name": "run", "description": "runs", "parameters": SCHEMA}}
LOOK = {
    "type": "function",
    "function": {
        "name": "look", "description": "", "parameters": {"type": "object", "properties": {}}, "strict": True,
    },
}  # fmt: skip
USER = {"role": "user", "content": "x"}


def asked(**body: Any) -> Wish:
    return read({"model": "tiny", "input": "x"} | body)


def messages(*items: Any, **body: Any) -> Any:
    return asked(input=list(items), **body).body["messages"]


def text(words: str, kind: str = "input_text") -> dict[str, str]:
    return {"type": kind, "text": words}


def call(name: str, at: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": at, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_is_a_message_of_the_user_and_instructions_are_the_system() -> None:
    wish = asked(instructions="Be brief.", max_output_tokens=9, temperature=0, top_p=0.5, user="u", seed=3)
    assert wish.body == {
        "model": "tiny", "temperature": 0, "top_p": 0.5, "user": "u", "seed": 3, "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, USER],
    }  # fmt: skip
    assert (wish.stream, wish.stops, wish.notes) == (False, (), ())
    assert asked(stream=True).stream


def test_what_the_system_says_first_is_one_message_and_what_it_says_later_goes_with_the_user() -> None:
    said = messages(
        {"type": "message", "role": "developer", "content": [text("a"), text("b")]},
        {"role": "system", "content": "c"},
        {"role": "user", "content": [text("x")]},
        {"role": "developer", "content": "d"},
        instructions="i",
    )
    assert said == [
        {"role": "system", "content": "i\n\na\n\nb\n\nc"},
        {"role": "user", "content": [text("x", "text"), text("<system-reminder>\nd\n</system-reminder>", "text")]},
    ]
    assert messages() == []


def test_what_the_model_thought_said_and_called_is_one_message_until_somebody_answers() -> None:
    said = messages(
        USER,
        {"type": "reasoning", "summary": [text("hm ", "summary_text")], "content": None},
        {"type": "reasoning", "summary": [], "content": [text("so", "reasoning_text")]},
        {"type": "message", "role": "assistant", "content": [text("I look.", "output_text")]},
        {"type": "function_call", "call_id": "1", "name": "run", "arguments": '{"cmd":"ls"}'},
        {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": "é"},
        {"type": "function_call_output", "call_id": "1", "output": "a.txt"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [text("done")]},
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "3", "name": "run"},
    )
    assert said == [
        USER,
        {
            "role": "assistant", "content": "I look.", "reasoning_content": "hm so",
            "tool_calls": [call("run", "1", '{"cmd":"ls"}'), call("patch", "2", '{"input": "é"}')],
        },
        {"role": "tool", "tool_call_id": "1", "content": "a.txt"},
        {"role": "tool", "tool_call_id": "2", "content": "done"},
        {"role": "assistant", "content": "", "tool_calls": [call("run", "3", "")]},
    ]  # fmt: skip


def test_a_second_thought_or_text_of_the_model_begins_a_message_of_its_own() -> None:
    thought = {"type": "reasoning", "content": [text("hm", "reasoning_text")]}
    said = {"role": "assistant", "content": "a"}
    assert messages(said, thought, said, said) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        {"role": "assistant", "content": "a"},
    ]


def test_pictures_sound_and_refusals_are_carried() -> None:
    picture = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aa"}
    sound = {"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}}
    [heard, refused] = messages(
        {"role": "user", "content": [text("see"), picture, sound]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    )
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}
    assert heard == {"role": "user", "content": [{"type": "text", "text": "see"}, url, sound]}
    assert refused == {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (None, {"tools": [FUNCTION, LOOK]}),
        ("auto", {"tools": [FUNCTION, LOOK], "tool_choice": "auto"}),
        ("required", {"tools": [FUNCTION, LOOK], "tool_choice": "required"}),
        ({"type": "function", "name": "look"}, {"tools": [LOOK], "tool_choice": "required"}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "run"}]},
            {"tools": [FUNCTION], "tool_choice": "required"},
        ),
        ({"type": "allowed_tools", "tools": []}, {}),
    ],
)
def test_tools_of_the_client_are_carried_and_those_of_others_left_out_and_told(choice: Any, made: Any) -> None:
    tools = [TOOL, {"type": "web_search"}, OTHER, {"type": "namespace", "name": "n", "tools": [TOOL]}]
    wish = asked(tools=tools, tool_choice=choice)
    assert {name: wish.body[name] for name in ("tools", "tool_choice") if name in wish.body} == made
    assert wish.notes == ("left out: tools of type web_search", "left out: tools of type namespace")


def test_several_calls_at_once_are_up_to_the_client_where_there_are_tools() -> None:
    assert asked(tools=[TOOL], parallel_tool_calls=False).body["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in asked(parallel_tool_calls=True).body
    assert "tool_choice" not in asked(tool_choice="auto").body


@pytest.mark.parametrize(
    ("effort", "made", "notes"),
    [
        ("low", {"reasoning_effort": "low"}, ()),
        ("minimal", {"reasoning_effort": "low"}, ()),
        ("none", {"enable_thinking": False}, ()),
        ("xhigh", {"reasoning_effort": "high"}, ("reasoning.effort: xhigh is taken for high",)),
    ],
)
def test_effort_reaches_the_chat_template(effort: str, made: dict[str, Any], notes: tuple[str, ...]) -> None:
    wish = asked(reasoning={"effort": effort, "summary": "auto"})
    assert (wish.body["chat_template_kwargs"], wish.notes) == (made, notes)


def test_the_shape_of_the_answer_is_that_of_a_chat() -> None:
    form = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
    made = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
    wish = asked(text={"format": form, "verbosity": "low"})
    assert (wish.body["response_format"], wish.notes) == (made, ("not heeded: text.verbosity",))
    assert asked(text={"format": {"type": "json_object"}}).body["response_format"] == {"type": "json_object"}
    assert "response_format" not in asked(text={"format": {"type": "text"}}).body


def test_the_answer_repeats_what_is_short() -> None:
    wish = asked(
        temperature=0.5, max_output_tokens=3, metadata={"a": "b"}, tool_choice="auto", instructions="long",
        text={"format": {"type": "json_object"}},
    )  # fmt: skip
    assert wish.echo == {
        "temperature": 0.5, "max_output_tokens": 3, "metadata": {"a": "b"}, "tool_choice": "auto",
        "text": {"format": {"type": "json_object"}},
    }  # fmt: skip
    assert asked(tool_choice={"type": "allowed_tools", "tools": []}).echo == {}


def test_what_is_not_heeded_is_told_and_what_concerns_other_servers_passed_over() -> None:
    wish = asked(store=True, truncation="auto", max_tool_calls=3, top_k=None, include=["x"], prompt_cache_key="k")
    assert wish.notes == (
        "not heeded: store, for no answer is kept here",
        "not heeded: truncation, for the server's own policy says whether a prompt is cut",
        "not heeded: max_tool_calls",
    )
    assert asked(store=False, truncation="disabled", client_metadata={}).notes == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id is not supported"),
        ({"conversation": "c"}, "conversation is not supported"),
        ({"background": True}, "background is not supported"),
        ({"prompt": {"id": "p"}}, "prompt is not supported"),
        ({"input": None}, "input is missing"),
        ({"input": 3}, "input must be a text or a list"),
        ({"input": ["x"]}, r"input\[0\] must be an object"),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, r"input\[0\] refers to an item of an earlier answer"),
        ({"input": [{"type": "computer_call"}]}, r"input\[0\].type is 'computer_call'"),
        ({"input": [{"role": "critic", "content": "x"}]}, r"input\[0\].role must be one of user"),
        ({"input": [{"role": "user"}]}, r"input\[0\].content is missing"),
        ({"input": [{"role": "user", "content": ["x"]}]}, r"input\[0\].content\[0\] must be an object"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, r"content\[0\].type is 'input_file'"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "u"}]}]},
            r"input\[0\].content must be text",
        ),
        ({"input": [{"type": "function_call", "call_id": "1"}]}, r"input\[0\].name is missing"),
        ({"tools": ["x"]}, r"tools\[0\] must be an object"),
        ({"tools": [{"type": "function"}]}, r"tools\[0\].name is missing"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, "asks for a tool, and there are none"),
        ({"tool_choice": {"type": "function", "name": "f"}, "tools": [TOOL]}, "tool_choice.name is 'f'"),
        ({"tool_choice": {"type": "web_search"}, "tools": [TOOL]}, "tool_choice is 'web_search'"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format is of type 'json_schema'"),
        ({"max_output_tokens": "3"}, "max_output_tokens must be a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_place(body: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(**body)
