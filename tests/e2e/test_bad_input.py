"""Bad input gets its own sentence with what to do, and never a traceback."""

import json
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama
from e2e.conftest import BERCAIL, PATIENCE_S
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

Run = Callable[..., Any]
Up = Callable[..., Any]

FOREIGN = {
    "text": (b"just a note to self, quite long enough to be read\n" * 9, "text"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4661211808\n", "git lfs"),
    "html": (b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>gone</body></html>\n", "html"),
    "safetensors": (
        b"\x40" + b"\0" * 7 + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}          ',
        "safetensors",
    ),
    "empty": (b"", "empty"),
}


def refusal(done: Any) -> dict[str, str]:
    """The error document on stderr."""
    assert "Traceback" not in done.err
    error = json.loads(done.err.splitlines()[-1])
    assert error["schema"] == "bercail.error/1"
    assert set(error) == {"schema", "code", "message", "hint"}
    assert error["hint"], error
    return dict(error)


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_no_models_are_named_for_what_they_are(run: Run, tmp_path: Path, name: str) -> None:
    content, word = FOREIGN[name]
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(content)
    messages = set()
    for command in ("inspect", "plan"):
        done = run(command, str(path), "--json")
        assert done.status == 1
        error = refusal(done)
        assert str(path) in error["message"]
        assert word in (error["message"] + error["hint"]).lower()
        messages.add(error["message"])
    assert len(messages) == 1


def test_a_missing_path_a_folder_without_models_and_no_permission_differ(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    closed = tmp_path / "closed.gguf"
    closed.write_bytes(b"GGUF")
    closed.chmod(0)
    errors = {}
    for name in ("missing.gguf", "folder", "closed.gguf"):
        done = run("inspect", str(tmp_path / name), "--json")
        assert done.status == 1
        errors[name] = refusal(done)
    assert len({error["message"] for error in errors.values()}) == 3
    if os.getuid() != 0:  # root reads everything
        assert "permission" in errors["closed.gguf"]["message"]


def test_up_on_a_bad_only_model_ends_with_its_sentence(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_bytes(FOREIGN["html"][0])
    done = run("up", "--port", "0", "--json-log", str(path))
    assert done.status == 1
    assert "web page" in refusal(done)["message"]


def test_a_model_that_does_not_fit_is_refused_with_what_would(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.gguf"
    write_llama(path, LlamaShape(layers=8, embedding=512, heads=8, kv_heads=8, feed_forward=512, context_tokens=131072))
    done = run("plan", str(path), "--json", "--context", "131072", "--memory", "512 MiB")
    assert done.status == 1
    plan = json.loads(done.out)
    assert plan["verdict"] == "no_fit"
    assert plan["devices"][0]["total_bytes"] == sum(part["bytes"] for part in plan["devices"][0]["parts"])
    assert plan["devices"][0]["total_bytes"] > plan["devices"][0]["budget_bytes"]
    assert plan["alternatives"]
    longest = plan["alternatives"][0]["context_tokens"]
    again = run("plan", str(path), "--json", "--context", str(longest), "--memory", "512 MiB")
    assert (again.status, json.loads(again.out)["verdict"]) == (0, "fits")
    served = run("up", str(path), "--port", "0", "--json-log", "--context", "131072", "--memory", "512 MiB")
    assert served.status == 1
    error = refusal(served)
    assert error["code"] == "does_not_fit"
    assert f"{longest:,}" in error["hint"]


def test_settings_that_do_not_exist_name_the_nearest(run: Run, tmp_path: Path, tiny: Path) -> None:
    config = tmp_path / "bercail.yaml"
    config.write_text("server:\n  prot: 9000\n")
    in_file = run("inspect", str(tiny), "--json", "--config", str(config))
    assert in_file.status == 2
    error = refusal(in_file)
    assert "port" in error["hint"]
    assert "2" in error["message"]  # the line
    variable = run("inspect", str(tiny), "--json", BERCAIL_SERVER_PROT="1")
    assert variable.status == 2
    assert "BERCAIL_SERVER_PORT" in refusal(variable)["hint"]
    flag = run("plan", str(tiny), "--json", "--contxt", "5")
    assert flag.status == 2
    assert "--context" in refusal(flag)["hint"]
    value = run("plan", str(tiny), "--json", "--context", "many")
    assert value.status == 2
    assert "context" in refusal(value)["message"]


def test_a_full_disk_costs_the_cache_and_nothing_else(environment: dict[str, str], tmp_path: Path, tiny: Path) -> None:
    """No file may grow at all: what is kept between runs cannot be written, and serving goes on with a word."""

    def no_writing() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with subprocess.Popen(
        [*BERCAIL, "up", str(tiny), "--port", "0", "--json-log"], preexec_fn=no_writing, env=environment, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "ready":
                process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert [event for event in events if event["event"] == "warned" and "full" in event["text"].lower()]
    assert events[-1]["event"] == "stopped"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("template", "timeout", "words"),
    [
        ("{{ raise_exception('not today') }}", "60s", "not today"),
        (
            "{%- for i in range(100000000) -%}{%- for j in range(100000000) -%}x{%- endfor -%}{%- endfor -%}",
            "2s",
            "more than 2 s",
        ),
    ],
)
def test_a_bad_chat_template_disables_chat_and_leaves_completions(
    up: Up, tmp_path: Path, template: str, timeout: str, words: str
) -> None:
    path = tmp_path / "odd.gguf"
    write_llama(path, template=template)
    server = up(path, "--template-timeout", timeout)
    server.wait_for("ready")
    warned = [item["text"] for item in server.news if item["event"] == "warned"]
    assert any("chat is disabled" in text for text in warned), warned
    row = server.request("GET", "/v1/models")[1]["data"][0]
    assert "chat" not in row["capabilities"]
    chat = {"model": "odd", "messages": [{"role": "user", "content": "Hi"}]}
    status, answer = server.request("POST", "/v1/chat/completions", chat)
    assert status == 400
    assert answer["error"]["code"] == "chat_disabled"
    assert words in answer["error"]["message"], answer
    completion = {"model": "odd", "prompt": "Hi", "max_tokens": 3}
    assert server.request("POST", "/v1/completions", completion)[0] == 200


@pytest.mark.engine
def test_requests_that_are_wrong_get_openai_shaped_errors(up: Up, tiny: Path) -> None:
    server = up(tiny, "--body-limit", "4k")
    server.wait_for("ready")
    hello = [{"role": "user", "content": "Hi"}]
    cases: list[tuple[str, str, object, int]] = [
        ("POST", "/v1/chat/completions", b"{not json", 400),
        ("POST", "/v1/chat/completions", b"[1]", 400),
        ("POST", "/v1/chat/completions", {"model": "none", "messages": hello}, 404),
        ("POST", "/v1/chat/completions", {"model": "tiny", "messages": "x" * 5000}, 413),
        ("POST", "/v1/nothing", {}, 404),
        ("GET", "/v1/chat/completions", None, 405),
    ]
    for method, path, body, wanted in cases:
        status, answer = server.request(method, path, body)
        assert status == wanted, (method, path, answer)
        assert answer["error"]["message"]
        assert set(answer["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.engine
def test_headers_that_never_end_take_nobody_elses_place(up: Up, tiny: Path) -> None:
    server = up(tiny, "--header-timeout", "3", "--connections", "8")
    server.wait_for("ready")
    place = urlsplit(server.url)
    with ExitStack() as stack:
        lines = [stack.enter_context(socket.create_connection((place.hostname, place.port))) for _ in range(20)]
        for line in lines[10:]:
            with suppress(ConnectionError):
                line.sendall(b"GET /health HTTP/1.1\r\nx-slow: 1\r\n")
        status, _ = server.request("GET", "/health")
        assert status == 200
        heard = [_all_of(line) for line in lines]
    assert set(heard[:10]) == {b""}
    assert heard[-1].startswith(b"HTTP/1.1 408 ")
    with socket.create_connection((place.hostname, place.port)) as line, suppress(ConnectionError):
        line.sendall(b"GET / HTTP/1.1\r\n" + 3000 * (b"x: " + b"a" * 10_000 + b"\r\n"))
    with socket.create_connection((place.hostname, place.port)) as line:
        line.sendall(b"GET / HTTP/1.1\r\n" + 7 * (b"x: " + b"a" * 10_000 + b"\r\n") + b"\r\n")
        assert _all_of(line).startswith(b"HTTP/1.1 431 ")
    assert server.request("GET", "/health")[0] == 200


def _all_of(line: socket.socket) -> bytes:
    """What comes until the other side ends."""
    found = b""
    with suppress(ConnectionResetError):
        while piece := line.recv(65536):
            found += piece
    return found


@pytest.mark.engine
@pytest.mark.shared
def test_damaged_models_end_as_their_description_says(up: Up, shared: Path, tmp_path: Path) -> None:
    """The ones an engine would not survive, and the ones that must be served, in one server."""
    bad = shared / "models" / "bad"
    cases = json.loads((bad / "cases.json").read_text())
    crashing = [f"m20-block_count-{n}" for n in ("0", "2147483648")] + ["m20-context_length-0", "m23-rms-eps-nan"]
    crashing += ["m24-rms-eps-negative", "m26-experts-used-more", "m37-tokens-duplicate"]
    served = ["m00-good", "m51-template-raises", "m52-template-undefined", "m53-template-private-attribute"]
    served += ["m54-template-long-loop", "m63-nan", "m64-inf", "m65-zero"]
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in (*crashing, *served):
        (folder / f"{name}.gguf").symlink_to(bad / f"{name}.gguf")
    server = up(folder, "--template-timeout", "2s", "--startup-timeout", "30s")
    for name in crashing:
        status, answer = server.request("POST", "/v1/completions", {"model": name, "prompt": "Once", "max_tokens": 4})
        assert status == 503, (name, answer)
        assert ".gguf" in answer["error"]["message"], answer
        assert "Traceback" not in json.dumps(answer)
    assert not [item for item in server.news if item["event"] in ("engine_died", "planned")]
    for name in served:
        assert cases[name]["expect"].startswith("accept")
        status, answer = server.request("POST", "/v1/completions", {"model": name, "prompt": "Once", "max_tokens": 4})
        assert status in (200, 500), (name, answer)  # a model of nothing but NaN may end in an error, not in silence
    assert server.end() == 0


def test_a_plan_is_printed_for_other_programs_and_a_refusal_as_usual(run: Run, tiny: Path) -> None:
    fits = run("plan", str(tiny), "--as", "llama-server", "--context", "512")
    assert fits.status == 0
    assert fits.out.startswith(f"llama-server --model {tiny} ")
    assert "--ctx-size" in fits.out
    refused = run("plan", str(tiny), "--as", "llama-swap", "--memory", "64 MiB")
    assert refused.status == 1
    assert "models:" not in refused.out


@pytest.mark.engine
def test_a_plan_is_checked_with_the_engine_on_a_header_alone(run: Run, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "big.gguf", *known(read_table()["Qwen3.6-27B"]))
    done = run("plan", str(path), "--check", "--json", "--context", "4096", "--slots", "1")
    told = json.loads(done.out)
    planned = {part["name"]: part["bytes"] for part in told["devices"][0]["parts"]}
    account = {part["name"]: part["bytes"] for part in told["engine_account"]}
    assert set(account) == {"KV cache", "recurrent state", "compute", "output"}
    for name, size in account.items():
        assert planned[name] == pytest.approx(size, rel=0.01)


@pytest.mark.engine
def test_settings_that_the_engine_dies_of_are_told_with_its_words(run: Run, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "phi.gguf", *known(read_table()["Phi-4"]))
    wish = ("--context", "4096", "--slots", "4", "--kv-type-k", "q8_0", "--kv-type-v", "q8_0")
    done = run("plan", str(path), "--check", *wish)
    assert done.status == 3
    assert "the engine cannot run this model with these settings" in done.err
    assert "fatal error" in done.err


def test_flags_of_plan_that_contradict_are_refused(run: Run, tiny: Path) -> None:
    for other in (["--json"], ["--check"], ["--measure"], ["--explain", "weights"]):
        done = run("plan", str(tiny), "--as", "llama-swap", *other)
        assert done.status == 2
        assert "leave out --json, --check, --measure and --explain" in done.err


def test_a_part_is_explained_and_one_that_is_not_there_is_refused(run: Run, tiny: Path) -> None:
    told = json.loads(run("plan", str(tiny), "--explain", "kv cache", "--json").out)
    part = next(part for part in told["devices"][0]["parts"] if part["name"] == "KV cache")
    assert sum(term["bytes"] for term in told["explained"]["terms"]) == told["explained"]["bytes"] == part["bytes"]
    shown = run("plan", str(tiny), "--explain", "compute")
    assert "Memory: compute" in shown.out
    assert "feed-forward network" in shown.out
    refused = run("plan", str(tiny), "--explain", "cash")
    assert refused.status == 2
    assert "no part 'cash'" in refused.err
    assert "it has: weights, KV cache" in refused.err


@pytest.mark.engine
def test_a_plan_is_shown_even_if_the_engine_then_refuses_the_model(run: Run, tmp_path: Path) -> None:
    metadata, tensors = known(read_table()["Falcon-H1-0.5B"])
    metadata["falcon-h1.ssm.group_count"] = 3  # the reader has no opinion on that, the engine has
    path = write_gguf(tmp_path / "odd.gguf", metadata, tensors)
    done = run("plan", str(path), "--check", "--context", "4096")
    assert done.status == 3
    assert "Memory (cpu)" in done.out
    assert "the engine cannot run this model" in done.err
