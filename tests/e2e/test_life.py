"""Starting, swapping, stopping, and what happens when an engine is killed or hangs."""

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama
from e2e.conftest import CHATML, PATIENCE_S, is_alive, wait_until
from e2e.parrot import write_parrot

pytestmark = pytest.mark.engine

Up = Callable[..., Any]
Run = Callable[..., Any]


def ask(server: Any, model: str, *, tokens: int = 4) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": tokens, "temperature": 0}
    status, answer = server.request("POST", "/v1/chat/completions", body)
    return status, answer


def open_stream(server: Any, model: str, tokens: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A stream that has begun."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE_S)
    body = {"model": model, "prompt": "Once", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data: ")
    return connection, response


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A model that takes seconds for a thousand tokens."""
    path = tmp_path / "slow.gguf"
    shape = LlamaShape(layers=4, embedding=768, feed_forward=2048, heads=12, kv_heads=12, context_tokens=8192)
    write_llama(path, shape, template=CHATML)
    return path


def test_models_that_fit_together_are_in_memory_together(up: Up, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_parrot(tmp_path / f"{name}.gguf", f"I am {name}", template=CHATML)
    server = up(tmp_path / "one.gguf", tmp_path / "two.gguf")
    server.wait_for("ready")
    assert ask(server, "two", tokens=16)[1]["choices"][0]["message"]["content"].strip() == "I am two"
    states = {row["id"]: row["status"]["value"] for row in server.request("GET", "/v1/models")[1]["data"]}
    assert states == {"one": "loaded", "two": "loaded"}
    assert len(server.engines()) == 2


def test_where_there_is_room_for_one_the_first_request_for_another_model_swaps(up: Up, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_parrot(tmp_path / f"{name}.gguf", f"I am {name}", template=CHATML)
    server = up(tmp_path / "one.gguf", tmp_path / "two.gguf", "--memory", "400MiB")
    server.wait_for("ready")
    states = {row["id"]: row["status"]["value"] for row in server.request("GET", "/v1/models")[1]["data"]}
    assert states == {"one": "loaded", "two": "unloaded"}
    status, answer = ask(server, "two", tokens=16)
    assert (status, answer["choices"][0]["message"]["content"].strip()) == (200, "I am two")
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert len(server.engines()) == 1
    assert ask(server, "one", tokens=16)[1]["choices"][0]["message"]["content"].strip() == "I am one"
    server.wait_for("unloaded", 2)
    assert [item["model"] for item in server.news if item["event"] == "unloaded"] == ["one", "two"]


def test_what_a_model_has_read_survives_its_swap(up: Up, tiny: Path, tmp_path: Path) -> None:
    """The second time only what is new is worked on, and the answer is the same as before."""
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny.read_bytes())
    server = up(tiny, other, "--memory", "400MiB", "--context", "1024", "--slots", "1")
    server.wait_for("ready")
    prompt = [5 + number * 7 % 200 for number in range(600)]
    question = {"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0}
    status, first = server.request("POST", "/v1/completions", question)
    assert status == 200, first
    assert first["timings"]["cache_n"] == 0
    assert server.request("POST", "/v1/completions", {**question, "model": "other"})[0] == 200
    again = server.request("POST", "/v1/completions", question)[1]
    assert again["timings"]["cache_n"] > 590
    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    kept, restored = server.wait_for("context_kept"), server.wait_for("context_restored")
    assert kept["model"] == "tiny"
    assert (restored["model"], restored["tokens"]) == ("tiny", kept["tokens"])
    assert sum(item["event"] == "context_restored" for item in server.news) == 1
    (folder,) = (tmp_path / "state").rglob("contexts")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert list(folder.iterdir())


def test_a_named_folder_without_a_model_is_refused_and_not_answered_with_the_demo(up: Up, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    server = up(tmp_path / "none")
    assert server.ended() == 1
    assert any("a folder without a GGUF file" in line for line in server.errors)


def test_models_of_other_tools_are_found_and_wait_unloaded(up: Up, tiny: Path, tmp_path: Path) -> None:
    for place in ("home/.lmstudio/models/maker/a", "models"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "home/.lmstudio/models/maker/a/first.gguf").write_bytes(tiny.read_bytes())
    (tmp_path / "models/second.gguf").write_bytes(tiny.read_bytes())
    server = up()
    rows = wait_until(lambda: _with_context(server))
    assert {row["id"]: (row["status"]["value"], row["context_length"]) for row in rows} == {
        "first": ("unloaded", 2048), "second": ("unloaded", 2048)
    }  # fmt: skip
    assert not server.engines()
    assert ask(server, "second")[0] == 200


def _with_context(server: Any) -> list[Any]:
    rows = server.request("GET", "/v1/models")[1]["data"]
    return rows if all(row.get("context_length") for row in rows) else []


def test_a_port_in_use_is_refused_before_anything_is_loaded(run: Run, tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("up", "--json-log", "--port", str(port), str(tiny))
    assert done.status == 3
    error = json.loads(done.err.splitlines()[-1])
    assert error["code"] == "cannot_listen" or "port" in error["code"]
    assert str(port) in error["message"]
    assert "--port" in error["hint"]
    assert '"ready"' not in done.out


def test_sigterm_lets_a_running_answer_finish(up: Up, tiny: Path) -> None:
    server = up(tiny, "--drain", "300")
    server.wait_for("ready")
    engines = server.engines()
    connection, response = open_stream(server, "tiny", 600)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("stopping")
    assert response.read().rstrip().endswith(b"data: [DONE]")
    connection.close()
    assert server.end() == 0
    assert server.wait_for("stopped")["cut"] == 0
    assert not [pid for pid in engines if is_alive(pid)]


def test_a_second_signal_stops_at_once(up: Up, slow: Path) -> None:
    server = up(slow, "--drain", "600")
    server.wait_for("ready")
    engines = server.engines()
    connection, response = open_stream(server, "slow", 7000)
    server.process.send_signal(signal.SIGINT)
    server.wait_for("stopping")
    server.process.send_signal(signal.SIGINT)
    assert server.end() == 0
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert not [pid for pid in engines if is_alive(pid)]


def test_no_engine_survives_a_killed_server(up: Up, tiny: Path) -> None:
    server = up(tiny)
    server.wait_for("ready")
    engines = server.engines()
    assert engines
    server.end(signal.SIGKILL)
    wait_until(lambda: not [pid for pid in engines if is_alive(pid)])


def test_a_killed_engine_breaks_its_streams_openly_and_comes_back(up: Up, slow: Path) -> None:
    server = up(slow)
    server.wait_for("ready")
    connection, response = open_stream(server, "slow", 7000)
    os.kill(server.engines()[0], signal.SIGKILL)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:
        response.read()
    connection.close()
    rest = getattr(broken.value, "partial", b"")
    assert b"[DONE]" not in rest
    assert b'"error"' in rest
    died = server.wait_for("engine_died")
    assert "signal 9" in died["error"]
    assert died["retry_s"] == 1
    status, answer = ask(server, "slow")
    assert status in (200, 502, 503)  # the truth meanwhile, or the restarted engine's answer
    if status != 200:
        assert "died" in answer["error"]["message"]
    server.wait_for("ready", 2)
    assert ask(server, "slow")[0] == 200


def test_a_hung_engine_does_not_keep_the_server_from_stopping(up: Up, tiny: Path) -> None:
    server = up(tiny, "--drain", "0.2s")
    server.wait_for("ready")
    engine = server.engines()[0]
    os.kill(engine, signal.SIGSTOP)
    assert server.end() == 0
    assert not is_alive(engine)


LONG_PROMPT = "y " * 3500
LEAVERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": LONG_PROMPT}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG_PROMPT}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": LONG_PROMPT}]}),
]


def test_a_lost_client_frees_its_slot_while_another_generates(up: Up, slow: Path) -> None:
    """Before its prompt has been read to the end, in every dialect."""
    server = up(slow, "--slots", "2", "--context", "8192")
    server.wait_for("ready")
    busy, response = open_stream(server, "slow", 6000)
    for path, question in LEAVERS:
        for stream in (True, False):
            leaver = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE_S)
            body = {"model": "slow", "max_tokens": 4000, "stream": stream, "ignore_eos": True, "cache_prompt": False}
            leaver.request("POST", path, json.dumps(body | question), {"Content-Type": "application/json"})
            wait_until(lambda: _processing(server) == 2)
            leaver.close()
            assert wait_until(lambda: _processing(server) == 1)
            left = max(_slots(server), key=lambda slot: int(slot["id_task"]))
            assert left["n_prompt_tokens"] < len(LONG_PROMPT), path
    busy.close()
    response.close()


def _processing(server: Any) -> int:
    """Slots at work, by the engine's own word."""
    return sum(bool(slot["is_processing"]) for slot in _slots(server))


def _slots(server: Any) -> list[Any]:
    rows = Path("/proc/net/unix").read_text().splitlines()
    sockets = {Path(row.split()[-1]) for row in rows if row.endswith("llama.sock")}
    return [slot for path in sockets for slot in _slots_at(path, server.engines())]


def _slots_at(path: Path, engines: list[int]) -> list[Any]:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return []
        pid = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        if pid not in engines:
            return []
        probe.sendall(b"GET /slots HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := probe.recv(65536):
            data += piece
    found: list[Any] = json.loads(data.split(b"\r\n\r\n", 1)[1])
    return found
