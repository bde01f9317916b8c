"""What the engine would refuse, and wishes that contradict each other: named before anything is planned."""

from bercail.core import memory
from bercail.core.budget import Case
from bercail.core.engine import EngineSettings
from bercail.core.machine import Backend, Machine
from bercail.core.model import Model, Role, Shape
from bercail.core.options import EngineOptions
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.split import REFUSING, Split
from bercail.core.units import Tokens, format_tokens

MOST_OTHER_TOKENS = 128
"""By so many tokens the vocabulary of a draft model may be larger or smaller (llama.cpp b11549)."""


def illegal(case: Case, settings: EngineSettings) -> str:
    """Why the engine would refuse these settings for this model, or empty."""
    model, shape = case.model, case.model.shape
    if case.gpus and (refused := _no_kernel(case.gpus[0].backend, settings)):
        return refused
    apart = memory.pools_wrongly_apart(model, settings.slots, settings.pooling, embedding=settings.embedding)
    if apart and not settings.kv_unified:
        return (
            f"--no-kv-unified and --slots {settings.slots} contradict each other: texts at once would be pooled in part"
        )
    if refused := beyond_its_own(model, settings.slot_context_tokens):
        return refused
    if shape.mla_compressed and settings.kv_type_k != settings.kv_type_v:
        return "this model keeps keys and values together: kv_type_k and kv_type_v must be equal"
    if TENSOR_TYPES_BY_NAME[settings.kv_type_v].block_weights > 1 and not settings.flash_attention:
        return f"a {settings.kv_type_v} value cache needs flash attention"
    if settings.ubatch_tokens > settings.batch_tokens:
        return f"ubatch {settings.ubatch_tokens} is more than batch {settings.batch_tokens}"
    for kind, width in _cached_widths(shape, settings):
        if width % TENSOR_TYPES_BY_NAME[kind].block_weights:
            return f"heads of {width} values do not fill the blocks of {kind}: use f16"
    return ""


def beyond_its_own(model: Model, context: Tokens | None) -> str:
    """Why a context of so many tokens per slot cannot be had with any memory, or empty; None asks for none."""
    own = model.context_length
    if context is None or context <= own:
        return ""
    return f"context {format_tokens(context)} is more than the {format_tokens(own)} tokens the model was trained for"


def _cached_widths(shape: Shape, settings: EngineSettings) -> tuple[tuple[str, int], ...]:
    """Each cache type with each width of heads it must hold."""
    widths = ((settings.kv_type_k, shape.key_length), (settings.kv_type_v, shape.value_length))
    if not any(shape.swa_layers):
        return widths
    return (*widths, (settings.kv_type_k, shape.key_length_swa), (settings.kv_type_v, shape.value_length_swa))


def _no_kernel(backend: Backend, settings: EngineSettings) -> str:
    """Why no kernel of this backend takes the cache types, or empty."""
    key, value = settings.kv_type_k, settings.kv_type_v
    match backend:
        case Backend.CUDA | Backend.ROCM if "iq4_nl" in (key, value):
            return f"{backend} has no kernel for an iq4_nl cache: use q4_0"
        case Backend.METAL if key != value:
            return f"kv_type_k {key} and kv_type_v {value} contradict each other on metal: they must be equal"
        case Backend.VULKAN if (key == "bf16") != (value == "bf16"):
            return f"kv_type_k {key} and kv_type_v {value} contradict each other on vulkan: bf16 goes with bf16 only"
        case _:
            return ""


def at_odds(machine: Machine, model: Model, wish: EngineOptions) -> str:
    """Two wishes that contradict each other, or a wish and the machine, or empty."""
    if refused := _cannot_split(machine, model, wish):
        return refused
    for flag, kind in (("--kv-type-k", wish.kv_type_k), ("--kv-type-v", wish.kv_type_v)):
        if wish.kv and kind not in (None, wish.kv):
            return f"--kv {wish.kv} and {flag} {kind} contradict each other"
    if wish.mtp and not model.shape.nextn_layers:
        return f"--mtp {wish.mtp} needs a drafting head, and {model.id} has none in its file"
    flag = f"--mtp {wish.mtp}" if wish.mtp else "--draft-model" if model.draft else ""
    if flag and (wish.embedding or wish.purpose == "embedding" or model.role is not Role.GENERATE):
        return f"{flag} and embedding contradict each other: nothing is generated"
    if refused := _cannot_draft(model, wish):
        return refused
    if wish.purpose == "embedding" and wish.embedding is False:
        return "--for embedding and --no-embedding contradict each other"
    if wish.purpose not in (None, "embedding") and wish.embedding:
        return f"--for {wish.purpose} and --embedding contradict each other"
    return ""


def _cannot_draft(model: Model, wish: EngineOptions) -> str:
    """Why the draft model cannot guess for the other one as asked, or empty."""
    draft = model.draft
    if draft is None:
        return f"--draft-tokens {wish.draft_tokens} needs --draft-model" if wish.draft_tokens else ""
    if wish.mtp:
        return f"--mtp {wish.mtp} and --draft-model contradict each other: only one of them guesses"
    if draft.role is not Role.GENERATE:
        return f"--draft-model {draft.id} generates nothing that could be a guess"
    if draft.weights_bytes >= model.weights_bytes:
        return f"the draft model {draft.id} is no smaller than {model.id}: it would guess no faster than that answers"
    sizes = draft.shape.vocabulary, model.shape.vocabulary
    if draft.tokenizer.model != model.tokenizer.model or abs(sizes[0] - sizes[1]) > MOST_OTHER_TOKENS:
        return (
            f"the draft model {draft.id} ({draft.tokenizer.model}, {sizes[0]:,} tokens) and {model.id} "
            f"({model.tokenizer.model}, {sizes[1]:,} tokens) contradict each other: their vocabularies must agree"
        )
    return ""


def _cannot_split(machine: Machine, model: Model, wish: EngineOptions) -> str:
    """Why the GPUs cannot share the model as asked, or empty."""
    if not machine.gpus:
        here = None if (wish.gpus or "").strip().lower() == "none" else wish.gpus
        wishes = (("--split", wish.split), ("--gpu-layers", wish.gpu_layers), ("--gpus", here))
        asked = [name for name, value in wishes if value]
        return f"{asked[0]} needs a GPU, and there is none that can be used here" if asked else ""
    backend = machine.gpus[0].backend
    if wish.split == "row":
        instead = "--split tensor" if backend in (Backend.CUDA, Backend.ROCM) else "--split layer"
        if backend is Backend.SYCL:
            return f"--split row is not planned for on sycl: use {instead}"
        return f"--split row and {backend} contradict each other: llama.cpp b11549 has it for SYCL alone; use {instead}"
    if wish.split in (Split.LAYER, Split.TENSOR) and len(machine.gpus) == 1:
        return f"--split {wish.split} needs two GPUs at least, and there is one"
    if wish.split != Split.TENSOR:
        return ""
    if model.architecture in REFUSING:
        return f"--split tensor and the architecture {model.architecture} contradict each other: it cannot be sliced"
    if wish.flash_attention is False:
        return "--split tensor and --no-flash-attention contradict each other: slices need flash attention"
    if wish.gpu_layers is not None and wish.gpu_layers < model.shape.layers:
        return f"--split tensor and --gpu-layers {wish.gpu_layers} contradict each other: every layer is sliced"
    return ""


def refuses_slices(model: Model, settings: EngineSettings) -> bool:
    """Whether every layer must stay whole: the architecture, or attention as it is set, cannot be sliced."""
    return model.architecture in REFUSING or not settings.flash_attention
