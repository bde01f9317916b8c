"""OpenVINO GenAI reads the model in the box by itself, and says what llama.cpp says."""

from collections.abc import Callable

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
