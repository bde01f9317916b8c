"""What a model takes in memory under given settings, part by part.

The formulas follow the allocations of llama.cpp b11549 on the CPU (``llama-kv-cache.cpp``, ``llama-kv-cache-iswa.cpp``,
``llama-memory-recurrent.cpp``, ``llama_context::sched_reserve``); those of the caches are exact, that of the compute
buffer was fitted to the engine's own account of 17 architectures (`bench/results/breakdown.json`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bercail.core.engine import EngineSettings
from bercail.core.model import Format, Model, Pooling, Role, Shape, Tensor
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.units import MIB, Bytes, Tokens

CELL_STEP: Tokens = 256
"""llama.cpp rounds the cells of a cache up to a multiple of this."""

ENGINE_BASE_BYTES: Bytes = 96 * MIB
"""The engine's process without a model: library, server, thread stacks and allocator."""

_F32: Bytes = 4
_F16: Bytes = 2

_UNGATED = frozenset({"bert"})
"""Architectures whose feed-forward network has no gate, of those that were measured."""

_MOE_STREAM = {"glm4moe": 2.5, "qwen35moe": 1.0, "gemma4": 1.0, "qwen3next": 0.0}
_MOE_STREAM_ELSE = 3.0
"""Copies of the residual stream beside the experts' answers, as measured: what the allocator can place elsewhere
differs by architecture."""


def pad(count: int, step: int) -> int:
    """``count`` rounded up to a multiple of ``step``."""
    return -(-count // step) * step


def row_bytes(type_name: str, weights: int) -> Bytes:
    """Bytes of one row of ``weights`` values of a cache or tensor type (a whole number of blocks)."""
    kind = TENSOR_TYPES_BY_NAME[type_name]
    return weights // kind.block_weights * kind.block_bytes


def cells_per_stream(settings: EngineSettings) -> Tokens:
    """KV cells of one stream: the whole pool if unified, else one slot's share."""
    share = settings.context_tokens if settings.kv_unified else settings.context_tokens // settings.slots
    return pad(share, CELL_STEP)


def sliding_cells_per_stream(shape: Shape, settings: EngineSettings) -> Tokens:
    """KV cells of one stream on a sliding-window layer: the window and one physical batch."""
    full = cells_per_stream(settings)
    if settings.swa_full:
        return full
    sequences = settings.slots if settings.kv_unified else 1
    return pad(min(full, shape.sliding_window * sequences + settings.ubatch_tokens), CELL_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShare:
    """What layers of one kind keep of the context, over all slots.

    Attributes:
        layers: how many keep this much each.
        slides: they see a sliding window only.
        cells: tokens that each holds.
        cell_bytes: keys and values of one token in one layer.
    """

    layers: int
    slides: bool
    cells: Tokens
    cell_bytes: Bytes

    @property
    def bytes(self) -> Bytes:
        """All of it."""
        return self.layers * self.cells * self.cell_bytes


def cache_shares(model: Model, settings: EngineSettings) -> tuple[CacheShare, ...]:
    """The KV cache by kind of layer; empty for models that keep none."""
    if not keeps_cache(model):
        return ()
    shape = model.shape
    streams = 1 if settings.kv_unified else settings.slots
    full = cells_per_stream(settings) * streams
    sliding = sliding_cells_per_stream(shape, settings) * streams
    kinds = Counter(
        (slides, _cell_bytes(shape, settings, layer, slides=slides))
        for layer in range(shape.layers - shape.shared_kv_layers)
        for slides in (_slides(shape, layer),)
    )
    return tuple(
        CacheShare(layers=layers, slides=slides, cells=sliding if slides else full, cell_bytes=cell)
        for (slides, cell), layers in kinds.items()
        if cell
    )


def cache_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """The KV cache over all layers and slots; 0 for models that keep none."""
    return sum(share.bytes for share in cache_shares(model, settings))


def layer_cache_bytes(model: Model, settings: EngineSettings) -> tuple[Bytes, ...]:
    """The KV cache of each layer, all slots together; they add up to `cache_bytes`."""
    shape = model.shape
    if not keeps_cache(model):
        return (0,) * shape.layers
    streams = 1 if settings.kv_unified else settings.slots
    cells = {False: cells_per_stream(settings) * streams, True: sliding_cells_per_stream(shape, settings) * streams}
    own = shape.layers - shape.shared_kv_layers
    return tuple(
        cells[slides] * _cell_bytes(shape, settings, layer, slides=slides) if layer < own else 0
        for layer in range(shape.layers)
        for slides in (_slides(shape, layer),)
    )


def keeps_cache(model: Model) -> bool:
    """Whether generation state is kept between tokens: encoders read the whole text at once and keep nothing.

    Nor do folders that were exported to embed, whatever their layers: their graph has no cache.
    """
    if model.role is Role.EMBED and model.format is not Format.GGUF:
        return False
    return model.shape.causal or model.role is Role.GENERATE


def pools_wrongly_apart(model: Model, slots: int, pooling: Pooling | None, *, embedding: bool) -> bool:
    """Whether texts at once need one pool of cells to be pooled whole.

    With a pool for each slot llama.cpp b11549 cuts the longer of two texts where the shorter one ends, and the mean, or
    the first token, is then that of its last piece: vectors differ by tenths, and nothing is said.
    """
    own = pooling or model.pooling
    return embedding and slots > 1 and keeps_cache(model) and own is not Pooling.LAST


def _cell_bytes(shape: Shape, settings: EngineSettings, layer: int, *, slides: bool) -> Bytes:
    heads = shape.kv_heads[layer]
    if heads == 0:
        return 0
    if shape.mla_compressed:
        return row_bytes(settings.kv_type_k, shape.kv_lora_rank + shape.rope_dimensions)
    key = shape.key_length_swa if slides else shape.key_length
    value = _value_width(shape, layer, slides=slides)
    if not settings.flash_attention:  # values are kept transposed, every layer as wide as the widest
        value = max(_value_width(shape, other, slides=_slides(shape, other)) for other in range(shape.layers))
    return row_bytes(settings.kv_type_k, key * heads) + row_bytes(settings.kv_type_v, value)


def _value_width(shape: Shape, layer: int, *, slides: bool) -> int:
    return (shape.value_length_swa if slides else shape.value_length) * shape.kv_heads[layer]


def _slides(shape: Shape, layer: int) -> bool:
    return bool(shape.swa_layers) and shape.swa_layers[layer]


def state_layers(model: Model) -> int:
    """Layers that hold a recurrent state."""
    recurrent = model.shape.recurrent
    return sum(recurrent.layers[: model.shape.layers]) if recurrent else 0


def state_kinds(model: Model) -> Mapping[str, Bytes]:
    """What one recurrent layer keeps of one sequence, always f32 and independent of the context."""
    recurrent = model.shape.recurrent
    return {"convolution": recurrent.conv_bytes, "state": recurrent.state_bytes} if recurrent else {}


def state_rows(settings: EngineSettings) -> int:
    """Copies of a recurrent state: one for each slot, and one more for each token that is guessed ahead."""
    return settings.slots * (1 + settings.draft_tokens)


def state_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Recurrent state of all slots."""
    return state_layers(model) * sum(state_kinds(model).values()) * state_rows(settings)


def layer_state_bytes(model: Model, settings: EngineSettings) -> tuple[Bytes, ...]:
    """Recurrent state of each layer, all slots together; they add up to `state_bytes`."""
    recurrent = model.shape.recurrent
    if recurrent is None:
        return (0,) * model.shape.layers
    one = sum(state_kinds(model).values()) * state_rows(settings)
    return tuple(one if flag else 0 for flag in recurrent.layers[: model.shape.layers])


def checkpoint_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """One saved state of one slot: its sliding-window cells or its recurrent state; 0 where the cache can be cut."""
    shape = model.shape
    if not keeps_cache(model):
        return 0
    if shape.recurrent is not None:
        return state_bytes(model, settings) // state_rows(settings)
    cells = min(sliding_cells_per_stream(shape, settings), pad(shape.sliding_window + 1, CELL_STEP))
    return sum(
        cells * _cell_bytes(shape, settings, layer, slides=True)
        for layer in range(shape.layers - shape.shared_kv_layers)
        if shape.swa_layers and shape.swa_layers[layer]
    )


def compute_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Scratch memory of one physical batch at full context: the phase of a layer that keeps most values at once."""
    return max(compute_phases(model, settings).values()) + mask_bytes(model, settings)


def compute_phases(model: Model, settings: EngineSettings) -> Mapping[str, Bytes]:
    """What each phase of a layer keeps at once, for one physical batch at full context."""
    batch = batch_tokens(settings)
    phases = {
        "feed-forward network": _dense_width(model) * batch * _F32,
        "experts": _expert_width(model) * batch * _F32,
        "latent attention": _latent_width(model.shape) * batch * _F32,
        "recurrent layer": _recurrent_bytes(model, settings, batch),
        "attention scores": 0 if settings.flash_attention else _score_bytes(model, settings, batch),
    }
    return {name: size for name, size in phases.items() if size or name == "feed-forward network"}


def batch_tokens(settings: EngineSettings) -> Tokens:
    """Tokens of one physical batch: no more than the context holds."""
    return min(settings.ubatch_tokens, settings.context_tokens)


def _dense_width(model: Model) -> int:
    """Values per token around a dense feed-forward network: gate, up, their product, and five of the stream."""
    hidden, stream = max(model.shape.feed_forward, default=0), model.shape.embedding
    return 2 * hidden + stream if model.architecture in _UNGATED else 3 * hidden + 5 * stream


def _expert_width(model: Model) -> int:
    """Values per token around the experts: either what they widen to, or what they return and its weighted copy."""
    shape, used = model.shape, model.shape.experts_used
    if not used:
        return 0
    widened = 3 * (shape.expert_feed_forward * used + shape.shared_feed_forward) + 5 * shape.embedding
    stream = _MOE_STREAM.get(model.architecture, _MOE_STREAM_ELSE) * shape.embedding
    returned = (2 * shape.embedding + shape.expert_feed_forward) * used + int(stream)
    return max(widened, returned)


def _latent_width(shape: Shape) -> int:
    """Values per token of multi-head latent attention: two compressed queries per head, the query, and the stream."""
    if not shape.mla_compressed:
        return 0
    query = 2 * (shape.kv_lora_rank + shape.rope_dimensions) + shape.key_length_mla
    return max(shape.heads) * query + 5 * shape.embedding


def _recurrent_bytes(model: Model, settings: EngineSettings, batch: Tokens) -> Bytes:
    """A layer with a recurrent state: its values per token, and copies of the states of all slots."""
    shape, recurrent = model.shape, model.shape.recurrent
    if recurrent is None:
        return 0
    slots, conv, state = settings.slots, recurrent.conv_bytes, recurrent.state_bytes
    if not recurrent.channels:
        return _dense_width(model) * batch * _F32 * 135 // 100
    if not recurrent.scan:
        width = 2 * recurrent.channels + recurrent.inner + 5 * shape.embedding
        return width * batch * _F32 + slots * ((2 + settings.draft_tokens) * state + conv)
    stream = 2 if any(shape.kv_heads) else 1
    width = 4 * recurrent.inner + 3 * recurrent.channels + stream * shape.embedding
    more = (slots - 1) * state
    if more <= recurrent.channels * batch * _F32:
        more = 0  # it goes where the convolution's input was
    return width * batch * _F32 + slots * (state + conv) + more


def _attended(model: Model, settings: EngineSettings) -> Tokens:
    """Keys that one batch may attend to."""
    return cells_per_stream(settings) if keeps_cache(model) else min(settings.ubatch_tokens, settings.context_tokens)


def mask_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Which keys each token of a batch may attend to."""
    batch = batch_tokens(settings)
    if not any(model.shape.kv_heads):
        return 0
    kinds = _attended(model, settings)
    if any(model.shape.swa_layers) and keeps_cache(model):
        kinds += sliding_cells_per_stream(model.shape, settings)
    return kinds * batch * (_F16 if settings.flash_attention else _F32)


def input_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """What main memory hands to GPUs that do all the work: masks and embeddings of a batch, each of them twice.

    From the account of a published run: 276.3 MiB for width 5,120, a batch of 512 and 131,072 cells.
    """
    return 2 * (mask_bytes(model, settings) + model.shape.embedding * batch_tokens(settings) * _F32)


def _score_bytes(model: Model, settings: EngineSettings, batch: Tokens) -> Bytes:
    """Attention without flash attention: the scores of every head against every cell, and what stands beside them."""
    shape = model.shape
    heads = max(shape.heads, default=0)
    query = heads * shape.key_length
    beside = 5 * shape.embedding + query * (2 if query > shape.embedding else 1)
    beside += 2 * max(shape.kv_heads, default=0) * shape.key_length
    scores = (_attended(model, settings) * heads + max(beside, _latent_width(shape))) * batch * _F32
    values = settings.context_tokens * shape.kv_lora_rank * _F16 if shape.mla_compressed else 0
    # Compressed values are copied out of the keys; a copy that fits where another layer's work was takes no room.
    return scores + (values if values > _latent_width(shape) * batch * _F32 else 0)


def draft_weights(model: Model) -> Bytes:
    """The blocks of a drafting head, which are loaded only if it is to guess."""
    return sum(tensor.bytes for tensor in model.tensors if drafts(model, tensor))


def drafts(model: Model, tensor: Tensor) -> bool:
    """Whether ``tensor`` belongs to a drafting head."""
    return tensor.block >= model.shape.layers


def draft_parts(model: Model, settings: EngineSettings) -> Mapping[str, Bytes]:
    """What guessing ahead takes: weights, a cache of its own, always f16, and buffers.

    A draft model has the context, the slots and the batches of the model it guesses for. The scratch memory of a
    drafting head is no more than that of the layers before it, whose size is taken.
    """
    own = replace(settings, kv_type_k="f16", kv_type_v="f16", draft_tokens=0)
    if draft := model.draft:
        return {
            "draft model": draft.weights_bytes - draft_weights(draft),
            "draft cache": cache_bytes(draft, own) + state_bytes(draft, own),
            "draft compute": compute_bytes(draft, own),
            "draft output": output_bytes(draft, own),
        }
    shape = model.shape
    cells = cells_per_stream(settings) * (1 if settings.kv_unified else settings.slots)
    cell = sum(
        row_bytes("f16", (shape.key_length + shape.value_length) * heads) for heads in shape.kv_heads[shape.layers :]
    )
    if shape.mla_compressed:
        cell = row_bytes("f16", shape.kv_lora_rank + shape.rope_dimensions) * shape.nextn_layers
    return {
        "draft head": draft_weights(model),
        "draft cache": cells * cell,
        "draft compute": compute_bytes(model, own),
        "draft output": output_bytes(model, own),
    }


def output_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """The buffer that logits of all slots, or embeddings of one batch, are handed out from."""
    if settings.embedding:
        return model.shape.embedding * settings.batch_tokens * _F32
    return model.shape.vocabulary * logit_rows(model, settings) * _F32


def logit_rows(model: Model, settings: EngineSettings) -> int:
    """Tokens that logits are made for at once: the last of each slot, in graphs of ONNX every token of a batch."""
    return batch_tokens(settings) if model.format is Format.ONNX else settings.slots
