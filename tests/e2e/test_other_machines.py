"""Plans for machines and models that are not here."""

import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tools.synth.mix import quantized
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

Run = Callable[..., Any]


def a_model_of_27b(folder: Path) -> Path:
    shape = read_table()["Qwen3.6-27B"]
    metadata, tensors = known(shape)
    return write_gguf(folder / "27b.gguf", metadata, quantized(tensors, "Q8_0", layers=shape["layers"]))


def test_a_plan_for_four_cards_shows_each_and_says_what_is_assumed(run: Run, tmp_path: Path) -> None:
    path = str(a_model_of_27b(tmp_path))
    done = run("plan", path, "--on", "4x rtx-3060-12gb", "--context", "32k", "--kv-type-k", "q8_0")
    assert done.status == 0
    assert all(f"Memory (cuda{number}, compute and driver estimated)" in done.out for number in range(4))
    assert "main memory was not named: 64.0 GiB are assumed" in done.out
    told = json.loads(run("plan", path, "--on", "4x rtx-3060-12gb", "--split", "layer", "--json").out)
    assert [device["name"] for device in told["devices"]] == ["cpu", "cuda0", "cuda1", "cuda2", "cuda3"]
    assert sum(told["settings"]["layer_split"]) == 64
    flags = run("plan", path, "--on", "4x rtx-3060-12gb", "--split", "layer", "--as", "llama-server").out
    assert "--split-mode layer --tensor-split " in flags


def test_a_capture_of_this_machine_plans_as_this_machine(run: Run, tmp_path: Path) -> None:
    path, capture = str(a_model_of_27b(tmp_path)), tmp_path / "machine.json"
    assert "memory available" in run("machine").out
    capture.write_text(run("machine", "--json").out, encoding="utf-8")
    wish = ("--json", "--context", "4096", "--slots", "1", "--prompt-cache", "0", "--memory", "1gib")
    here, there = (json.loads(run("plan", path, *wish, *on).out) for on in ((), ("--on", str(capture))))
    assert (here["verdict"], here["settings"], here["devices"]) == (
        there["verdict"],
        there["settings"],
        there["devices"],
    )
    capture.write_text("{", encoding="utf-8")
    broken = run("plan", path, "--on", str(capture))
    assert (broken.status, "is not JSON" in broken.err) == (2, True)
    gone = run("plan", path, "--on", str(tmp_path / "none.json"))
    assert (gone.status, "cannot be read" in gone.err) == (2, True)


def test_machines_that_are_none_are_refused(run: Run, tmp_path: Path) -> None:
    path = str(a_model_of_27b(tmp_path))
    unknown = run("plan", path, "--on", "rtx-3061-12gb")
    assert unknown.status == 2
    assert "did you mean rtx-3060-12gb" in unknown.err
    checked = run("plan", path, "--on", "rtx-3090", "--check")
    assert checked.status == 2
    assert "leave out --on" in checked.err
    here = run("plan", path, "--split", "layer")
    assert here.status == 2
    assert "cannot be had: --split needs a GPU" in here.err
    assert here.out == ""


def test_a_model_on_a_web_server_is_planned_and_not_served(run: Run, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    a_model_of_27b(shop)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    class Patient(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A reader that has enough hangs up."""

    with Patient(("127.0.0.1", 0), partial(Quiet, directory=str(shop))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/27b.gguf"
        told = json.loads(run("plan", url, "--on", "h100", "--json").out)
        gone = run("inspect", url.replace("27b", "28b"))
        offline = run("plan", url, "--offline")
        server.shutdown()
    assert (told["verdict"], told["model"]) == ("fits", "27b")
    assert gone.status != 0
    assert "answers 404" in gone.err
    assert offline.status != 0
    assert "library.offline is set" in offline.err
    served = run("up", url)
    assert served.status != 0
    assert "does not download models" in served.err + served.out


def test_only_an_engine_that_is_here_is_asked(run: Run, tmp_path: Path) -> None:
    path = str(a_model_of_27b(tmp_path))
    measured = run("plan", path, "--on", "rtx-3090", "--measure")
    assert (measured.status, "--measure asks the engine of this machine" in measured.err) == (2, True)
    printed = run("plan", path, "--as", "llama-server", "--measure")
    assert (printed.status, "prints nothing but that" in printed.err) == (2, True)


def test_cards_are_added_to_a_captured_machine(run: Run, tmp_path: Path) -> None:
    path, capture = str(a_model_of_27b(tmp_path)), tmp_path / "machine.json"
    capture.write_text(run("machine", "--json").out, encoding="utf-8")
    told = json.loads(run("plan", path, "--on", f"{capture} + 2x rtx 3090", "--json").out)
    assert [device["name"] for device in told["devices"]] == ["cpu", "cuda0", "cuda1"]
    wrong = run("plan", path, "--on", f"{capture} + 64gib")
    assert (wrong.status, "its own main memory" in wrong.err) == (2, True)


def test_a_refusal_says_what_would_do(run: Run, tmp_path: Path) -> None:
    done = run("plan", str(a_model_of_27b(tmp_path)), "--on", "rtx-3060-12gb + 16gib")
    assert done.status == 1
    assert "a file of this model of" in done.out
    assert "cards of this kind it fits" in done.out
