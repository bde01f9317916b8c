"""The official client against the running server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama
from e2e.parrot import write_parrot

pytestmark = pytest.mark.engine

TOOL_TEMPLATE = (
    "{%- if tools -%}{{ 'tools: ' + (tools | tojson) + '\n' }}{%- endif -%}"
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content -%}{{ message.content }}{%- endif -%}"
    "{%- for call in message.tool_calls or [] -%}"
    "{{ '<tool_call>' + ({'name': call.function.name, 'arguments': call.function.arguments} | tojson) }}"
    "{{ '</tool_call>' }}"
    "{%- endfor -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]},
    },
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(up: Callable[..., Any], tmp_path: Path) -> Iterator[openai.OpenAI]:
    path = tmp_path / "tiny.gguf"
    write_llama(path, LlamaShape(layers=2, embedding=64, feed_forward=128), template=TOOL_TEMPLATE)
    server = up(path)
    server.wait_for("ready")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=240) as made:
        yield made


def test_chat_stream_and_whole_say_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=24, temperature=0, seed=1)
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=24, temperature=0, seed=1, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    pieces = list(stream)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert whole.usage is not None
    assert pieces[-1].usage is not None
    assert whole.usage.completion_tokens == pieces[-1].usage.completion_tokens == 24
    assert whole.choices[0].finish_reason == "length"
    assert whole.model == "tiny"


def test_several_choices_come_back_apart(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, n=2, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content is not None for choice in answer.choices)


def test_a_tool_call_comes_back_as_a_tool_call_whole_and_streamed(up: Callable[..., Any], tmp_path: Path) -> None:
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'
    server = up(write_parrot(tmp_path / "parrot.gguf", call, template=TOOL_TEMPLATE))
    server.wait_for("ready")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=240) as made:
        asked: Any = {"model": "parrot", "messages": HELLO, "tools": [WEATHER], "temperature": 0}
        whole = made.chat.completions.create(**asked)
        calls = whole.choices[0].message.tool_calls
        assert [(made_call.function.name, made_call.function.arguments) for made_call in calls] == [
            ("get_weather", '{"city": "Rome"}')
        ]
        assert whole.choices[0].finish_reason == "tool_calls"
        deltas = [
            chunk.choices[0].delta for chunk in made.chat.completions.create(stream=True, **asked) if chunk.choices
        ]
        streamed = [part.function for delta in deltas for part in delta.tool_calls or []]
        assert "".join(part.name or "" for part in streamed) == "get_weather"
        assert json.loads("".join(part.arguments or "" for part in streamed)) == {"city": "Rome"}


def test_tools_reach_the_chat_template(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1)
    tools = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1, tools=[WEATHER])
    assert plain.usage is not None
    assert tools.usage is not None
    assert tools.usage.prompt_tokens > plain.usage.prompt_tokens + 100


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object", "properties": {"ok": {"const": True}},
                        "required": ["ok"], "additionalProperties": False}},
    }  # fmt: skip
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, response_format=schema, max_tokens=400, temperature=0
    )
    assert json.loads(answer.choices[0].message.content or "") == {"ok": True}


def test_completions_work_for_several_prompts(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=["Once", "There"], max_tokens=4, temperature=0)
    assert sorted(choice.index for choice in answer.choices) == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_an_unknown_model_is_a_404_that_names_the_known_ones(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)


def test_a_prompt_over_the_context_is_refused_in_words_that_agents_match(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x " * 9000}])
    body: Any = refused.value.body
    assert body["code"] == "context_length_exceeded"
    assert body["n_ctx"] == 2048
    asked = body["n_prompt_tokens"]
    assert asked > 2048
    assert (
        f"This model's maximum context length is 2048 tokens. However, you requested {asked} tokens" in body["message"]
    )
    assert f"request ({asked} tokens) exceeds the available context size (2048 tokens)" in body["message"]


def test_a_prompt_over_the_context_is_refused_for_streams_as_well(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x " * 9000}], stream=True)


def test_the_listing_tells_state_context_and_capabilities(client: openai.OpenAI) -> None:
    row: Any = client.models.list().data[0]
    assert (row.id, row.context_length, row.status["value"], row.loaded) == ("tiny", 2048, "loaded", True)
    assert {"chat", "completion", "tools"} <= set(row.capabilities)
    assert row.meta["n_ctx_train"] == 2048


def test_embeddings_of_a_text_model_are_refused_with_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embed"):
        client.embeddings.create(model="tiny", input="Hello")


def test_a_model_started_for_embeddings_embeds(up: Callable[..., Any], tiny: Path) -> None:
    server = up(tiny, "--embedding", "--pooling", "mean", "--context", "512")
    server.wait_for("ready")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        answer = made.embeddings.create(model="tiny", input=["Hello", "World"])
        assert [len(row.embedding) for row in answer.data] == [64, 64]
        assert answer.data[0].embedding != answer.data[1].embedding
        own = made.embeddings.create(model="tiny", input="Hello", dimensions=64)
        assert own.data[0].embedding == pytest.approx(answer.data[0].embedding, abs=1e-3)
        forms: tuple[Literal["float", "base64"], ...] = ("float", "base64")
        for form in forms:
            with pytest.raises(openai.BadRequestError, match="makes vectors of 64 values"):
                made.embeddings.create(model="tiny", input="Hello", dimensions=32, encoding_format=form)
        longer = made.embeddings.create(model="tiny", input="x " * 200)
        assert longer.usage.prompt_tokens > 256  # a whole text in one batch
        with pytest.raises(openai.BadRequestError):
            made.chat.completions.create(model="tiny", messages=HELLO)
