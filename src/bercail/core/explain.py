"""How a part of a plan comes to its size: terms that add up to it, to the byte."""

from dataclasses import dataclass, replace

from bercail.core import memory
from bercail.core.budget import MARGIN_BYTES, MARGIN_SHARE, Part
from bercail.core.errors import UsageError
from bercail.core.mix import layer_mix
from bercail.core.model import Format, Model
from bercail.core.plan import Verdict
from bercail.core.units import Bytes, format_bytes, format_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One summand of a part.

    Attributes:
        what: what takes it.
        how: how its size follows.
        counts: False for what needs less than another at the same place, and is told for comparison.
    """

    what: str
    how: str
    bytes: Bytes
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A part of a plan and the terms that add up to it."""

    part: Part
    terms: tuple[Term, ...]


def explain(model: Model, verdict: Verdict, name: str) -> Explanation:
    """The part called ``name``, or whose name alone begins so (case aside), of the plan for ``model``.

    Raises:
        UsageError: the plan has no such part.
    """
    known = dict.fromkeys(part.name for device in verdict.devices for part in device.parts)
    asked = name.casefold()
    near = [part for part in known if part.casefold() == asked] or [
        part for part in known if asked and part.casefold().startswith(asked)
    ]
    if len(near) != 1:
        raise UsageError(f"the plan for {verdict.model_id} has no part {name!r}", hint=f"it has: {', '.join(known)}")
    held = [(device, part) for device in verdict.devices for part in device.parts if part.name == near[0]]
    if len(verdict.devices) == 1:
        return Explanation(part=held[0][1], terms=_terms(model, verdict, held[0][1]))
    terms = tuple(
        Term(what=device.name, how=f"{part.bytes / max(1, device.budget_bytes):.1%} of its memory", bytes=part.bytes)
        for device, part in held
    )
    whole = Part(name=held[0][1].name, bytes=sum(part.bytes for _, part in held))
    return Explanation(part=whole, terms=terms)


def _terms(model: Model, verdict: Verdict, part: Part) -> tuple[Term, ...]:
    """One function per part; what is a single number stands for itself."""
    match part.name:
        case "weights":
            return _weights(model)
        case "KV cache":
            return _cache(model, verdict)
        case "recurrent state":
            return _state(model, verdict)
        case "compute":
            return _compute(model, verdict)
        case "output":
            return (Term(what="output", how=_output(model, verdict), bytes=part.bytes),)
        case "projector":
            how = f"{model.projector}: {format_bytes(model.projector_bytes)}, times 1.4 for its working memory"
            return (Term(what="projector", how=how, bytes=part.bytes),)
        case "prompt cache":
            how = next((row.because for row in verdict.reasons if row.setting == "prompt_cache"), "as asked")
            return (Term(what="saved prompts", how=how, bytes=part.bytes),)
        case "checkpoints":
            settings = verdict.settings
            one = format_bytes(memory.checkpoint_bytes(model, settings))
            how = f"{settings.checkpoints} for each of {settings.slots} slots, {one} each"
            return (Term(what="saved states", how=how, bytes=part.bytes),)
        case "margin":
            rest = part.bytes - MARGIN_BYTES
            return (
                Term(what="always", how="for what no formula knows", bytes=MARGIN_BYTES),
                Term(what="share", how=f"a {MARGIN_SHARE}nd of all other parts", bytes=rest),
            )
        case name:
            return (Term(what=name, how=_HOW[name], bytes=part.bytes),)


_HOW = {
    "engine": "the process without a model: library, server, thread stacks, allocator; measured",
    "second embedding": "the output is the embedding once more, in another order for this CPU",
    "tiles": "in the order that AMX takes, blocks of some types are 4 bytes larger than in the file",
    "draft head": "the blocks that guess tokens ahead (MTP); left in the file without --mtp",
    "draft model": "all weights of the draft model",
    "draft cache": "what it keeps of the whole context for itself, keys and values in f16",
    "draft compute": "its scratch memory: of a drafting head no more than that of the layers before it",
    "draft output": "logits that it makes for every slot, f32",
    "learned": "working memory that earlier loads of this architecture took here beyond the formula",
}


def _weights(model: Model) -> tuple[Term, ...]:
    """Without the blocks of a drafting head, which are a part of their own."""
    if model.stored is not None:
        return tuple(
            Term(what=file.path.rpartition("/")[2], how=f"a file, mostly {model.quantization}", bytes=file.bytes)
            for file in model.files
        )
    model = replace(model, tensors=tuple(tensor for tensor in model.tensors if not memory.drafts(model, tensor)))
    return tuple(
        Term(what=row.tensor_class, how=f"{row.type}, layers {row.layers}" if row.layers else row.type, bytes=row.bytes)
        for row in layer_mix(model)
    )


def _cache(model: Model, verdict: Verdict) -> tuple[Term, ...]:
    settings, shape = verdict.settings, model.shape
    types = f"K {settings.kv_type_k}, V {settings.kv_type_v}"
    return tuple(
        Term(
            what=f"{_layers(share.layers)}, {'sliding window' if share.slides else 'full attention'}",
            how=f"{format_tokens(share.cells)} cells of {share.cell_bytes:,} bytes ({types})"
            + (f", window {format_tokens(shape.sliding_window)} and a batch" if share.slides else ""),
            bytes=share.bytes,
        )
        for share in memory.cache_shares(model, settings)
    )


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _state(model: Model, verdict: Verdict) -> tuple[Term, ...]:
    layers, rows = memory.state_layers(model), memory.state_rows(verdict.settings)
    return tuple(
        Term(what=what, how=f"{_layers(layers)} of {size:,} bytes (f32), {rows} copies", bytes=layers * size * rows)
        for what, size in memory.state_kinds(model).items()
    )


def _compute(model: Model, verdict: Verdict) -> tuple[Term, ...]:
    """The largest phase counts, for the others use the same place after it."""
    settings = verdict.settings
    phases = sorted(memory.compute_phases(model, settings).items(), key=lambda phase: -phase[1])
    tokens = memory.batch_tokens(settings)
    terms = [
        Term(
            what=what,
            how=f"values of {format_tokens(tokens)} tokens at once"
            + ("" if index == 0 else "; takes the same place, so it does not count"),
            bytes=size,
            counts=index == 0,
        )
        for index, (what, size) in enumerate(phases)
    ]
    if mask := memory.mask_bytes(model, settings):
        how = f"{format_tokens(tokens)} tokens by all cells, {'f16' if settings.flash_attention else 'f32'}"
        terms.append(Term(what="attention mask", how=how, bytes=mask))
    return tuple(terms)


def _output(model: Model, verdict: Verdict) -> str:
    settings = verdict.settings
    if settings.embedding:
        return f"{model.shape.embedding:,} values for each of {format_tokens(settings.batch_tokens)} tokens, f32"
    if model.format is Format.ONNX:
        return (
            f"{model.shape.vocabulary:,} logits for each of {memory.logit_rows(model, settings)} tokens of a batch, f32"
        )
    return f"{model.shape.vocabulary:,} logits for each of {settings.slots} slots, f32"
