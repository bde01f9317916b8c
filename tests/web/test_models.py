from dataclasses import replace
from typing import Any

import pytest

from bercail.core.configuration import Selector, Strategy
from bercail.core.model import Capability
from bercail.core.route import Phase, ServedModel
from bercail.web.models import entry, health, listing
from fakes.host import served


def listed(**changes: Any) -> Any:
    return entry(served(**changes))


def test_a_loaded_model_tells_every_dialect_its_context() -> None:
    found = listed(context_length=4096, slot_context_tokens=512)
    assert found["context_length"] == found["max_model_len"] == found["loaded_context_length"] == 512
    assert found["max_context_length"] == found["meta"]["n_ctx_train"] == 4096
    assert found["status"] == {"value": "loaded"}
    assert found["loaded"] is True
    assert found["meta"] == {"n_ctx_train": 4096, "n_params": 260_000, "n_vocab": 512, "size": 1_000_000}
    assert {"id": "tiny", "object": "model", "created": 1_700_000_000, "owned_by": "bercail"}.items() <= found.items()
    assert found["capabilities"] == ["chat", "completion", "tools"]


def test_the_list_is_one_page_in_the_words_of_anthropic() -> None:
    found: Any = listing((replace(served("a"), name="The first"), served("b")))
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, "a", "b")
    told = [(one["type"], one["display_name"], one["created_at"]) for one in found["data"]]
    assert told == [("model", name, "2023-11-14T22:13:20+00:00") for name in ("The first", "b")]
    assert (listing(())["first_id"], listing(())["last_id"]) == (None, None)


def test_a_model_that_is_not_loaded_tells_what_it_is_to_be_loaded_for_or_was_made_for() -> None:
    found = listed(phase=Phase.UNLOADED, slot_context_tokens=None, slots=None)
    assert found["context_length"] == found["max_model_len"] == 4096
    assert "loaded_context_length" not in found
    wished = listed(phase=Phase.UNLOADED, slot_context_tokens=None, wished_context_tokens=1024)
    assert (wished["context_length"], wished["max_model_len"], wished["max_context_length"]) == (1024, 1024, 4096)
    assert (found["status"], found["loaded"]) == ({"value": "unloaded"}, False)


def test_what_is_not_known_is_left_out_and_never_zero() -> None:
    bare = ServedModel(id="x", phase=Phase.UNLOADED, created=0, file_bytes=5)
    found: Any = entry(bare)
    assert found["meta"] == {"size": 5}
    assert not {"context_length", "max_model_len", "slots", "arch", "quantization"} & found.keys()
    assert found["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"phase": Phase.LOADING, "progress": 0.5}, {"value": "loading", "progress": 0.5}),
        ({"phase": Phase.FAILED, "error": "died"}, {"value": "unloaded", "failed": True, "error": "died"}),
    ],
)
def test_the_state_of_a_model_is_told(changes: dict[str, Any], status: dict[str, Any]) -> None:
    assert listed(**changes)["status"] == status


def test_modalities_follow_the_capabilities() -> None:
    sees = (Capability.CHAT, Capability.COMPLETION, Capability.VISION, Capability.AUDIO)
    assert listed(capabilities=sees)["architecture"]["input_modalities"] == ["text", "image", "audio"]
    assert listed(capabilities=(Capability.EMBEDDINGS,))["architecture"]["output_modalities"] == ["embeddings"]


def test_a_disabled_chat_says_why() -> None:
    assert listed(chat_refusal="its template hangs")["chat_disabled"] == "its template hangs"


def test_the_list_serves_the_readers_of_ollama_and_codex_too() -> None:
    found: Any = listing((served("a"), served("b", parameter_count=None, architecture=None)))
    assert [model["id"] for model in found["data"]] == ["a", "b"]
    first, second = found["models"]
    assert (first["name"], first["model"], first["slug"], first["context_window"]) == ("a", "a", "a", 512)
    assert first["modified_at"].startswith("2023-11-14T22:13:20")
    assert first["details"]["families"] == ["llama"]
    assert (second["details"]["families"], second["details"]["parameter_size"]) == ([], "")


@pytest.mark.parametrize(
    ("phases", "code", "word"),
    [
        ([], 200, "empty"),
        ([Phase.LOADED, Phase.LOADING], 200, "ok"),
        ([Phase.UNLOADED], 200, "ok"),
        ([Phase.LOADING, Phase.UNLOADED], 503, "loading"),
        ([Phase.FAILED], 503, "failed"),
        ([Phase.FAILED, Phase.UNLOADED], 200, "ok"),
    ],
)
def test_health_is_200_when_a_request_can_be_served(phases: list[Phase], code: int, word: str) -> None:
    status, found = health(tuple(served(str(number), phase=phase) for number, phase in enumerate(phases)))
    assert (status, found["status"]) == (code, word)


def test_health_tells_of_each_model() -> None:
    _, found = health((served("a", phase=Phase.LOADING, progress=0.2), served("b", phase=Phase.FAILED, error="died")))
    assert found["models"] == [
        {"id": "a", "status": "loading", "progress": 0.2}, {"id": "b", "status": "failed", "error": "died"},
    ]  # fmt: skip


def test_what_the_engine_lacks_is_told() -> None:
    found = listed(format="onnx", engine="onnxruntime", lacks=("logprobs", "tools"), batches=False)
    assert (found["format"], found["engine"]) == ("onnx", "onnxruntime")
    assert found["unsupported_parameters"] == ["logprobs", "tools"]
    assert found["batches"] is False
    assert not {"engine", "unsupported_parameters", "batches"} & listed().keys()
    both: Any = listing((served(format="onnx"),))
    assert both["models"][0]["details"]["format"] == "onnx"


def test_a_model_is_listed_under_its_other_names_as_well() -> None:
    model = served("a", aliases=("b",), also={"b": "alias", "c": "profile"}, metadata={"k": 1})
    made: Any = listing((model, served("hidden", unlisted=True, also={"d": "alias"})))
    assert [one["id"] for one in made["data"]] == ["a", "b", "c"]
    assert made["data"][0]["meta"]["llamaswap"] == {"k": 1}
    assert made["data"][1]["meta"]["llamaswap"] == {"k": 1, "type": "alias", "modelID": "a"}
    assert made["data"][2]["meta"]["llamaswap"]["type"] == "profile"
    assert [one["name"] for one in made["models"]] == ["a", "b", "c"]


def test_a_selector_is_listed_as_the_model_that_it_means_also_where_that_is_not() -> None:
    pin = Selector(id="any", line=1, strategy=Strategy.PIN, targets=("a", "b"), name="Any", metadata={"k": 2})
    more = Selector(id="more", line=1, strategy=Strategy.SPILLOVER, targets=("a",), spillover=3)
    model = served("a", unlisted=True, description="A", aliases=("c",), metadata={"k": 1}, selectors=(pin, more))
    made: Any = listing((model, served("b")))
    assert [one["id"] for one in made["data"]] == ["b", "any", "more"]
    assert [one["name"] for one in made["models"]] == ["b", "any", "more"]
    one, other = made["data"][1:]
    assert (one["name"], one["loaded"], "aliases" in one, "description" in other) == ("Any", True, False, False)
    said = {"type": "selector", "strategy": "pin", "targets": ["a", "b"], "modelID": "a"}
    assert one["meta"]["llamaswap"] == said | {"k": 2}
    assert other["meta"]["llamaswap"] == said | {"strategy": "spillover", "targets": ["a"], "spillover": 3}
