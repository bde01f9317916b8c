"""The list of models in the dialects that clients read, and the state of the whole server."""

from dataclasses import replace
from datetime import UTC, datetime

from bercail.core.chat import Json
from bercail.core.configuration import Selector, Strategy
from bercail.core.model import Capability
from bercail.core.route import Phase, ServedModel

_OWNER = "bercail"
_STATUS = {Phase.LOADED: "loaded", Phase.LOADING: "loading", Phase.UNLOADED: "unloaded", Phase.FAILED: "unloaded"}
_LM_STUDIO = {
    Phase.LOADED: "loaded", Phase.LOADING: "loading", Phase.UNLOADED: "not-loaded", Phase.FAILED: "not-loaded",
}  # fmt: skip


def listing(models: tuple[ServedModel, ...]) -> Json:
    """The answer of ``/v1/models``: ``data`` for clients of OpenAI and Anthropic, ``models`` for those of Ollama."""
    listed = [model for model in models if not model.unlisted]
    data = [entry(model) for model in listed] + [
        _other_name(model, name, kind) for model in listed for name, kind in model.also.items()
    ]
    chosen = [(model, selector) for model in models for selector in model.selectors]
    data += [_selector(model, selector) for model, selector in chosen]
    names = listed + [replace(model, id=name) for model in listed for name in model.also]
    names += [replace(model, id=selector.id) for model, selector in chosen]
    ends = [one["id"] for one in (data[:1] + data[-1:])] or [None]
    page: Json = {"has_more": False, "first_id": ends[0], "last_id": ends[-1]}
    return {"object": "list", "data": data, "models": [_ollama_entry(model) for model in names]} | page


def _other_name(model: ServedModel, name: str, kind: str) -> Json:
    """A record for another name of a model, which tells whose it is."""
    said = {**model.metadata, "type": kind, "modelID": model.id}
    return entry(replace(model, id=name, metadata=said, aliases=()))


def _selector(model: ServedModel, selector: Selector) -> Json:
    """A record for a name that stands for one of several models: that of the one which it means at this moment."""
    how: Json = {"type": "selector", "strategy": selector.strategy.value, "targets": list(selector.targets)}
    how |= {"spillover": selector.spillover} if selector.strategy is Strategy.SPILLOVER else {}
    said = {**selector.metadata, **how, "modelID": model.id}
    named = replace(
        model, id=selector.id, name=selector.name, description=selector.description, metadata=said, aliases=()
    )
    return entry(named)


def entry(model: ServedModel) -> Json:
    """One model; members that are not known are left out.

    ``context_length`` and ``max_model_len`` are what one request may use now, ``max_context_length`` what the model
    was made for, ``loaded_context_length`` what it was loaded with.
    """
    status: Json = {"value": _STATUS[model.phase]}
    if model.progress is not None:
        status["progress"] = model.progress
    if model.phase is Phase.FAILED:
        status["failed"] = True
    if model.error:
        status["error"] = model.error
    usable = model.usable_context_tokens
    known: Json = {
        "context_length": usable,
        "max_model_len": usable,
        "max_context_length": model.context_length,
        "loaded_context_length": model.slot_context_tokens,
        "slots": model.slots,
        "arch": model.architecture,
        "quantization": model.quantization,
        "format": model.format,
        "engine": model.engine,
        "unsupported_parameters": list(model.lacks) or None,
        "batches": model.batches,
        "chat_disabled": model.chat_refusal or None,
        "name": model.name or None,
        "description": model.description or None,
        "aliases": list(model.aliases) or None,
    }
    made: Json = {"id": model.id, "object": "model", "created": model.created, "owned_by": _OWNER}
    made |= {"type": "model", "display_name": model.name or model.id, "created_at": _time(model)}
    made |= _without_unknown(known)
    return made | {
        "status": status,
        "loaded": model.phase is Phase.LOADED,
        "capabilities": [capability.value for capability in model.capabilities],
        "architecture": _modalities(model),
        "meta": _without_unknown({
            "n_ctx_train": model.context_length,
            "n_params": model.parameter_count,
            "n_vocab": model.vocabulary,
            "size": model.file_bytes or None,
            "llamaswap": dict(model.metadata) or None,
        }),
    }  # fmt: skip


def lm_studio_listing(models: tuple[ServedModel, ...]) -> Json:
    """The answer of ``/api/v0/models``, in LM Studio's words."""
    return {"object": "list", "data": [lm_studio_entry(model) for model in models if not model.unlisted]}


def lm_studio_entry(model: ServedModel) -> Json:
    """One model as LM Studio tells of it; members that are not known are left out."""
    can = model.capabilities
    embeds = Capability.EMBEDDINGS in can and Capability.COMPLETION not in can
    known: Json = {
        "arch": model.architecture,
        "compatibility_type": model.format,
        "quantization": model.quantization,
        "max_context_length": model.usable_context_tokens,
        "loaded_context_length": model.slot_context_tokens,
    }
    return {
        "id": model.id,
        "object": "model",
        "type": "embeddings" if embeds else "vlm" if Capability.VISION in can else "llm",
        "publisher": _OWNER,
        "state": _LM_STUDIO[model.phase],
        "capabilities": ["tool_use"] if Capability.TOOLS in can else [],
    } | _without_unknown(known)


def _modalities(model: ServedModel) -> Json:
    inputs = ["text"]
    inputs += ["image"] if Capability.VISION in model.capabilities else []
    inputs += ["audio"] if Capability.AUDIO in model.capabilities else []
    embeds = Capability.EMBEDDINGS in model.capabilities and Capability.COMPLETION not in model.capabilities
    return {"input_modalities": inputs, "output_modalities": ["embeddings" if embeds else "text"]}


def _ollama_entry(model: ServedModel) -> Json:
    details = {
        "format": model.format or "",
        "family": model.architecture or "",
        "families": [model.architecture] if model.architecture else [],
        "parameter_size": _size(model.parameter_count),
        "quantization_level": model.quantization or "",
    }
    known: Json = {"context_window": model.usable_context_tokens}
    return {
        "name": model.id,
        "model": model.id,
        "slug": model.id,
        "display_name": model.id,
        "modified_at": _time(model),
        "size": model.file_bytes,
        "digest": "",
        "details": details,
        "capabilities": [capability.value for capability in model.capabilities],
    } | _without_unknown(known)


def _time(model: ServedModel) -> str:
    return datetime.fromtimestamp(model.created, UTC).isoformat()


def _size(parameters: int | None) -> str:
    if not parameters:
        return ""
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def _without_unknown(members: Json) -> Json:
    return {name: value for name, value in members.items() if value is not None}


def health(models: tuple[ServedModel, ...]) -> tuple[int, Json]:
    """Status code and answer of ``/health``: 200 when a request can be served, 503 while none can."""
    phases = {model.phase for model in models}
    if not models:
        status, word = 200, "empty"
    elif Phase.LOADED in phases:
        status, word = 200, "ok"
    elif Phase.LOADING in phases:
        status, word = 503, "loading"
    elif Phase.UNLOADED in phases:
        status, word = 200, "ok"
    else:
        status, word = 503, "failed"
    return status, {"status": word, "models": [_state(model) for model in models]}


def _state(model: ServedModel) -> Json:
    made: Json = {"id": model.id, "status": model.phase.value, "progress": model.progress, "error": model.error or None}
    return _without_unknown(made)
