import json
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings

from bercail.core import document, news
from bercail.core.budget import Part
from bercail.core.errors import ReadError, SettingsError, UsageError
from bercail.core.explain import explain
from bercail.core.machine import Machine
from bercail.core.model import ArraySummary, Findings, Model, Pooling
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from fakes.models import a_found, a_machine, a_model, machines, models, some_settings, wishes
from fakes.news import EVERY_NEWS

# What scripts were promised; within a schema version keys are only added, and each addition is listed here.
INSPECT = {
    "schema", "path", "architecture", "parameter_count", "context_length_tokens", "file_bytes", "weights_bytes",
    "quantization", "bits_per_weight", "tensor_types", "layer_mix", "capabilities", "tokenizer", "chat_template",
    "license", "qat", "files", "metadata",
}  # fmt: skip
INSPECT_ADDED = {"id", "name", "role", "format", "pooling", "projector", "notes"}
PLAN = {
    "schema", "verdict", "model", "context_tokens", "slots", "engine", "devices", "settings", "reasons", "alternatives",
}  # fmt: skip
PLAN_ADDED = {"why", "decode", "prefill", "timed", "known_from", "engine_account", "explained"}


def round_trip(value: dict[str, Any]) -> dict[str, Any]:
    """Through JSON that every parser reads: no NaN, no tuples, no objects."""
    back = json.loads(json.dumps(value, allow_nan=False))
    assert isinstance(back, dict)
    return back


def test_errors_have_the_keys_that_scripts_were_promised() -> None:
    found = document.error_document(UsageError("no", hint="yes"))
    assert found == {"schema": "bercail.error/1", "code": "usage", "message": "no", "hint": "yes"}
    assert document.error_document(ReadError("cut", path="/m/x"))["hint"] == ""


@given(models())
def test_any_model_is_described_with_the_keys_that_scripts_were_promised(model: Model) -> None:
    found = round_trip(document.inspect_document(model))
    assert set(found) == INSPECT | INSPECT_ADDED
    assert found["schema"] == "bercail.inspect/1"
    assert all(set(row) == {"type", "tensors", "bytes"} for row in found["tensor_types"])
    assert all(set(row) == {"class", "layers", "type"} for row in found["layer_mix"])
    assert all(set(row) == {"path", "bytes"} for row in found["files"])
    assert set(found["tokenizer"]) == {"model", "pre", "tokens"}
    assert sum(row["bytes"] for row in found["tensor_types"]) == found["weights_bytes"]


def test_metadata_keeps_what_json_can_say_and_names_the_rest() -> None:
    summary = ArraySummary(element="string", count=128256, offset=99)
    odd = {"nan": float("nan"), "inf": (1.5, float("-inf")), "n": 7, "on": True, "tokens": summary, "name": "é"}
    found = round_trip(document.inspect_document(a_model(metadata=odd, pooling=Pooling.CLS)))
    assert found["metadata"] == {
        "nan": "nan", "inf": [1.5, "-inf"], "n": 7, "on": True, "tokens": {"array": "string", "count": 128256},
        "name": "é",
    }  # fmt: skip
    assert found["pooling"] == "cls"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(machines(), models(), wishes)
def test_any_plan_has_the_keys_that_scripts_were_promised(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    found = round_trip(document.plan_document(verdict))
    assert set(found) == PLAN | PLAN_ADDED
    assert found["schema"] == "bercail.plan/1"
    assert found["verdict"] == ("fits" if isinstance(verdict, Fits) else "no_fit")
    assert bool(found["why"]) != isinstance(verdict, Fits)
    (device,) = found["devices"]
    assert set(device) == {"name", "budget_bytes", "total_bytes", "parts"}
    assert device["total_bytes"] == sum(part["bytes"] for part in device["parts"])
    assert all(set(part) == {"name", "bytes"} for part in device["parts"])
    assert all(set(row) == {"setting", "value", "because"} for row in found["reasons"])
    for row in found["alternatives"]:
        assert set(row) == {"change", "context_tokens", "settings", "costs", "here"}
        assert set(row["settings"]) == set(found["settings"])


def test_settings_name_their_pooling_or_none() -> None:
    assert document.settings_document(some_settings(pooling=Pooling.RANK))["pooling"] == "rank"
    assert document.settings_document(some_settings())["pooling"] is None


def test_machines_and_findings_are_documents_too() -> None:
    machine = round_trip(document.machine_document(a_machine()))
    assert (machine["schema"], machine["cpu"]["physical_cores"]) == ("bercail.machine/1", 4)
    found = Findings(models=(a_found(),), looked=("/m: 1 model",), problems=("/n: no permission",))
    listed = round_trip(document.findings_document(found))
    assert (listed["schema"], listed["models"][0]["id"], listed["looked"], listed["problems"]) == (
        "bercail.models/1", "tiny", ["/m: 1 model"], ["/n: no permission"],
    )  # fmt: skip


def test_there_is_a_sample_of_every_kind_of_news() -> None:
    assert {type(item) for item in EVERY_NEWS} == set(get_args(news.News))


FACTS = {
    news.Reconciled: ("reconciled", {"ended"}),
    news.MachineProbed: ("machine_probed", {"machine"}),
    news.ModelsFound: ("models_found", {"models"}),
    news.Listening: ("listening", {"url"}),
    news.Waiting: ("waiting", {"url", "models", "failed"}),
    news.ModelRead: ("model_read", {"model", "path", "quantization"}),
    news.Trying: ("trying", {"engine", "repack", "setting"}),
    news.Warned: ("warned", {"text"}),
    news.Planned: ("planned", {"plan"}),
    news.Loading: ("loading", {"model", "stage", "fraction"}),
    news.CommandReady: ("command_ready", {"model", "seconds", "address", "resident_bytes"}),
    news.ContextKept: ("context_kept", {"model", "tokens"}),
    news.ContextRestored: ("context_restored", {"model", "tokens"}),
    news.Reloaded: ("reloaded", {"changed", "added", "gone", "later", "altered"}),
    news.Ready: ("ready", {"model", "seconds", "resident_bytes"}),
    news.LoadFailed: ("load_failed", {"model", "error"}),
    news.EngineDied: ("engine_died", {"model", "error", "log_tail", "retry_s"}),
    news.Unloaded: ("unloaded", {"model"}),
    news.Stopping: ("stopping", {"drain_s"}),
    news.Stopped: ("stopped", {"cut"}),
}


@pytest.mark.parametrize("item", EVERY_NEWS, ids=lambda item: type(item).__name__)
def test_every_step_is_a_document_with_its_event(item: news.News) -> None:
    found = round_trip(document.news_document(item))
    event, keys = FACTS[type(item)]
    assert (found.pop("schema"), found.pop("event")) == ("bercail.news/1", event)
    assert set(found) == keys
    if "model" in keys:
        assert found["model"] == "tiny"


def test_what_the_engine_says_is_in_the_plan_if_it_was_asked() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions())
    assert round_trip(document.plan_document(verdict))["engine_account"] is None
    found = round_trip(document.plan_document(verdict, (Part(name="compute", bytes=7),)))
    assert found["engine_account"] == [{"name": "compute", "bytes": 7}]


def test_an_explained_part_has_terms_that_add_up() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(flash_attention=False))
    explained = explain(a_model(), verdict, "compute")
    found = round_trip(document.plan_document(verdict, explained=explained))["explained"]
    assert (found["part"], found["bytes"]) == ("compute", explained.part.bytes)
    assert sum(term["bytes"] for term in found["terms"] if term["counts"]) == found["bytes"]
    assert {term["counts"] for term in found["terms"]} == {True, False}


def test_an_error_of_a_configuration_brings_what_else_is_wrong() -> None:
    other = SettingsError("b", hint="do b", line=2)
    told = document.error_document(SettingsError("a", hint="do a", code="x", line=1, others=(other,)))
    assert told["others"] == [{"code": "settings", "message": "b", "hint": "do b"}]
    assert "others" not in document.error_document(SettingsError("a"))
