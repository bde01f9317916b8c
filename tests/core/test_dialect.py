from dataclasses import replace

import pytest

from bercail.core.chat import ApiError, overflow
from bercail.core.dialect import PASSAGES, Form, error_body, error_event, missing

LONG = overflow({"n_prompt_tokens": 3000, "n_ctx": 2048}, "too long")


def test_each_dialect_words_an_error_in_its_own_form() -> None:
    error = ApiError(status=404, message="no model 'x'", param="model", code="model_not_found")
    assert error_body(error, Form.OLLAMA) == {"error": "no model 'x'"}
    assert error_body(error, Form.ANTHROPIC) == {
        "type": "error", "error": {"type": "not_found_error", "message": "no model 'x'"},
    }  # fmt: skip
    assert error_body(error, Form.OPENAI) == error_body(error, Form.RESPONSES) == error.body()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropic_kinds_follow_the_status(status: int, kind: str) -> None:
    body = error_body(ApiError(status=status, message="x"), Form.ANTHROPIC)
    assert body["error"] == {"type": kind, "message": "x"}


def test_what_would_fail_again_is_not_called_overloaded() -> None:
    error = ApiError(status=503, message="needs 8 GiB", final=True)
    assert error_body(error, Form.ANTHROPIC)["error"]["type"] == "api_error"  # type: ignore[index] # an object


def test_a_prompt_over_the_context_is_told_in_the_sentence_that_agents_match() -> None:
    assert error_body(LONG, Form.ANTHROPIC)["error"] == {
        "type": "invalid_request_error", "message": "prompt is too long: 3000 tokens > 2048 maximum",
    }  # fmt: skip
    assert "maximum context length is 2048" in str(error_body(LONG, Form.OLLAMA)["error"])
    without = replace(LONG, extra={})
    assert error_body(without, Form.ANTHROPIC)["error"] == {"type": "invalid_request_error", "message": LONG.message}


def test_the_event_that_breaks_a_stream_off_has_the_name_that_clients_look_for() -> None:
    error = ApiError(status=502, message="it died", kind="server_error", code="engine")
    assert error_event(error, Form.OPENAI) == ("", error.body())
    assert error_event(error, Form.OLLAMA) == ("", {"error": "it died"})
    assert error_event(error, Form.ANTHROPIC) == ("error", error_body(error, Form.ANTHROPIC))
    name, data = error_event(error, Form.RESPONSES)
    assert (name, data["type"], data["message"], data["code"]) == ("error", "error", "it died", "engine")
    assert (data["sequence_number"], error_event(error, Form.RESPONSES, 3)[1]["sequence_number"]) == (0, 3)
    assert data["error"] == error.body()["error"]


@pytest.mark.parametrize(
    ("path", "engine", "on_disk", "words"),
    [
        ("/v1/messages", "llama.cpp", True, ""),
        ("/v1/messages", None, True, ""),
        ("/v1/messages", "a command", False, ""),
        ("/v1/messages", "openvino", True, ""),
        ("/v1/responses", "openvino", True, ""),
        ("/infill", "openvino", True, "openvino does not speak /infill, llama.cpp does"),
        ("/completion", "openvino", True, ""),
        ("/v1/audio/speech", "llama.cpp", True, "llama.cpp does not speak /v1/audio/speech"),
        ("/v1/images/generations", None, True, "no engine at hand speaks /v1/images/generations"),
        ("/v1/audio/speech", "a command", False, ""),
        ("/v1/audio/speech", None, False, ""),
    ],
)
def test_an_endpoint_that_an_engine_lacks_is_refused_with_its_name(
    path: str, engine: str | None, on_disk: bool, words: str
) -> None:
    error = missing(PASSAGES[path], engine, on_disk=on_disk)
    assert (error.message if error else "").startswith(words)
    assert (error is None) == (not words)
    if error is not None:
        assert (error.status, error.code, error.final) == (501, "not_supported", True)
