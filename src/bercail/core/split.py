"""Where a model lies when GPUs share it: whole layers, or a slice of every layer on each.

The rules are those of llama.cpp b11549 (``llama_model::load_tensors`` for layers,
``llama_meta_device_get_split_state`` for slices): which tensors are cut, along heads or columns, in which steps, and
how the remainders rotate from layer to layer so that no device gets all of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import lcm

from bercail.core import memory
from bercail.core.engine import EngineSettings
from bercail.core.model import Model, Recurrent, Tensor
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.units import Bytes

_STEP = 128
"""Slices are whole multiples of so many columns, for the kernels' sake."""
_F32: Bytes = 4

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_INPUT = re.compile(r"(token_embd|per_layer_token_embd|position_embd|token_types|token_embd_norm)\.")
_ROUTED = re.compile(r"ffn_(gate|up|down|gate_up)_exps\.")
_HEADS = re.compile(r"attn_(q|k|v|qkv|gate|output)\.weight|attn_(q|k|v|qkv)\.bias|attn_sinks\.weight")
_STATE = re.compile(r"attn_(qkv|gate)\.weight|ssm_(dt\.bias|a|(alpha|beta|ba|conv1d|out)\.weight)")
_COLUMNS = re.compile(r"ffn_(gate|up|gate_up|down)(_exps)?\.(weight|bias)")

REFUSING = frozenset({
    "grok", "mpt", "plamo2", "minicpm3", "gemma3n", "mamba", "mamba2", "jamba", "falcon-h1", "olmo2", "olmoe",
    "deepseek2", "deepseek32", "hy-v4", "dots3-note", "glm-dsa", "bitnet", "t5", "nemotron_h", "nemotron_h_moe",
    "granitehybrid", "minimax-01", "minimax-m2", "minimax-m3", "mistral4", "kimi-linear", "bailingmoe3", "kimi-k3",
    "glm5-next", "qwen3tts",
})  # fmt: skip
"""Architectures that the engine does not cut into slices."""


class Split(StrEnum):
    """How GPUs share a model."""

    NONE = "none"
    LAYER = "layer"
    TENSOR = "tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How one layer is cut: units of each device, all 0 where it is not.

    Attributes:
        heads: key/value heads with their queries.
        state: heads of a recurrent layer.
        step: columns of the feed-forward network are cut in multiples of this.
        turn: the device that the cutting begins with.
    """

    heads: tuple[int, ...]
    state: tuple[int, ...]
    step: int
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights of a model by where they may lie.

    Attributes:
        input: embeddings that are looked up; always in main memory.
        blocks: of each layer, without routed experts.
        experts: routed experts of each layer.
        output: what makes logits of the last state; the embedding once more, if it is tied to it.
        slices: of each GPU, if every layer is cut; empty for one GPU.
        cuts: how each layer is cut then.
    """

    input: Bytes
    blocks: tuple[Bytes, ...]
    experts: tuple[Bytes, ...]
    output: Bytes
    slices: tuple[Bytes, ...] = ()
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one device holds of a model, beside its working memory."""

    weights: Bytes
    cache: Bytes
    state: Bytes


def weigh(model: Model, gpus: int) -> Weights:
    """The weights of ``model`` for a machine of so many GPUs; blocks of a drafting head are not loaded."""
    layers = model.shape.layers
    blocks, experts, looked_up, output = [0] * layers, [0] * layers, 0, 0
    if model.stored is not None:
        looked_up = int(min(1.0, _embedded(model) / max(model.stored.weights, 1)) * model.stored.bytes)
        output = model.stored.bytes - looked_up
    for tensor in model.tensors:
        if match := _BLOCK.match(tensor.name):
            if int(match[1]) < layers:
                (experts if _ROUTED.match(match[2]) else blocks)[int(match[1])] += tensor.bytes
        elif _INPUT.match(tensor.name):
            looked_up += tensor.bytes
        else:
            output += tensor.bytes
    tensors = {tensor.name: tensor for tensor in model.tensors}
    cuts = [_cut_of(model, tensors, layer, gpus) for layer in range(layers)] if gpus > 1 else []
    return Weights(
        input=looked_up,
        blocks=tuple(blocks),
        experts=tuple(experts),
        output=output + _tied_bytes(model),
        slices=_slices(model, cuts) if cuts else (),
        cuts=tuple(cuts),
    )


def _embedded(model: Model) -> int:
    """Weights of the token embedding."""
    return model.shape.vocabulary * model.shape.embedding


def _tied_bytes(model: Model) -> Bytes:
    """The embedding where it makes the logits too, and a GPU gets a copy of it."""
    if any(tensor.name == "output.weight" for tensor in model.tensors):
        return 0
    return sum(tensor.bytes for tensor in model.tensors if tensor.name == "token_embd.weight")


def held(model: Model, settings: EngineSettings, weights: Weights) -> tuple[Held, ...]:
    """What main memory and then each GPU holds under ``settings``."""
    caches, states = memory.layer_cache_bytes(model, settings), memory.layer_state_bytes(model, settings)
    if settings.split_mode == Split.TENSOR:
        host = Held(weights=weights.input, cache=0, state=0)
        return (host, *_sliced(weights, caches, states))
    ends = [len(caches) - sum(settings.layer_split)]
    for count in settings.layer_split:
        ends.append(ends[-1] + count)
    rows = []
    for device, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        kept = sum(weights.blocks[begin:end])
        moved = weights.experts[begin:end]
        kept += sum(moved) if device == 0 else sum(moved[max(0, settings.cpu_experts - begin) :])
        rows.append(Held(weights=kept, cache=sum(caches[begin:end]), state=sum(states[begin:end])))
    return tuple(_with_ends(rows, settings, weights))


def _with_ends(rows: Sequence[Held], settings: EngineSettings, weights: Weights) -> list[Held]:
    """``rows`` with what lies outside the layers: the input in main memory, the output where the last layer is."""
    last = max(index for index, count in enumerate(settings.layer_split) if count) + 1
    first = len(weights.experts) - sum(settings.layer_split)
    more = {0: weights.input + sum(weights.experts[first : settings.cpu_experts]), last: weights.output}
    return [
        Held(weights=row.weights + more.get(device, 0), cache=row.cache, state=row.state)
        for device, row in enumerate(rows)
    ]


def _sliced(weights: Weights, caches: Sequence[Bytes], states: Sequence[Bytes]) -> list[Held]:
    gpus = len(weights.slices)
    cache, state = [0] * gpus, [0] * gpus
    for kept, summary, how in zip(caches, states, weights.cuts, strict=True):
        for device in range(gpus):
            cache[device] += _part(kept, how.heads, device)
            state[device] += _part(summary, how.state, device)
    return [
        Held(weights=size, cache=kept, state=summary)
        for size, kept, summary in zip(weights.slices, cache, state, strict=True)
    ]


def _part(size: Bytes, share: Sequence[int], device: int) -> Bytes:
    """Of ``size`` what ``device`` gets; everything, where nothing is cut."""
    whole = sum(share)
    return -(-size * share[device] // whole) if whole else size


def cut(whole: int, step: int, gpus: int, turn: int) -> tuple[int, ...]:
    """``whole`` units in ``gpus`` slices of multiples of ``step``; the remainder goes to the last after ``turn``."""
    found = [0] * gpus
    low = 0
    for index in range(gpus):
        high = whole * (index + 1) // gpus // step * step if index < gpus - 1 else whole
        found[(index + turn) % gpus] = high - low
        low = high
    return tuple(found)


def _block_weights(tensors: Mapping[str, Tensor], layer: int, *names: str) -> int:
    """Weights in a block of the first of the tensors ``names`` that the layer has."""
    found = (tensors.get(f"blk.{layer}.{name}.weight") for name in names)
    return next((tensor.type.block_weights for tensor in found if tensor), 1)


def _cut_of(model: Model, tensors: Mapping[str, Tensor], layer: int, gpus: int) -> Cut:
    shape = model.shape
    turn = _turn(model, layer) % gpus
    nothing = (0,) * gpus
    recurrent = shape.recurrent if shape.recurrent and shape.recurrent.layers[layer] else None
    heads = shape.kv_heads[layer]
    slides = bool(shape.swa_layers) and shape.swa_layers[layer]
    width = shape.key_length_swa if slides else shape.key_length
    group = shape.heads[layer] // heads * width if heads else 0
    columns = lcm(_block_weights(tensors, layer, "ffn_down", "ffn_down_exps"), _STEP)
    out = _block_weights(tensors, layer, "attn_output", "ssm_out")
    return Cut(
        heads=cut(heads, _head_step(out, group, gpus), gpus, turn) if group and recurrent is None else nothing,
        state=_state_cut(recurrent, out, gpus, turn) if recurrent else nothing,
        step=columns,
        turn=turn,
    )


def _turn(model: Model, layer: int) -> int:
    """How many layers of the same kind come before."""
    shape = model.shape

    def kind(index: int) -> tuple[bool, bool]:
        recurrent = shape.recurrent is not None and shape.recurrent.layers[index]
        return recurrent, bool(shape.swa_layers) and shape.swa_layers[index]

    return sum(kind(index) == kind(layer) for index in range(layer))


def _head_step(block: int, group: int, gpus: int) -> int:
    """Heads that must stay together: as many as fill whole blocks of the output projection."""
    while block < _STEP and block * gpus < group:
        block *= 2
    return lcm(group, block) // group


def _state_cut(recurrent: Recurrent, block: int, gpus: int, turn: int) -> tuple[int, ...]:
    """Key heads of a delta-rule layer; nothing is cut where their width is not known."""
    width = recurrent.state_bytes // (_F32 * recurrent.inner) if recurrent.inner else 0
    if not width or not recurrent.channels:
        return (0,) * gpus
    keys = max(0, recurrent.channels - recurrent.inner) // (2 * width)
    return cut(keys, lcm(block, _STEP, width) // width, gpus, turn)


def _slices(model: Model, cuts: Sequence[Cut]) -> tuple[Bytes, ...]:
    """Weights on each GPU if every layer is cut; what cannot be cut lies on all of them."""
    layers, gpus = len(cuts), len(cuts[0].heads)
    found = [_tied_bytes(model)] * gpus
    for tensor in model.tensors:
        match = _BLOCK.match(tensor.name)
        if (match and int(match[1]) >= layers) or _INPUT.match(tensor.name):
            continue
        share = _share(model, tensor, match[2], cuts[int(match[1])]) if match else ()
        if tensor.name in ("output.weight", "output.bias"):
            share = cut(tensor.shape[-1], 1, gpus, layers % gpus)
        for device in range(gpus):
            found[device] += _part(tensor.bytes, share or (0,) * gpus, device)
    return tuple(found)


def _share(model: Model, tensor: Tensor, name: str, how: Cut) -> tuple[int, ...]:
    """Units of each device of a tensor ``name`` of a layer; empty if it is not cut."""
    if any(how.state) and _STATE.fullmatch(name):
        return how.state
    if any(how.heads) and _HEADS.fullmatch(name):
        return how.heads
    if not _COLUMNS.fullmatch(name) or (name.endswith("bias") and "down" in name):
        return ()
    columns = tensor.shape[0] if "down" in name or len(tensor.shape) == 1 else tensor.shape[1]
    fused = 2 if "gate_up" in name or columns == 2 * max(model.shape.feed_forward, default=0) else 1
    return cut(columns // fused, how.step, len(how.state), how.turn)


def share_out(sizes: Sequence[Bytes], last: Bytes, rooms: Sequence[Bytes]) -> tuple[int, ...]:
    """How many layers each device gets, in order, so that the fullest is as empty as can be.

    Args:
        sizes: of the layers.
        last: what the device with the last layer holds besides.
        rooms: what each device can take.
    """
    low, high = 0.0, 1.0 + (sum(sizes) + last) / max(1, min(rooms))
    best = _greedy(sizes, last, [room * high for room in rooms])
    for _ in range(30):
        middle = (low + high) / 2
        found = _greedy(sizes, last, [room * middle for room in rooms])
        if sum(found) == len(sizes):
            high, best = middle, found
        else:
            low = middle
    return best


def _greedy(sizes: Sequence[Bytes], last: Bytes, rooms: Sequence[float]) -> tuple[int, ...]:
    """Layers taken in order while they fit; fewer than all, if they do not."""
    counts, at = [], 0
    for room in rooms:
        taken, begin = 0, at
        while at < len(sizes) and taken + sizes[at] + (last if at == len(sizes) - 1 else 0) <= room:
            taken += sizes[at]
            at += 1
        counts.append(at - begin)
    return tuple(counts)


def unpacked_bytes(model: Model, settings: EngineSettings, share: float) -> Bytes:
    """Room for one layer's quantized keys and values at f16, which most GPU kernels ask for; an estimate.

    Args:
        model: whose cache it is.
        settings: its types and cells.
        share: of the heads that lie on the device.
    """
    kinds = (TENSOR_TYPES_BY_NAME[kind] for kind in (settings.kv_type_k, settings.kv_type_v))
    if not settings.flash_attention or all(kind.block_weights == 1 for kind in kinds):
        return 0
    plain = replace(settings, kv_type_k="f16", kv_type_v="f16")
    streams = 1 if settings.kv_unified else settings.slots
    return int(max(memory.layer_cache_bytes(model, plain), default=0) / streams * share)
