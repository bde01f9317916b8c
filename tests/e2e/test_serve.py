"""Configurations as they are served: two published ones of llama-swap, with stand-ins for programs, and our own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bercail.core.cpulist import format_cpulist, parse_cpulist
from bercail.demo import demo_path
from bercail.probes import LocalProber
from e2e.conftest import BERCAIL, Server, wait_until

STUB = Path(__file__).with_name("stub.py")
Serve = Callable[..., Server]


@pytest.fixture
def places(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment with stand-ins for docker and llama-server, whose starts are noted in ``starts``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "llama-server"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} {name} "$@"\n')
        program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**environment, "PATH": path, "STUB_LOG": str(tmp_path / "starts")}


@pytest.fixture
def serve(places: dict[str, str], tmp_path: Path) -> Iterator[Serve]:
    """Start ``bercail serve`` with a configuration."""
    servers: list[Server] = []

    def start(config: Path, *more: str, **variables: str) -> Server:
        argv = [*BERCAIL, "serve", "--config", str(config), "--json-log", "--port", "0", *more]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(argv, text=True, env={**places, **variables}, cwd=tmp_path, **pipes)
        servers.append(Server(process))
        return servers[-1]

    yield start
    for server in servers:
        server.end(signal.SIGTERM)


def starts(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "starts").read_text().splitlines()]


def said(server: Server, model: str, **more: object) -> str:
    messages = [{"role": "user", "content": "hello"}]
    status, answer = server.request("POST", "/v1/chat/completions", {"model": model, "messages": messages, **more})
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.shared
def test_a_machine_with_one_card_and_docker_swaps_its_containers(serve: Serve, shared: Path, tmp_path: Path) -> None:
    server = serve(shared / "fixtures" / "configs" / "arc-b60-docker.llama-swap.yaml")
    ready = server.wait_for("command_ready")
    assert ready["model"] == "Ornith-35b-q4", "it is to be loaded at the start"
    first = int((tmp_path / "AI").read_text())
    assert said(server, "Gemma4-26b-q4") == "/models/gemma4/gemma-4-26B-A4B-it-qat-UD-Q4_K_XL.gguf"
    assert not Path(f"/proc/{first}/stat").exists(), "the container of the other is gone"
    assert [words[:2] for words in starts(tmp_path)] == [["docker", "run"], ["docker", "stop"], ["docker", "run"]]
    states = {row["id"]: row["status"]["value"] for row in server.request("GET", "/v1/models")[1]["data"]}
    assert states == {"img-gen": "unloaded", "Gemma4-26b-q4": "loaded", "Ornith-35b-q4": "unloaded"}
    status, drawn = server.request("POST", "/v1/images/generations", {"model": "img-gen", "prompt": "a fold"})
    assert (status, drawn["path"]) == (200, "/v1/images/generations")
    last = int((tmp_path / "AI").read_text())
    assert server.end() == 0
    assert not (tmp_path / "AI").exists()
    assert not Path(f"/proc/{last}/stat").exists()


@pytest.mark.shared
def test_a_machine_with_four_cards_runs_each_of_its_commands(serve: Serve, shared: Path, tmp_path: Path) -> None:
    server = serve(shared / "fixtures" / "configs" / "rtx3060x4.llama-swap.yaml")
    server.wait_for("listening")
    names = [row["id"] for row in server.request("GET", "/v1/models")[1]["data"]]
    assert names == ["gemma4-31b-q4", "qwen3.6-27B-q4", "qwen3.6-27B-q8", "ornith-1.0-35b-q8"]
    for name in names:
        model = said(server, name, stream=False)
        assert model.startswith("/models/")
        assert len(server.engines()) == 1
    for name, words in zip(names, starts(tmp_path), strict=True):
        assert words[0] == "llama-server"
        assert words[1:4] == ["--port", words[2], "--jinja"], name
        assert words[-2:] == ["-ngl", "9999"]


@pytest.mark.shared
@pytest.mark.engine
def test_what_was_written_for_llama_server_runs_on_the_engine_at_hand(
    serve: Serve, shared: Path, tmp_path: Path, places: dict[str, str]
) -> None:
    """The same file, with a small model in place of each of its own, and our stand-in for llama-server.

    Its flags are as published, but for the length of the context, and for what no small model can do: ``draft-mtp``
    asks for layers that draft, so the model that has a drafting head beside it gets a draft model instead; and heads
    as narrow as those of the one model that has a projector do not fit the blocks of a ``q8_0`` cache.
    """
    demo = demo_path() or pytest.skip("the demo is not in this installation")
    text = (shared / "fixtures" / "configs" / "rtx3060x4.llama-swap.yaml").read_text()
    seeing, rest = text[: text.index("  qwen3.6-27B-q4:")], text[text.index("  qwen3.6-27B-q4:") :]
    seeing = re.sub(r"--(model|mmproj|spec-draft-model) /models/\S+", _small(shared / "models"), seeing)
    seeing = seeing.replace("draft-mtp", "draft-simple").replace("q8_0\n", "f16\n")
    rest = re.sub(r"--model /models/\S+", f"--model {demo}", rest).replace("--spec-type draft-mtp", "")
    config = tmp_path / "config.yaml"
    config.write_text(re.sub(r"--ctx-size \d+", "--ctx-size 1024", seeing + rest))
    program = Path(places["PATH"].partition(os.pathsep)[0]) / "llama-server"
    code = "from bercail.cli.llama_server import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    server = serve(config)
    server.wait_for("listening")
    seeing_name, *names = [row["id"] for row in server.request("GET", "/v1/models")[1]["data"]]
    assert len(names) == 3
    for name in names:
        assert "keys and values" in said(
            server, name, temperature=0, messages=[{"role": "user", "content": "What is a KV cache?"}]
        )
    asked = {"model": seeing_name, "prompt": STORY, "max_tokens": 24, "temperature": 0}
    status, answer = server.request("POST", "/v1/completions", asked)
    assert status == 200, answer
    assert "Lily" in answer["choices"][0]["text"]
    assert answer["timings"]["draft_n"] > 0
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    seen = said(server, seeing_name, max_tokens=4, messages=[{"role": "user", "content": [picture]}])
    assert seen, "the projector is random: that it says something is all there is to ask"


STORY = "Once upon a time, there was a little girl named"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""


def _small(models: Path) -> Callable[[re.Match[str]], str]:
    small = {"model": "stories260K-f16.gguf", "mmproj": "mmproj-64.gguf", "spec-draft-model": "stories260K-q8_0.gguf"}
    return lambda match: f"--{match[1]} {models / small[match[1]]}"


OWN = """
server:
  drain: 2s
models:
  small:
    model: {demo}
    context: 1024
    slots: 2
    aliases: [nickname]
  echo:
    cmd: llama-server --port ${{PORT}} --model {name}
    ttl: 300
    filters:
      setParams: {{seed: 7}}
"""


@pytest.mark.engine
def test_our_own_configuration_serves_files_beside_commands_and_is_read_anew(serve: Serve, tmp_path: Path) -> None:
    demo = demo_path() or pytest.skip("the demo is not in this installation")
    config = tmp_path / "bercail.yaml"
    config.write_text(OWN.format(demo=demo, name="one"))
    server = serve(config)
    server.wait_for("listening")
    assert said(server, "echo") == "one"
    assert said(server, "nickname", temperature=0)
    rows = {row["id"]: row for row in server.request("GET", "/v1/models")[1]["data"]}
    assert (rows["small"]["slots"], rows["small"]["context_length"]) == (2, 1024)
    assert {row["status"]["value"] for row in rows.values()} == {"loaded"}, "memory has room for both"

    config.write_text("library:\n  offline: true\nmodels:\n  small:\n    modle: x\n")
    server.process.send_signal(signal.SIGHUP)
    told = wait_until(lambda: [item for item in server.news if "nothing was changed" in item.get("text", "")])
    assert "line 5" in told[0]["text"]
    assert "did you mean" in told[0]["text"]
    assert said(server, "echo") == "one"

    config.write_text(OWN.format(demo=demo, name="two"))
    server.process.send_signal(signal.SIGHUP)
    reloaded = server.wait_for("reloaded")
    assert (reloaded["changed"], reloaded["added"], reloaded["gone"]) == (["echo"], [], [])
    assert wait_until(lambda: said(server, "echo") == "two")
    server.wait_for("unloaded")
    assert [item["model"] for item in server.news if item["event"] == "unloaded"] == ["echo"], "the other stayed"


def test_a_configuration_is_read_anew_when_its_file_changes_or_somebody_asks(serve: Serve, tmp_path: Path) -> None:
    config, fresh = tmp_path / "config.yaml", tmp_path / "fresh.yaml"
    text = "models:\n  a:\n    cmd: llama-server --port ${PORT} --model %s\n"
    config.write_text(text % "one")
    server = serve(config, "-watch-config")
    assert said(server, "a") == "one"
    fresh.write_text(text % "two")
    fresh.replace(config)  # as editors do
    assert server.wait_for("reloaded")["changed"] == ["a"]
    assert wait_until(lambda: said(server, "a") == "two")
    assert server.request("POST", "/api/config/reload", {}) == (
        200,
        {"changed": [], "added": [], "gone": [], "later": [], "altered": []},
    )
    fresh.write_text("server: {drain: 7}\n" + text % "two")
    fresh.replace(config)
    status, answer = server.request("POST", "/api/config/reload", {})
    assert (status, answer["later"]) == (200, ["server.drain"])
    fresh.write_text("models:\n  a:\n    cdm: x\n")
    fresh.replace(config)
    wait_until(lambda: [item for item in server.news if "nothing was changed" in item.get("text", "")])
    status, answer = server.request("POST", "/api/config/reload", {})
    assert (status, f"{config}, line 3" in answer["error"]["message"]) == (422, True)
    assert said(server, "a") == "two"


def test_a_folder_of_configurations_is_served_and_watched(serve: Serve, tmp_path: Path) -> None:
    config, folder = tmp_path / "config.yaml", tmp_path / "conf.d"
    folder.mkdir()
    text = "models:\n  %s:\n    cmd: llama-server --port ${PORT} --model %s\n"
    config.write_text(text % ("a", "one"))
    (folder / "b.yaml").write_text(text % ("b", "two"))
    server = serve(config, "--config-dir", str(folder), "--watch")
    assert (said(server, "a"), said(server, "b")) == ("one", "two")
    (folder / "c.yml").write_text(text % ("c", "three"))
    reloaded = server.wait_for("reloaded")
    assert (reloaded["changed"], reloaded["added"], reloaded["gone"]) == ([], ["c"], [])
    assert said(server, "c") == "three"


def test_a_program_that_is_not_there_is_told_to_who_asks_for_it(serve: Serve, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("models:\n  a:\n    cmd: lama-server --port ${PORT}\n")
    server = serve(config)
    status, answer = server.request("POST", "/v1/chat/completions", {"model": "a", "messages": []})
    assert status == 503
    assert "lama-server" in answer["error"]["message"]


def test_models_come_and_go_by_hand(serve: Serve, tmp_path: Path, places: dict[str, str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("models:\n  a:\n    cmd: llama-server --port ${PORT} --model one\n    aliases: [claude-*]\n")
    server = serve(config)
    port = server.url.rpartition(":")[2]

    def hand(*words: str, place: tuple[str, ...] = ("--port", port)) -> "subprocess.CompletedProcess[str]":
        command = [*BERCAIL, *words, *place]
        return subprocess.run(command, check=False, text=True, capture_output=True, env=places, timeout=240)

    assert "nothing is loaded" in hand("ps").stderr
    assert "nothing is loaded" in hand("ps", place=()).stderr  # found, whatever its port
    assert hand("ps", place=("--port", "1")).returncode == 1
    assert hand("load", "a").returncode == 0
    table = hand("ps").stdout
    assert "ready" in table
    assert "command" in table
    assert json.loads(hand("ps", "--json").stdout)["running"][0]["model"] == "a"
    assert "a was in memory already" in hand("load", "a").stderr
    assert "unloaded a\n" in hand("unload", "claude-3").stderr
    assert server.engines() == []
    assert "a was not in memory" in hand("unload", "claude-3").stderr
    wrong = hand("load", "b")
    assert (wrong.returncode, "no model 'b'" in wrong.stderr) == (3, True)


@pytest.mark.engine
def test_two_models_that_ask_for_a_share_of_the_cores_run_on_cores_of_their_own(
    serve: Serve, tmp_path: Path, tiny: Path
) -> None:
    """As the kernel has it, what ``ps`` tells, and as ``config check`` and ``plan`` said beforehand."""
    cores = LocalProber().probe().cpu.physical_cores or 1
    if cores < 2:
        pytest.skip("this machine has one core, or does not tell how many")
    config = tmp_path / "bercail.yaml"
    config.write_text(f"models: {{a: {{model: {tiny}, cores: auto}}, b: {{model: {tiny}, cores: auto}}}}\n")
    server = serve(config)
    for name in ("a", "b"):
        status, answer = server.request("POST", "/v1/completions", {"model": name, "prompt": "hello", "max_tokens": 4})
        assert status == 200, answer
    rows = {row["model"]: row for row in server.request("GET", "/running")[1]["running"]}
    kept = [allowed(pid) for pid in server.engines()]
    assert sorted(kept) == sorted(rows[name]["cores"] for name in ("a", "b"))
    first, second = (set(parse_cpulist(text) or ()) for text in kept)
    assert first
    assert second
    assert not first & second
    assert [row["cores_because"].split(";")[1] for row in rows.values()] == [
        " b may be in memory beside it and has others", " a may be in memory beside it and has others",
    ]  # fmt: skip
    checked = json.loads(tell(config, "config", "check", str(config), "--json"))["cores"]
    assert {name: format_cpulist(share["cpus"]) for name, share in checked.items()} == {
        name: row["cores"] for name, row in rows.items()
    }
    assert "Cores of this machine" in tell(config, "config", "check", str(config))
    line = tell(config, "plan", "b", "--config", str(config), "--as", "llama-server")
    assert rows["b"]["cores"] in line.split()[:3]
    url = urlsplit(server.url)
    told = tell(config, "ps", "--host", str(url.hostname), "--port", str(url.port))
    assert "Why these cores" in told


def allowed(pid: int) -> str:
    """The CPUs that the kernel lets a process run on."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("Cpus_allowed_list"))


def tell(config: Path, *arguments: str) -> str:
    """What a command says."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("BERCAIL_", "XDG_"))}
    home = {"HOME": str(config.parent), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*BERCAIL, *arguments], check=True, capture_output=True, text=True, timeout=240, env={**environment, **home}
    )
    return done.stdout
