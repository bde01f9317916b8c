"""OpenVINO GenAI reads the model in the box by itself, and says what llama.cpp says."""

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from bercail.demo import demo_path
from e2e.conftest import Server
from tools.concierge.evaluate import Served

pytestmark = pytest.mark.engine
QUESTIONS = ("What is a KV cache?", "Qui a gagné la coupe du monde 1998 ?", "Sur quel port écoute le serveur ?")


def test_openvino_genai_loads_the_file_and_answers_as_llama_cpp_does(up: Callable[..., Server]) -> None:
    genai = pytest.importorskip("openvino_genai", reason="openvino-genai is not installed (extra dev)")
    server = up()
    server.wait_for("ready")
    asked = Served(server.url)
    pipeline = genai.LLMPipeline(str(demo_path()), "CPU")
    settings = genai.GenerationConfig(max_new_tokens=128, do_sample=False)
    said = []
    for question in QUESTIONS:
        history = genai.ChatHistory([{"role": "user", "content": question}])
        said.append(pipeline.generate(history, settings).texts[0])
    assert said == [asked(question, tools=False).text for question in QUESTIONS]


LONG: Any = [
    {"role": role, "content": f"{number} words of a {role}"} for number in range(40) for role in ("user", "assistant")
]


def test_messages_are_answered_counted_and_trimmed_by_a_worker(up: Callable[..., Server]) -> None:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed (extra dev)")
    server = up("bercail-demo", "--engine", "openvino", "--context", "256", "--overflow", "trim-oldest")
    server.wait_for("ready")
    said: Any = [{"role": "user", "content": [{"type": "text", "text": "What is a KV cache?"}]}]
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=240) as client:
        asked: Any = {"model": "bercail-demo", "messages": said, "max_tokens": 24, "extra_body": {"temperature": 0}}
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        assert [block.model_dump() for block in whole.content] == [block.model_dump() for block in streamed.content]
        assert whole.content
        counted = client.messages.count_tokens(model="bercail-demo", messages=said)
        assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
        with pytest.raises(anthropic.BadRequestError, match="has no tools"):
            client.messages.create(**asked, tools=[{"name": "f", "input_schema": {"type": "object"}}])
    messages = [*LONG, {"role": "user", "content": "And then?"}]
    for path, body, member in (
        ("/v1/messages", {"messages": messages}, "input_tokens"),
        ("/v1/responses", {"input": messages, "max_output_tokens": 4}, "input_tokens"),
        ("/v1/chat/completions", {"messages": messages}, "prompt_tokens"),
        ("/v1/completions", {"prompt": "a story " * 400}, "prompt_tokens"),
    ):
        status, answer = server.request("POST", path, body | {"max_tokens": 4, "temperature": 0})
        assert status == 200, answer
        usage = answer["usage"]
        read = usage[member] + usage.get("cache_read_input_tokens", 0)
        assert 128 < read < 256
        assert usage["trimmed_tokens"] > 0
        if path != "/v1/completions":
            whole_count = server.request("POST", "/v1/messages/count_tokens", {"messages": messages})[1]
            assert read + usage["trimmed_tokens"] == whole_count["input_tokens"]
