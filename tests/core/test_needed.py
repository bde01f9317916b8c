"""What a declared model needs to be there."""

import pytest

from bercail.core.needed import files_of, program_of
from fakes.configuration import model


def a_command(line: str) -> tuple[str, tuple[str, ...]]:
    found = model(f"models:\n  m:\n    proxy: http://h\n    cmd: {line}\n")
    return program_of(found), files_of(found)


@pytest.mark.parametrize(
    ("line", "program", "files"),
    [
        ("llama-server -m /a.gguf --mmproj /b.gguf -md /c.gguf", "llama-server", ("/a.gguf", "/b.gguf", "/c.gguf")),
        ("/opt/llama-server --model=/a.gguf --port 1 -m /a.gguf", "/opt/llama-server", ("/a.gguf",)),
        ("numactl -m 0 llama-server -m /a.gguf", "numactl", ("/a.gguf",)),
        ("bercail-llama-server -m /a.gguf -m", "bercail-llama-server", ("/a.gguf",)),
        ("llama-server -m a.gguf", "llama-server", ()),
        ("docker run -v /x image llama-server -m /models/a.gguf", "docker", ()),
        ("sd-server --model /a.gguf", "sd-server", ()),
        ("""llama-server -m "'/a.gguf'" -mm "'b.gguf'" """, "llama-server", ("'/a.gguf'", "'b.gguf'")),
    ],
)
def test_a_command_needs_its_program_and_the_files_of_llama_server(
    line: str, program: str, files: tuple[str, ...]
) -> None:
    assert a_command(line) == (program, files)


@pytest.mark.parametrize(
    ("path", "files"),
    [("a.gguf", ("a.gguf",)), ("./folder", ("./folder",)), ("qwen-27b", ()), ("~/a", ("~/a",)), ("\"'a'\"", ("'a'",))],
)
def test_a_model_needs_its_file_unless_it_is_an_id(path: str, files: tuple[str, ...]) -> None:
    found = model(f"models: {{m: {{model: {path}}}}}")
    assert (program_of(found), files_of(found)) == ("", files)


def test_a_server_elsewhere_needs_nothing() -> None:
    found = model("server: {}\nmodels: {m: {proxy: 'http://far'}}")
    assert (program_of(found), files_of(found)) == ("", ())
