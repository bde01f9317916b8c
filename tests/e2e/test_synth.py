"""Models with random weights in any stock mix run on the real engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import Server
from tools.synth.__main__ import write_random
from tools.synth.mix import quantized
from tools.synth.shapes import known

pytestmark = pytest.mark.engine
SMALL = {
    "build": "llama", "arch": "llama", "layers": 2, "width": 256, "hidden": 512, "head": 4, "kv": 2, "hd": 64,
    "vocab": 1024, "ctx": 2048, "freq_base": 1e4, "eps": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize("mix", ["F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0"])
def test_random_weights_generate(up: Callable[..., Server], tmp_path: Path, mix: str) -> None:
    metadata, tensors = known(SMALL)
    write_random(tmp_path / "m.gguf", metadata, quantized(tensors, mix, layers=2))
    server = up(tmp_path / "m.gguf")
    server.wait_for("ready")
    body = {"prompt": "abc", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    status, answer = server.request("POST", "/v1/completions", body)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 4
