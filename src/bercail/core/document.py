"""Values as JSON documents with a schema version: the contract with scripts.

Within a schema version keys are only added. Sizes are bytes, contexts are tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import TypeAlias, assert_never

from bercail.core import capture, news
from bercail.core.budget import Part
from bercail.core.build import Build
from bercail.core.engine import EngineSettings, Offer
from bercail.core.errors import BercailError, SettingsError
from bercail.core.explain import Explanation
from bercail.core.machine import Machine
from bercail.core.mix import layer_mix, type_shares
from bercail.core.model import ArraySummary, Findings, MetadataValue, Model
from bercail.core.pace import Timing
from bercail.core.plan import Fits, NoFit, Verdict
from bercail.core.trial import Comparison

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | dict[str, Json] | None"


def error_document(error: BercailError) -> dict[str, Json]:
    """``bercail.error/1``: any error of a command run with ``--json``."""
    told: dict[str, Json] = {"schema": "bercail.error/1", **_error(error)}
    if isinstance(error, SettingsError) and error.others:
        told["others"] = [_error(other) for other in error.others]
    return told


def _error(error: BercailError) -> dict[str, Json]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def inspect_document(model: Model) -> dict[str, Json]:
    """``bercail.inspect/1``: what a model file says of itself."""
    return {
        "schema": "bercail.inspect/1",
        "path": model.path,
        "id": model.id,
        "name": model.name,
        "role": model.role.value,
        "format": model.format.value,
        "architecture": model.architecture,
        "parameter_count": model.parameter_count,
        "context_length_tokens": model.context_length,
        "file_bytes": model.file_bytes,
        "weights_bytes": model.weights_bytes,
        "quantization": model.quantization,
        "bits_per_weight": round(model.bits_per_weight, 4),
        "tensor_types": [
            {"type": share.type, "tensors": share.tensors, "bytes": share.bytes} for share in type_shares(model)
        ],
        "layer_mix": [
            {"class": row.tensor_class, "layers": row.layers, "type": row.type} for row in layer_mix(model)
        ],
        "capabilities": [capability.value for capability in model.capabilities],
        "tokenizer": {
            "model": model.tokenizer.model, "pre": model.tokenizer.pre, "tokens": model.tokenizer.tokens
        },
        "chat_template": model.chat_template,
        "license": model.license,
        "qat": model.qat,
        "pooling": model.pooling.value if model.pooling else None,
        "projector": model.projector,
        "files": [{"path": file.path, "bytes": file.bytes} for file in model.files],
        "metadata": {key: _metadata(value) for key, value in model.metadata.items()},
        "notes": list(model.notes),
    }  # fmt: skip


def _metadata(value: MetadataValue) -> Json:
    if isinstance(value, ArraySummary):
        return {"array": value.element, "count": value.count}
    if isinstance(value, tuple):
        return [_metadata(part) for part in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no word for these
    return value


def settings_document(settings: EngineSettings) -> dict[str, Json]:
    """Every engine setting under the name it has in the plan."""
    document: dict[str, Json] = asdict(settings)
    document["pooling"] = settings.pooling.value if settings.pooling else None
    return document


def _explained_document(explained: Explanation) -> dict[str, Json]:
    """The terms of one part; those that count add up to its bytes."""
    terms: list[Json] = [
        {"what": term.what, "how": term.how, "bytes": term.bytes, "counts": term.counts} for term in explained.terms
    ]
    return {"part": explained.part.name, "bytes": explained.part.bytes, "terms": terms}


def builds_document(builds: Sequence[Build], at_hand: Sequence[tuple[Offer, str]] = ()) -> dict[str, Json]:
    """``bercail.engines/1``: engines that were built here, and all that are at hand with their builds."""
    return {
        "schema": "bercail.engines/1",
        "engines": [{"engine": "llama.cpp", **asdict(build)} for build in builds],
        "at_hand": [{"build": build, **asdict(offer)} for offer, build in at_hand],
    }


def comparison_document(model_id: str, comparison: Comparison) -> dict[str, Json]:
    """``bercail.comparison/1``: engines as they were measured, the fastest first, and settings of that one."""
    rows: list[Json] = [
        {
            "engine": trial.offer.name,
            "id": trial.offer.id,
            "make": trial.offer.make.value,
            "repack": trial.repack,
            "quantization": trial.quantization,
            "precision": trial.precision,
            "prefill_tokens_per_s": trial.prefill_tokens_per_s,
            "decode_tokens_per_s": trial.decode_tokens_per_s,
            "joint_tokens_per_s": trial.joint_tokens_per_s,
            "ready_s": trial.ready_s,
            "resident_bytes": trial.resident_bytes,
            "planned_bytes": trial.planned_bytes,
            "request_s": trial.request_s,
            "failure": trial.failure,
        }
        for trial in comparison.trials
    ]
    tried: list[Json] = [asdict(row) for row in comparison.tried]
    searched = comparison.searched.id if comparison.searched else None
    return {
        "schema": "bercail.comparison/1",
        "model": model_id,
        "trials": rows,
        "settings_of": searched,
        "settings": tried,
    }


def plan_document(
    verdict: Verdict,
    account: Sequence[Part] | None = None,
    explained: Explanation | None = None,
    timings: Sequence[Timing] = (),
) -> dict[str, Json]:
    """``bercail.plan/1``: what fits, and why; ``account`` is what the engine says, if it was asked.

    ``timings`` are answers that it timed, if any.
    """
    match verdict:
        case Fits(rates=rates):
            word, why = "fits", ""
            prefill = verdict.prefill
            known: Json = {"error_bound": verdict.lessons.bound, "loads": verdict.lessons.loads}
        case NoFit(why=why):
            word, rates, prefill, known = "no_fit", (), (), None
        case _ as unreachable:
            assert_never(unreachable)
    return {
        "schema": "bercail.plan/1",
        "verdict": word,
        "why": why,
        "model": verdict.model_id,
        "context_tokens": verdict.settings.slot_context_tokens,
        "slots": verdict.settings.slots,
        "engine": verdict.engine,
        "devices": [
            {
                "name": device.name,
                "budget_bytes": device.budget_bytes,
                "total_bytes": device.total_bytes,
                "parts": [{"name": part.name, "bytes": part.bytes} for part in device.parts],
            }
            for device in verdict.devices
        ],
        "known_from": known,
        "decode": [asdict(rate) for rate in rates],
        "prefill": [asdict(rate) for rate in prefill],
        "timed": [asdict(timing) for timing in timings],
        "engine_account": None if account is None else [{"name": part.name, "bytes": part.bytes} for part in account],
        "explained": None if explained is None else _explained_document(explained),
        "settings": settings_document(verdict.settings),
        "reasons": [
            {"setting": reason.setting, "value": reason.value, "because": reason.because} for reason in verdict.reasons
        ],
        "alternatives": [
            {
                "change": row.change,
                "context_tokens": row.context_tokens,
                "settings": settings_document(row.settings),
                "costs": row.costs,
                "here": row.here,
            }
            for row in verdict.alternatives
        ],
    }


def machine_document(machine: Machine) -> dict[str, Json]:
    """``bercail.machine/1``: what may be used of this machine."""
    document: dict[str, Json] = {"schema": capture.SCHEMA}
    document.update(asdict(machine))
    return document


def findings_document(findings: Findings) -> dict[str, Json]:
    """``bercail.models/1``: what a search found, and where it looked."""
    return {
        "schema": "bercail.models/1",
        "models": [asdict(found) for found in findings.models],
        "looked": list(findings.looked),
        "problems": list(findings.problems),
    }


def news_document(item: news.News) -> dict[str, Json]:
    """``bercail.news/1``: one step of ``bercail up --json-log``."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(item).__name__)[1:]
    return {"schema": "bercail.news/1", "event": name, **_news_facts(item)}


def _news_facts(item: news.News) -> dict[str, Json]:
    match item:
        case news.MachineProbed(machine=machine):
            return {"machine": machine_document(machine)}
        case news.ModelsFound(findings=findings):
            return {"models": findings_document(findings)}
        case news.ModelRead(model=model):
            return {"model": model.id, "path": model.path, "quantization": model.quantization}
        case news.Planned(plan=plan):
            return {"plan": plan_document(plan)}
        case news.Ready(plan=plan, seconds=seconds, resident_bytes=resident_bytes):
            return {"model": plan.model_id, "seconds": seconds, "resident_bytes": resident_bytes}
        case news.Loading(model_id=model_id, progress=progress):
            return {"model": model_id, "stage": progress.stage, "fraction": progress.fraction}
        case _:
            facts: dict[str, Json] = asdict(item)
            return {"model" if key == "model_id" else key: value for key, value in facts.items()}
