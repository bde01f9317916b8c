"""Servers that somebody else made, and programs that are none; the real ones are in the contract suite."""

import asyncio
import sys
from pathlib import Path

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import LaunchSpec
from bercail.engines import LlamaCpp, Server
from fakes.models import some_settings

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


def a_program(folder: Path, text: str) -> Path:
    path = folder / "llama-server"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


def start(program: Path, notes: list[str]) -> tuple[tuple[str, ...], int]:
    """What an older server was started with, and how it ended when it was asked to."""

    async def story() -> tuple[tuple[str, ...], int]:
        process = await LlamaCpp(Server.found(program, {}, notes.append, ask_s=1.0)).start(SPEC, lambda _: None)
        log = process.log_tail()
        return log, (await process.stop(10)).code

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
    ("text", "words"),
    [
        ("print('a calculator')", "tells of no --model"),
        (SERVER.replace("--cache-type-v", "--other"), "knows no --cache-type-v f16"),
        ("import time; time.sleep(60)", "does not end within 1 s"),
    ],
)
def test_what_cannot_serve_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        start(a_program(tmp_path, text), [])


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is no program that can be run"):
        start(tmp_path / "none", [])
