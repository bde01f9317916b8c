"""What a model takes in memory under given settings, part by part.

The formulas follow the allocations of llama.cpp b11549 on the CPU (``llama-kv-cache.cpp``, ``llama-kv-cache-iswa.cpp``,
``llama-memory-recurrent.cpp``, ``llama_context::sched_reserve``); those of the caches are exact, that of the compute
buffer was fitted to measurements and is exact to 0.1 % for dense models.
"""

from bercail.core.engine import EngineSettings
from bercail.core.model import Model, Role, Shape
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.units import MIB, Bytes, Tokens

CELL_STEP: Tokens = 256
"""llama.cpp rounds the cells of a cache up to a multiple of this."""

ENGINE_BASE_BYTES: Bytes = 96 * MIB
"""The engine's process without a model: library, server, thread stacks and allocator."""

_F32: Bytes = 4
_F16: Bytes = 2


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


def cache_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """The KV cache over all layers and slots; 0 for models that keep none."""
    if not keeps_cache(model):
        return 0
    shape = model.shape
    streams = 1 if settings.kv_unified else settings.slots
    full = cells_per_stream(settings) * streams
    sliding = sliding_cells_per_stream(shape, settings) * streams
    total = 0
    for layer in range(shape.layers - shape.shared_kv_layers):
        slides = bool(shape.swa_layers) and shape.swa_layers[layer]
        total += (sliding if slides else full) * _cell_bytes(shape, settings, layer, slides=slides)
    return total


def keeps_cache(model: Model) -> bool:
    """Whether generation state is kept between tokens: encoders read the whole text at once and keep nothing."""
    return model.shape.causal or model.role is Role.GENERATE


def _cell_bytes(shape: Shape, settings: EngineSettings, layer: int, *, slides: bool) -> Bytes:
    heads = shape.kv_heads[layer]
    if heads == 0:
        return 0
    if shape.mla_compressed:
        return row_bytes(settings.kv_type_k, shape.kv_lora_rank + shape.rope_dimensions)
    key, value = (shape.key_length_swa, shape.value_length_swa) if slides else (shape.key_length, shape.value_length)
    return row_bytes(settings.kv_type_k, key * heads) + row_bytes(settings.kv_type_v, value * heads)


def state_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Recurrent state of all slots, always f32 and independent of the context."""
    recurrent = model.shape.recurrent
    if recurrent is None:
        return 0
    layers = sum(recurrent.layers[: model.shape.layers])
    return layers * (recurrent.conv_bytes + recurrent.state_bytes) * settings.slots


def checkpoint_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """One saved state of one slot: its sliding-window cells or its recurrent state; 0 where the cache can be cut."""
    shape = model.shape
    if not keeps_cache(model):
        return 0
    if shape.recurrent is not None:
        return state_bytes(model, settings) // settings.slots
    cells = min(sliding_cells_per_stream(shape, settings), pad(shape.sliding_window + 1, CELL_STEP))
    return sum(
        cells * _cell_bytes(shape, settings, layer, slides=True)
        for layer in range(shape.layers - shape.shared_kv_layers)
        if shape.swa_layers and shape.swa_layers[layer]
    )


def compute_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Scratch memory of one physical batch at full context."""
    shape = model.shape
    batch = min(settings.ubatch_tokens, settings.context_tokens)
    width = _feed_forward_bytes(shape, batch) + 5 * shape.embedding * batch * _F32
    if shape.mla_compressed:
        width += max(shape.heads) * (2 * shape.kv_lora_rank + shape.rope_dimensions) * batch * _F32
    if shape.recurrent is not None:
        width = width * 135 // 100
    return width + _mask_bytes(model, settings, batch) + _score_bytes(model, settings, batch)


def _feed_forward_bytes(shape: Shape, batch: Tokens) -> Bytes:
    dense = 3 * max(shape.feed_forward, default=0) * batch * _F32
    if not shape.experts_used:
        return dense
    routed = max(3 * shape.expert_feed_forward, 2.13 * shape.embedding) * shape.experts_used
    return max(dense, int((routed + 3 * shape.shared_feed_forward) * batch * _F32))


def _attended(model: Model, settings: EngineSettings) -> Tokens:
    """Keys that one batch may attend to."""
    return cells_per_stream(settings) if keeps_cache(model) else min(settings.ubatch_tokens, settings.context_tokens)


def _mask_bytes(model: Model, settings: EngineSettings, batch: Tokens) -> Bytes:
    kinds = _attended(model, settings)
    if any(model.shape.swa_layers) and keeps_cache(model):
        kinds += sliding_cells_per_stream(model.shape, settings)
    return kinds * batch * (_F16 if settings.flash_attention else _F32)


def _score_bytes(model: Model, settings: EngineSettings, batch: Tokens) -> Bytes:
    if settings.flash_attention:
        return 0
    return _attended(model, settings) * batch * max(model.shape.heads, default=0) * _F32


def output_bytes(model: Model, settings: EngineSettings) -> Bytes:
    """Logits of all slots, or the embeddings of one batch, in the graph and in the buffer they are handed out from."""
    if settings.embedding:
        return 2 * model.shape.embedding * settings.batch_tokens * _F32
    return 2 * model.shape.vocabulary * settings.slots * _F32
