"""The numbers that memory follows from, worked out of keys and tensors as llama.cpp b11549 does."""

from dataclasses import dataclass

from bercail.core.model import Recurrent, Shape
from bercail.readers.gguf import architectures
from bercail.readers.gguf.keys import Keys

_F32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """Heads and head widths of the file, before any layer is singled out."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key: int
    value: int


_WIDTHS = ("dense_3_feat_out", "dense_2_feat_out", "embedding_length_out", "embedding_length")
"""Keys of what an embedding has passed last, the last of them first."""


def shape(keys: Keys) -> tuple[Shape, tuple[str, ...]]:
    """The shape of a checked model, and words about what could not be worked out."""
    attention = _attention(keys)
    nextn = keys.count("nextn_predict_layers")
    sliding, window = _sliding(keys)
    state_layers, recurrent, notes = _recurrent(keys, attention, nextn)
    shared = _shared(keys)
    mla_key, mla_value = keys.count("attention.key_length_mla"), keys.count("attention.value_length_mla")
    return Shape(
        layers=keys.blocks - nextn,
        nextn_layers=nextn,
        embedding=keys.count("embedding_length"),
        feed_forward=_feed_forward(keys),
        heads=attention.heads,
        kv_heads=_cached_heads(keys, attention.kv_heads, state_layers, shared, nextn),
        key_length=attention.key,
        value_length=attention.value,
        key_length_swa=keys.count("attention.key_length_swa", attention.key),
        value_length_swa=keys.count("attention.value_length_swa", attention.value),
        sliding_window=window,
        swa_layers=sliding,
        shared_kv_layers=shared,
        kv_lora_rank=keys.count("attention.kv_lora_rank") if keys.architecture in architectures.MLA else 0,
        rope_dimensions=keys.count("rope.dimension_count", attention.key),
        mla_compressed=bool(mla_key and mla_value),
        key_length_mla=mla_key,
        vocabulary=_vocabulary(keys),
        vector=next(filter(None, map(keys.lenient_count, _WIDTHS)), 0),
        causal=keys.flag("attention.causal", default=keys.architecture not in architectures.ENCODERS),
        recurrent=recurrent,
        experts=keys.count("expert_count"),
        experts_used=max(keys.per_layer("expert_used_count")),
        expert_feed_forward=_expert_width(keys),
        shared_feed_forward=_shared_width(keys),
    ), notes


def described_only(keys: Keys, prefix: str = "") -> Shape:
    """A shape for files that cannot be served alone: projectors, adapters, drafts. Zero is what they do not say."""
    layers = keys.lenient_count(f"{prefix}block_count")
    heads = keys.lenient_count(f"{prefix}attention.head_count")
    wide = keys.lenient_count(f"{prefix}embedding_length")
    key = keys.lenient_count(f"{prefix}attention.key_length", wide // heads if heads else 0)
    layers = min(layers, 512)
    return Shape(
        layers=layers,
        embedding=wide,
        feed_forward=(keys.lenient_count(f"{prefix}feed_forward_length"),) * layers,
        heads=(heads,) * layers,
        kv_heads=(keys.lenient_count(f"{prefix}attention.head_count_kv", heads),) * layers,
        key_length=key,
        value_length=keys.lenient_count(f"{prefix}attention.value_length", key),
        key_length_swa=keys.lenient_count(f"{prefix}attention.key_length_swa", key),
        value_length_swa=keys.lenient_count(f"{prefix}attention.value_length_swa", key),
        vocabulary=_vocabulary(keys),
    )


def _attention(keys: Keys) -> _Attention:
    heads = keys.per_layer("attention.head_count")
    kv_heads = keys.per_layer("attention.head_count_kv") if keys.has("attention.head_count_kv") else heads
    if heads[0] == 0:
        return _Attention(heads=heads, kv_heads=kv_heads, key=0, value=0)
    share = keys.count("embedding_length") // heads[0]
    return _Attention(
        heads=heads,
        kv_heads=kv_heads,
        key=keys.count("attention.key_length", share),
        value=keys.count("attention.value_length", share),
    )


def _sliding(keys: Keys) -> tuple[tuple[bool, ...], int]:
    """Which layers slide, and over how many tokens; nothing and 0 if none does."""
    window = keys.count("attention.sliding_window")
    if keys.architecture in architectures.SHORT_CONVOLUTION and window:
        own = keys.per_layer("attention.head_count_kv")
        return tuple(bool(heads) for heads in own), window
    rule = architectures.SLIDING.get(keys.architecture)
    if keys.architecture == "exaone4" and keys.blocks == 64:
        # The engine lets only the 64-layer model of this family slide.
        rule = architectures.Sliding(period=4, window=4096)
    if rule is None:
        return (), 0
    if rule.window is not None and (not keys.has("attention.sliding_window") or (rule.forced and window)):
        window = rule.window
    if window == 0:
        return (), 0
    layers = _pattern(keys, rule)
    return (layers, window) if any(layers) else ((), 0)


def _pattern(keys: Keys, rule: architectures.Sliding) -> tuple[bool, ...]:
    key = "attention.sliding_window_pattern"
    given = keys.value(key)
    if isinstance(given, tuple):
        padded = [bool(entry) for entry in given[: keys.blocks]]
        return tuple(padded + [False] * (keys.blocks - len(padded)))
    period = keys.count(key, rule.period)
    trunk = keys.blocks - keys.count("nextn_predict_layers")
    full = 0 if rule.full_first else period - 1
    slides = (period == 0 or layer % period != full for layer in range(trunk))
    return tuple(slides) + (False,) * (keys.blocks - trunk)


def _shared(keys: Keys) -> int:
    begin = architectures.SHARED_CACHE_FROM.get(keys.architecture)
    if begin is not None:
        return max(0, keys.blocks - begin)
    return min(keys.count("attention.shared_kv_layers"), keys.blocks)


def _cached_heads(
    keys: Keys, kv_heads: tuple[int, ...], state_layers: tuple[bool, ...], shared: int, nextn: int
) -> tuple[int, ...]:
    """Key/value heads of the layers that keep a cache of their own."""
    end = keys.blocks - nextn
    keeps = [not state for state in state_layers] if state_layers else [True] * keys.blocks
    if keys.architecture == "falcon-h1":
        keeps = [True] * keys.blocks
    for layer in range(max(0, end - shared), end):
        keeps[layer] = False
    return tuple(heads if kept else 0 for heads, kept in zip(kv_heads, keeps, strict=True))


def _recurrent(
    keys: Keys, attention: _Attention, nextn: int
) -> tuple[tuple[bool, ...], Recurrent | None, tuple[str, ...]]:
    """Which layers hold a state instead of a cache, how large it is, and a word if that is unknown."""
    name = keys.architecture
    if name in architectures.RECURRENT_UNKNOWN:
        return (), None, (f"the plan does not know the recurrent state of {name}; it counts none",)
    layers = _state_layers(keys, attention, nextn)
    if not any(layers):
        return (), None, ()
    wide, heads = keys.count("embedding_length"), attention.heads[0]
    convolution = max(0, keys.count("ssm.conv_kernel") - 1)
    inner, state = keys.count("ssm.inner_size"), keys.count("ssm.state_size")
    if name in architectures.RWKV:
        conv, hold = keys.count("token_shift_count", 2) * wide, wide * keys.count("wkv.head_size")
    elif name in architectures.SHORT_CONVOLUTION:
        conv, hold = wide * max(0, keys.count("shortconv.l_cache") - 1), 0
    elif name in architectures.DELTA_ATTENTION:
        width = keys.count("kda.head_dim")
        conv, hold = 3 * convolution * heads * width, width * width * heads
    elif name in architectures.LIGHTNING:
        conv, hold = 0, attention.key * attention.key * heads
    else:
        channels = inner + 2 * keys.count("ssm.group_count") * state
        recurrent = Recurrent(
            conv_bytes=convolution * channels * _F32_BYTES,
            state_bytes=state * inner * _F32_BYTES,
            layers=layers,
            channels=channels,
            inner=inner,
            scan=name not in architectures.RECURRENT_BY_INTERVAL,
        )
        return layers, recurrent, ()
    return layers, Recurrent(conv_bytes=conv * _F32_BYTES, state_bytes=hold * _F32_BYTES, layers=layers), ()


def _state_layers(keys: Keys, attention: _Attention, nextn: int) -> tuple[bool, ...]:
    name, trunk = keys.architecture, keys.blocks - nextn
    rest = (False,) * nextn
    if name in architectures.RECURRENT_EVERYWHERE:
        return (True,) * trunk + rest
    interval = architectures.RECURRENT_BY_INTERVAL.get(name)
    if interval is not None:
        if keys.has("attention.recurrent_layers"):
            return tuple(bool(flag) for flag in keys.per_layer("attention.recurrent_layers"))
        interval = keys.count("full_attention_interval", interval) or trunk + 1
        return tuple((layer + 1) % interval != 0 for layer in range(trunk)) + rest
    families = architectures.STATE_SPACE | architectures.SHORT_CONVOLUTION | architectures.DELTA_ATTENTION
    if name not in families:
        return ()
    without_cache = [heads == 0 for heads in attention.kv_heads[:trunk]]
    if name.startswith("nemotron_h"):
        inner = keys.per_layer("feed_forward_length")
        without_cache = [bare and not inner[layer] for layer, bare in enumerate(without_cache)]
    return tuple(without_cache) + rest


def _feed_forward(keys: Keys) -> tuple[int, ...]:
    """Width of the dense network per layer, 0 where its tensors are absent."""
    widths = keys.per_layer("feed_forward_length")
    if not keys.count("expert_count"):
        return widths
    dense = (f"blk.{layer}.ffn_down.weight" in keys.tensors for layer in range(keys.blocks))
    return tuple(width if there else 0 for width, there in zip(widths, dense, strict=True))


def _expert_width(keys: Keys) -> int:
    """The key says it, or the first expert tensor shows it: rows of ``ffn_down_exps``."""
    if not keys.count("expert_count"):
        return 0
    if keys.has("expert_feed_forward_length"):
        return max(keys.per_layer("expert_feed_forward_length"))
    shown = (tensor.shape[0] for name, tensor in keys.tensors.items() if name.endswith("ffn_down_exps.weight"))
    return next(shown, 0)


def _shared_width(keys: Keys) -> int:
    shown = (tensor.shape[0] for name, tensor in keys.tensors.items() if name.endswith("ffn_down_shexp.weight"))
    return next(shown, 0)


def _vocabulary(keys: Keys) -> int:
    embedding = keys.tensors.get("token_embd.weight")
    return embedding.shape[1] if embedding is not None and len(embedding.shape) > 1 else 0
