"""From a launch to the command line of llama-server, of this build and of older ones."""

from dataclasses import replace

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.launch import Address, LaunchSpec
from bercail.engines.llama_cpp.server_flags import parse_help, parse_version, render, translate

SETTINGS = EngineSettings(
    context_tokens=4096, slots=2, kv_unified=True, batch_tokens=256, ubatch_tokens=128, kv_type_k="q8_0",
    kv_type_v="q8_0", flash_attention=True, threads=3, threads_batch=5, mmap=False, repack=True,
)  # fmt: skip
SPEC = LaunchSpec(model_id="m", model_path="/m.gguf", weights_bytes=1, settings=SETTINGS)

NOW = """
----- common params -----
-h,    --help, --usage                  print usage and exit
-t,    --threads N                      number of CPU threads (default: -1), see --threads-batch
-m,    --model FNAME                    model path to load
-lm,   --load-mode MODE                 model loading mode
--host HOST                             ip address to listen, or bind to an UNIX socket if the address ends with .sock
--ui, --webui, --no-ui, --no-webui      whether to enable the Web UI
"""

OLD = """
-m,    --model FNAME                    model path
--mmproj FILE                           projector
-c,    --ctx-size N                     size of the prompt context
-np,   --parallel N                     number of parallel sequences
-ngl,  --gpu-layers, --n-gpu-layers N   layers in VRAM
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-fa,   --flash-attn                     enable Flash Attention
--no-mmap                               do not memory-map model
-b,    --batch-size N                   logical batch
-ub,   --ubatch-size N                  physical batch
-t,    --threads N                      threads
-tb,   --threads-batch N                threads for prefill
--swa-checkpoints N                     checkpoints
-md,   --model-draft FNAME              draft model
--draft-max, --draft, --draft-n N       number of tokens to draft
-nkvo, --no-kv-offload                  disable KV offload
--host HOST                             ip address to listen
--port PORT                             port
-a,    --alias STRING                   model alias
--no-webui                              disable the Web UI
--slots                                 slots
--metrics                               metrics
--threads-http N                        threads
-to,   --timeout N                      timeout
--jinja                                 templates
--reasoning-format FORMAT               thoughts
-lv,   --verbosity N                    verbosity
"""


def flags(arguments: tuple[str, ...]) -> dict[str, str]:
    """Each flag with its value, if it has one."""
    pairs = zip(arguments, (*arguments[1:], "--"), strict=True)
    return {flag: "" if value.startswith("--") else value for flag, value in pairs if flag.startswith("--")}


def test_every_setting_is_on_the_command_line() -> None:
    found = flags(render(SPEC, Address(unix_path="/r/llama.sock")))
    expected = {
        "--model": "/m.gguf", "--ctx-size": "4096", "--parallel": "2", "--kv-unified": "", "--cache-type-k": "q8_0",
        "--flash-attn": "on", "--threads": "3", "--threads-batch": "5", "--load-mode": "none", "--repack": "",
        "--fit": "off", "--offline": "", "--no-ui": "", "--host": "/r/llama.sock", "--alias": "m",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert "--port" not in found
    assert "--chat-template" not in found
    other = flags(render(replace(SPEC, chat_template="chatml"), Address(port=81)))
    assert (other["--host"], other["--port"], other["--chat-template"]) == ("127.0.0.1", "81", "chatml")


def test_a_help_tells_flags_and_whether_sockets_are_understood() -> None:
    now, old = parse_help(NOW), parse_help(OLD)
    assert {"-lm", "--load-mode", "--no-webui", "--threads"} <= now.flags
    assert "--threads-batch" not in now.flags  # it is only spoken of
    assert (now.socket, old.socket) == (True, False)
    assert {"-m", "--model", "--host"} <= now.valued
    assert not {"--ui", "-h", "--usage"} & now.valued
    assert "-fa" not in old.valued


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 11549 (b11549)\nbuilt with", "b11549"),
        ("version: 0.6.0-dev (build 11549, commit b11549)\nbuilt with GNU 12.2.0", "b11549"),
        ("nonsense", ""),
        ("version: 0.6", ""),
    ],
)
def test_a_version_tells_the_build(text: str, build: str) -> None:
    assert parse_version(text) == build


def test_an_older_build_gets_its_own_words_and_what_it_lacks_is_told() -> None:
    words = translate(render(SPEC, Address(port=81)), parse_help(OLD))
    found = flags(words.arguments)
    assert "--no-mmap" in found
    assert "-fa" in words.arguments
    assert "--load-mode" not in found
    assert (found["--swa-checkpoints"], found["--verbosity"]) == ("0", "4")
    assert "--no-webui" in found
    assert set(words.lacking) == {"--kv-unified", "--cache-ram 0"}
    assert words.refused == ""
    plain = replace(SETTINGS, mmap=True, flash_attention=False, kv_unified=False, draft_tokens=4)
    words = translate(render(replace(SPEC, settings=plain, draft_path="/d.gguf"), Address(port=81)), parse_help(OLD))
    found = flags(words.arguments)
    assert (found["--model-draft"], found["--draft-max"]) == ("/d.gguf", "4")
    assert "-fa" not in words.arguments
    assert "--no-mmap" not in found


def test_what_it_cannot_do_without_is_refused() -> None:
    older = OLD.replace("--cache-type-k", "--other")
    words = translate(render(SPEC, Address(port=81)), parse_help(older))
    assert words.refused == "--cache-type-k q8_0"
