"""The plan's arithmetic against the engine's own account of headers without weights."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bercail.core import memory
from bercail.core.units import MIB
from bercail.readers import Readers
from fakes.models import some_settings
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

pytestmark = pytest.mark.engine
LOGGED = 0.011 * MIB
"""The engine logs hundredths of a MiB; two caches may both be rounded."""
SETTINGS = (
    some_settings(context_tokens=4096, ubatch_tokens=128),
    some_settings(context_tokens=32768, slots=4, ubatch_tokens=128, kv_type_k="q8_0", kv_type_v="q4_0"),
    some_settings(context_tokens=8192, slots=2, kv_unified=True, ubatch_tokens=512),
    some_settings(context_tokens=8192, ubatch_tokens=64, flash_attention=False),
)


def ask(path: Path) -> subprocess.CompletedProcess[str]:
    """The oracle's process after it was asked about all settings."""
    return subprocess.run(
        [sys.executable, "-m", "bercail.engines.llama_cpp.oracle", str(path)],
        input="".join(json.dumps(asdict(settings)) + "\n" for settings in SETTINGS),
        capture_output=True, text=True, check=False, timeout=240, env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Llama-3.2-1B", "Gemma-4-26B-A4B", "Qwen3.6-27B", "Qwen3-30B-A3B", "gpt-oss-20b", "mamba2-2.7b"]
)
def test_caches_are_exact_and_buffers_near(name: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", *known(read_table()[name]))
    model = Readers({}, tmp_path, tmp_path).read(str(path))
    answers: list[dict[str, Any]] = [json.loads(line) for line in ask(path).stdout.splitlines()]
    for settings, account in zip(SETTINGS, answers, strict=True):
        assert memory.cache_bytes(model, settings) == pytest.approx(account["cache"], abs=LOGGED)
        assert memory.state_bytes(model, settings) == pytest.approx(account["state"], abs=LOGGED)
        buffers = memory.compute_bytes(model, settings) + memory.output_bytes(model, settings)
        assert buffers == pytest.approx(account["compute"] + account["output"], rel=0.07)


def test_a_file_that_the_engine_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    metadata, tensors = known(read_table()["Llama-3.2-1B"])
    metadata["llama.embedding_length"] = 1024
    done = ask(write_gguf(tmp_path / "m.gguf", metadata, tensors))
    assert done.returncode == 1
    assert "does not load" in done.stderr
    assert "wrong shape" in done.stderr
