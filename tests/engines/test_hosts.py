"""Servers that somebody else made, and programs that are none; the real ones are in the contract suite."""

import asyncio
import sys
from pathlib import Path

import pytest

from bercail.core.build import Recipe, Target
from bercail.core.engine import Offer
from bercail.core.errors import EngineError
from bercail.core.launch import LaunchSpec
from bercail.engines import LlamaCpp, Server
from fakes.models import a_build, some_settings

SPEC = LaunchSpec(model_id="m", model_path="/m.gguf", weights_bytes=1, settings=some_settings(kv_unified=True))

OLD_HELP = """
-m,    --model FNAME                    model path
-c,    --ctx-size N                     size of the prompt context
-np,   --parallel N                     number of parallel sequences
-ngl,  --gpu-layers N                   layers in VRAM
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
--host HOST                             ip address to listen
--port PORT                             port
"""

SERVER = f"""
import http.server, sys
if "--help" in sys.argv:
    print({OLD_HELP!r})
    sys.exit(0)
print("starting with", *sys.argv[1:], file=sys.stderr, flush=True)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""


SLEEPS = "import time; time.sleep(600)"


def a_program(folder: Path, text: str) -> Path:
    path = folder / "llama-server"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


def start(program: Path, notes: list[str], ask_s: float = 60.0) -> tuple[tuple[str, ...], int]:
    """What an older server was started with, and how it ended when it was asked to."""

    async def story() -> tuple[tuple[str, ...], int]:
        server = Server.found(program, {}, notes.append, ask_s=ask_s)
        process = await LlamaCpp(server).start(SPEC, lambda _: None)
        log = process.log_tail()
        return log, (await process.stop(60)).code

    return asyncio.run(story())


def test_an_older_server_is_asked_what_it_knows_and_when_it_is_ready(tmp_path: Path) -> None:
    notes: list[str] = []
    log, code = start(a_program(tmp_path, SERVER), notes)
    (line,) = [line for line in log if line.startswith("starting with")]
    assert "--model /m.gguf" in line
    assert "--ctx-size 4096" in line
    assert "--kv-unified" not in line
    assert any(note.endswith("is another build and goes without --kv-unified") for note in notes)
    assert code == -15  # terminated at once: it reads no farewell


@pytest.mark.parametrize(
    ("text", "words", "ask_s"),
    [
        ("print('a calculator')", "tells of no --model", 60.0),
        (SERVER.replace("--cache-type-v", "--other"), "knows no --cache-type-v f16", 60.0),
        (SLEEPS, "does not end within 1 s", 1.0),
    ],
)
def test_what_cannot_serve_is_refused(tmp_path: Path, text: str, words: str, ask_s: float) -> None:
    with pytest.raises(EngineError, match=words):
        start(a_program(tmp_path, text), [], ask_s)


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is no program that can be run"):
        start(tmp_path / "none", [])


LISTING = """
import os, sys
assert sys.argv[-1] == "--list-devices"
order, relict = os.environ["CUDA_DEVICE_ORDER"], os.environ.get("LLAMA_ARG_DEVICE")
print("Available devices:")
print(f"  CUDA0: {order} {relict} (24135 MiB, 23871 MiB free)")
"""


def look(folder: Path, text: str, target: Target = Target.CUDA, environment: dict[str, str] | None = None) -> Offer:
    """What a build whose server is ``text`` says of its GPUs; it is asked for long only where it answers."""
    a_program(folder, text)
    build = a_build(f"b1-{target}", recipe=Recipe(target=target, portable=True), folder=str(folder))
    ask_s = 1.0 if text == SLEEPS else 60.0
    return asyncio.run(LlamaCpp(Server.built(build, environment or {}, ask_s=ask_s)).look())


def test_a_build_is_asked_for_its_gpus_in_the_environment_that_it_runs_in(tmp_path: Path) -> None:
    offer = look(tmp_path, LISTING, environment={"LLAMA_ARG_DEVICE": "none"})
    assert [(gpu.device, gpu.name) for gpu in offer.gpus] == [("CUDA0", "PCI_BUS_ID None")]
    assert offer.trouble == ""
    (chosen,) = look(tmp_path, LISTING, environment={"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}).gpus
    assert chosen.name == "FASTEST_FIRST None"


@pytest.mark.parametrize("asked", [{}, {"SYCL_CACHE_PERSISTENT": "1"}])
def test_kernels_that_sycl_kept_from_another_driver_are_never_used(tmp_path: Path, asked: dict[str, str]) -> None:
    kept = LISTING.replace("LLAMA_ARG_DEVICE", "SYCL_CACHE_PERSISTENT").replace("CUDA0", "SYCL0")
    (gpu,) = look(tmp_path, kept, Target.SYCL, asked).gpus
    assert gpu.name == "PCI_BUS_ID 0"


def test_a_build_for_the_cpu_is_not_asked(tmp_path: Path) -> None:
    assert look(tmp_path, "raise SystemExit(9)", Target.CPU).trouble == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('Available devices:'); print('  (none)')", "sees no GPU (`nvidia-smi` tells of the driver)"),
        ("import sys; print('no libcuda.so.1', file=sys.stderr); sys.exit(127)",
         "lists no GPUs: it ended with status 127 and said: no libcuda.so.1"),
        ("raise SystemExit(3)", "lists no GPUs: it ended with status 3 and said: nothing"),
        (SLEEPS, "could not be asked for its GPUs: "),
        ("print('Available devices:'); print('  CUDA0: X (0 MiB, 0 MiB free)')",
         "is not told how much memory CUDA0 (X) has"),
    ],
)  # fmt: skip
def test_why_a_build_for_gpus_sees_none_is_told(tmp_path: Path, text: str, words: str) -> None:
    offer = look(tmp_path, text)
    assert words in offer.trouble
    assert offer.gpus == ()


def test_a_build_that_is_gone_is_told_of(tmp_path: Path) -> None:
    gone = a_build("b1-cuda", recipe=Recipe(target=Target.CUDA), folder=str(tmp_path / "gone"))
    assert "could not be asked" in asyncio.run(Server.built(gone, {}).look()).trouble


def test_a_server_that_was_found_may_know_of_gpus_or_not(tmp_path: Path) -> None:
    seeing = Server.found(a_program(tmp_path, LISTING), {}, print, ask_s=60.0)
    assert [gpu.device for gpu in asyncio.run(seeing.look()).gpus] == ["CUDA0"]
    old = Server.found(a_program(tmp_path, "print('unknown argument')"), {}, print, ask_s=60.0)
    assert asyncio.run(old.look()) == old.offer
    none = Server.found(a_program(tmp_path, "print('Available devices:')"), {}, print, ask_s=60.0)
    assert asyncio.run(none.look()).trouble == ""


def test_where_sycl_does_not_start_vulkan_is_named(tmp_path: Path) -> None:
    a_program(tmp_path, "import sys; print('Exception caught at file:x', file=sys.stderr); sys.exit(1)")
    build = a_build("b1-sycl", recipe=Recipe(target=Target.SYCL, portable=True), folder=str(tmp_path))
    with pytest.raises(EngineError) as caught:
        asyncio.run(LlamaCpp(Server.built(build, {})).start(SPEC, lambda _: None))
    assert caught.value.hint.endswith("`bercail engine build --backend vulkan`, then --engine vulkan")
