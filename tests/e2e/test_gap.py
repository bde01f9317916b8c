"""A suffix in ``/v1/completions`` and ``/api/generate``, on a real engine that would pass over it or cut it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Server, environment_in, serve
from e2e.parrot import write_parrot

pytestmark = pytest.mark.engine

MARKS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gap")
    write_parrot(folder / "parrot.gguf", "a middle", template="{{ messages }}", marks=MARKS, context_tokens=512)
    (folder / "plain.gguf").write_bytes(tiny.read_bytes())
    server = serve(environment_in(folder), folder, folder / "parrot.gguf", folder / "plain.gguf")
    server.wait_for("ready")
    yield server
    server.end(signal.SIGKILL)


def test_the_model_gets_both_sides_between_its_marks(server: Server) -> None:
    body = {"model": "parrot", "prompt": "ab", "suffix": "c<fim_middle>", "max_tokens": 4, "temperature": 0}
    status, answer = server.request("POST", "/v1/completions", body)
    assert (status, answer["choices"][0]["text"].strip()) == (200, "a middle")
    # Its tokens are bytes: the beginning, three marks, a space before each side, letters, and what looks like a mark.
    assert answer["usage"]["prompt_tokens"] == 1 + 3 + 2 * len("\u2581".encode()) + len("ab") + len("c<fim_middle>")


def test_ollamas_clients_get_the_same(server: Server) -> None:
    gap = {"model": "parrot", "prompt": "ab", "suffix": "c", "options": {"num_predict": 4, "temperature": 0}}
    status, answer = server.request("POST", "/api/generate", gap | {"stream": False})
    assert (status, answer["response"].strip(), answer["done_reason"]) == (200, "a middle", "stop")
    assert answer["prompt_eval_count"] == 1 + 3 + 2 * len("\u2581".encode()) + len("abc")
    status, answer = server.request("POST", "/api/generate", gap | {"prompt": "a" * 400, "suffix": "b" * 400})
    assert status == 400
    assert "800" in answer["error"] or "context" in answer["error"]


def test_more_than_the_context_holds_is_refused_and_nothing_cut(server: Server) -> None:
    body = {"model": "parrot", "prompt": "a" * 400, "suffix": "b" * 400, "max_tokens": 4}
    status, answer = server.request("POST", "/v1/completions", body)
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert answer["error"]["n_prompt_tokens"] > 800


def test_a_model_without_marks_is_told_as_that(server: Server) -> None:
    status, answer = server.request("POST", "/v1/completions", {"model": "plain", "prompt": "a", "suffix": "b"})
    assert (status, answer["error"]["code"]) == (400, "infill_unsupported")
