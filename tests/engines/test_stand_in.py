"""llama-server's command line on the wheel: llama.cpp reads it itself, and serves."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.launch import Address, LaunchSpec
from bercail.core.model import Pooling
from bercail.core.units import MIB
from bercail.demo import demo_path
from bercail.engines.llama_cpp import flags, server_flags, stand_in, worker
from bercail.engines.llama_cpp.server_files import check_files
from e2e.conftest import wait_until

pytestmark = pytest.mark.engine

SETTINGS = EngineSettings(
    context_tokens=4096, slots=2, kv_unified=True, batch_tokens=256, ubatch_tokens=128, kv_type_k="q8_0",
    kv_type_v="f16", flash_attention=True, threads=3, threads_batch=5, mmap=False, repack=True,
)  # fmt: skip
SPEC = LaunchSpec(model_id="m", model_path="/m.gguf", weights_bytes=1, settings=SETTINGS)
OF_PYTHON = frozenset(("model_alias", "port", "hostnames", "speculative.types", "speculative.draft.n_max"))
"""Set in another way by a command line, or of no effect where nothing is drafted."""


def value_at(parameters: object, path: str) -> object:
    for name in path.split("."):
        parameters = getattr(parameters, name)
    return parameters


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"mmap": True, "repack": False, "kv_unified": False, "flash_attention": False, "kv_type_k": "f16"},
        {"embedding": True, "pooling": Pooling.MEAN, "checkpoints": 3, "prompt_cache_bytes": 7 * MIB},
        {"swa_full": True, "warmup": False, "draft_tokens": 3},
    ],
)  # fmt: skip
def test_the_command_line_of_a_server_means_what_the_parameters_of_the_worker_mean(changes: dict[str, Any]) -> None:
    """Read by llama.cpp's own parser."""
    import xllamacpp

    spec = replace(SPEC, settings=replace(SETTINGS, **changes))
    ours, theirs = xllamacpp.CommonParams(), xllamacpp.CommonParams()
    values = flags.render(spec, "/s.sock")
    worker.apply(ours, values)
    assert stand_in.parse(server_flags.render(spec, Address(unix_path="/s.sock")), theirs)
    drafting = {kind for kind in theirs.speculative.types if kind.name != "COMMON_SPECULATIVE_TYPE_NONE"}
    assert drafting == {kind for kind in ours.speculative.types if kind.name != "COMMON_SPECULATIVE_TYPE_NONE"}
    differing = {
        name: (value_at(ours, name), value_at(theirs, name))
        for name in values
        if name not in OF_PYTHON and value_at(ours, name) != value_at(theirs, name)
    }
    assert differing == {}


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def asked(port: int, path: str, body: dict[str, object] | None = None) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
    except ConnectionError:
        return None
    finally:
        connection.close()
    return found if answer.status == 200 else None


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def test_an_older_command_line_is_served(tmp_path: Path) -> None:
    port = free_port()
    program = Path(sys.executable).with_name("bercail-llama-server")
    command = (
        str(program), "--model", str(demo_path()), "--port", str(port), "-c", "512", "-ngl", "99", "--no-mmap", "-fa",
        "--parallel", "2", "--alias", "old", "--no-webui",
        "--defrag-thold", "0.1", "--slots-endpoint-disable", "--grp-attn-n", "1", "--log-format", "text",
    )  # fmt: skip
    with served(*command) as process:
        assert wait_until(lambda: process.poll() is not None or asked(port, "/health"))
        found = asked(port, "/props")
        assert found is not None
        assert found["total_slots"] == 2
        answer = asked(port, "/completion", {"prompt": "KV", "n_predict": 4, "ignore_eos": True})
        assert answer is not None
        assert answer["tokens_predicted"] == 4
        process.terminate()
        _, log = process.communicate(timeout=240)
    assert process.returncode == 0
    assert "--no-mmap of an older build: --load-mode none" in log
    assert "-fa of an older build: -fa on" in log
    assert "--slots-endpoint-disable of an older build: --no-slots" in log
    assert "--defrag-thold 0.1 of an older build: left out" in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ctx-sizes", "3"), "invalid argument: --ctx-sizes"),
        ((), "a model file must be named"),
        (("--model", "/none.gguf"), "none.gguf"),
        (("--model", str(demo_path()), "--spec-type", "draft-mtp"), "it has no layers that draft (MTP)"),
        (("--model", str(demo_path()), "--model-draft", "x.gguf"), "the draft model x.gguf cannot be loaded"),
        (("--model", str(demo_path()), "--lora", "x.gguf"), "the adapter x.gguf cannot be loaded"),
        (("--model", str(demo_path()), "--ssl-key-file", "k", "--ssl-cert-file", "c"), "cannot serve https"),
        (("--model", str(demo_path()), "--host", "192.0.2.1", "--port", "9"), "could not listen at 192.0.2.1:9"),
        (("--model", str(demo_path()), "--path", "/nowhere"), "the folder of --path is not there: /nowhere"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_llama_cpp(arguments: tuple[str, ...], words: str) -> None:
    with served(sys.executable, "-m", stand_in.__name__, *arguments) as process:
        _, log = process.communicate(timeout=240)
    assert process.returncode == 1
    assert words in log
    assert "please check the input params" not in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--grp-attn-n", "4"), "--grp-attn-n was removed from llama-server"),
        (("--system-prompt-file", "p.json"), "system message of each request"),
        (("--model-draft", "x.gguf"), "--model-draft x.gguf: there is no such file"),
        (("--ssl-key-file", "/none"), "--ssl-key-file without --ssl-cert-file would be served in the clear"),
        (("--ssl-key-file", "/none", "--ssl-cert-file", "/none"), "--ssl-key-file /none: there is no such file"),
        (("--lora", f"{demo_path()},/none"), "--lora /none: there is no such file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(arguments: tuple[str, ...], words: str) -> None:
    program = Path(sys.executable).with_name("bercail-llama-server")
    with served(str(program), "--model", str(demo_path()), *arguments) as process:
        _, log = process.communicate(timeout=240)
    assert process.returncode == 2
    assert words in log


def test_the_place_of_a_file_that_is_yet_to_be_fetched_need_not_be_there() -> None:
    check_files(("-m", "/none/m.gguf", "--hf-repo", "a/b"))


def test_a_start_that_failed_for_nobody_knows_what_keeps_the_words_of_the_library() -> None:
    assert stand_in.why_not(["nothing that is known"], "no server") == "error: no server"
    assert stand_in.why_not([], "no server") == "error: no server"


def test_its_help_is_that_of_llama_server() -> None:
    argv = (sys.executable, "-m", stand_in.__name__, "--help")
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=240)
    found = server_flags.parse_help(done.stdout)
    assert {"--model", "--ctx-size", "--load-mode", "-ngl"} <= found.flags
    assert {"--model", "--ctx-size"} <= found.valued
    assert found.socket
    assert server_flags.translate(server_flags.render(SPEC, Address(port=1)), found).lacking == ()


def test_its_version_is_the_build() -> None:
    argv = (sys.executable, "-m", stand_in.__name__, "--version")
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=240)
    assert server_flags.parse_version(done.stdout) == flags.BUILD


@pytest.mark.parametrize("engine", ["found", "openvino"])
def test_the_engine_that_the_settings_name_is_the_one_that_runs(tmp_path: Path, engine: str) -> None:
    """A server that is there already, or none: OpenVINO does not speak this language."""
    server = tmp_path / "llama-server"
    server.write_text('#!/bin/sh\necho "it got $*"\n')
    server.chmod(0o755)
    named = str(server) if engine == "found" else engine
    done = subprocess.run(
        [Path(sys.executable).with_name("bercail-llama-server"), "--no-mmap", "-c", "512"],
        capture_output=True, text=True, check=False, timeout=240, env={**os.environ, "BERCAIL_ENGINE_ENGINE": named},
    )  # fmt: skip
    if engine == "found":
        assert (done.returncode, done.stdout) == (0, "it got -c 512 --load-mode none\n")
    else:
        assert done.returncode in (1, 2)  # not installed, or of no use here
        assert "openvino" in done.stderr
        assert done.stdout == ""
