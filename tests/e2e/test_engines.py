"""The engines at hand, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bercail.engines import OnnxRuntime, OpenVino
from e2e.conftest import Done, Server


def test_without_a_build_the_one_in_the_box_is_used_and_what_it_leaves_unused_is_told(run: Callable[..., Done]) -> None:
    done = run("engine", "list")
    assert done.status == 0
    assert "none was built here; `bercail engine build` makes one" in done.out
    assert "used     llama.cpp: in the box" in done.out
    told = json.loads(run("engine", "list", "--json").out)
    assert (told["schema"], told["engines"]) == ("bercail.engines/1", [])
    assert (told["at_hand"][0]["id"], told["at_hand"][0]["build"], told["at_hand"][0]["reads"]) == (
        "embedded", "b11549", ["gguf"],
    )  # fmt: skip
    assert "embedded" in done.out
    assert "none was built here" in run("engine", "verify").out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("use", "abacus"), 1, "no engine 'abacus'"),
        (("remove", "abacus"), 1, "none was built here"),
        (("verify", "abacus"), 1, "none was built here"),
        (("build", "--backend", "abacus"), 2, "'abacus' is not one of 'cpu', 'cuda'"),
        (("build", "--jobs", "0"), 2, "0 is not in the range"),
        (("compare", "none.gguf"), 1, "none.gguf"),
    ],
)
def test_what_is_wrong_is_told(run: Callable[..., Done], arguments: tuple[str, ...], status: int, words: str) -> None:
    done = run("engine", *arguments)
    assert (done.status, words in done.err) == (status, True), done.err


@pytest.mark.parametrize(
    ("engine", "status", "words"),
    [
        ("/none/llama-server", 2, "/none/llama-server is no program"),
        ("abacus", 1, "no engine 'abacus'"),
    ],
)
def test_an_engine_that_is_not_there_is_told(run: Callable[..., Done], engine: str, status: int, words: str) -> None:
    done = run("plan", "bercail-demo", "--engine", engine)
    assert (done.status, words in done.err) == (status, True), done.err


def test_a_source_that_is_not_the_one_is_refused(run: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "source.tar.gz"
    source.write_bytes(b"something else")
    done = run("engine", "build", "--source", str(source))
    assert done.status == 1
    assert "SHA-256 is" in done.err or "which is not installed" in done.err  # without a compiler it comes to that first


@pytest.mark.engine
@pytest.mark.shared
def test_a_folder_for_onnx_runtime_is_served(run: Callable[..., Done], up: Callable[..., Server], shared: Path) -> None:
    if not OnnxRuntime().installed():
        pytest.skip("onnxruntime-genai is not installed (extra onnxruntime)")
    folder = str(shared / "models" / "onnx" / "onnx-stories260K")
    assert "reads ONNX" in run("plan", folder).out
    refused = run("plan", folder, "--engine", "embedded")
    assert "reads gguf, and that is onnx" in refused.err
    assert run("plan", folder, "--no-flash-attention").status == 2
    server = up(folder)
    server.wait_for("ready")
    question = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}
    status, answer = server.request("POST", "/v1/completions", question)
    assert (status, answer["choices"][0]["text"]) == (200, ", there was a little girl named Lily. She")
    (listed,) = server.request("GET", "/v1/models")[1]["data"]
    assert (listed["format"], listed["engine"]) == ("onnx", "onnxruntime")
    assert "logprobs" in listed["unsupported_parameters"]
    assert "chat" not in listed["capabilities"]


def test_what_is_chosen_by_hand_stays_chosen(run: Callable[..., Done]) -> None:
    assert "used     llama.cpp: as asked" in run("engine", "use", "embedded").out
    assert "as asked" in run("engine", "list").out
    assert "in the box" in run("engine", "use", "auto").out


@pytest.mark.engine
def test_the_demo_on_openvino_says_what_it_says_on_llama_cpp(up: Callable[..., Server]) -> None:
    if not OpenVino().installed():
        pytest.skip("openvino-genai is not installed (extra openvino)")
    question = {"messages": [{"role": "user", "content": "What is a KV cache?"}], "temperature": 0, "max_tokens": 60}
    said = []
    for engine in ("embedded", "openvino"):
        server = up("bercail-demo", "--engine", engine)
        plan = server.wait_for("planned")["plan"]
        assert plan["engine"] == ("llama.cpp" if engine == "embedded" else "openvino")
        server.wait_for("ready")
        status, answer = server.request("POST", "/v1/chat/completions", question)
        assert status == 200, answer
        said.append(answer["choices"][0]["message"]["content"])
        server.end()
    assert said[0] == said[1]
