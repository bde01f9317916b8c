"""Headers of published models in their true shapes: metadata and tensors for `write_gguf`, without weights.

Tensor lists follow the loaders of llama.cpp b11549 and published files; their counts are tested against published ones.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tools.synth.write import TensorSpec, Value


class Known(NamedTuple):
    """What ``write_gguf`` takes."""

    metadata: dict[str, Value]
    tensors: list[TensorSpec]


def metadata_of(arch: str, **keys: Value) -> dict[str, Value]:
    """The keys of an architecture, ``__`` standing for a dot, with a tokenizer that needs no tokens."""
    values: dict[str, Value] = {"general.architecture": arch, "tokenizer.ggml.model": "no_vocab"}
    values.update({f"{arch}.{name.replace('__', '.')}": value for name, value in keys.items()})
    return values


def tiny(**changes: Any) -> Known:
    """A llama of 2 blocks, 64 wide, 8 heads on 4, 32 tokens with a real tokenizer; ``changes`` replace keys."""
    known = _llama({"arch": "llama", "layers": 2, "width": 64, "hidden": 96, "head": 8, "kv": 4, "hd": 8, "vocab": 32,
                    "ctx": 512, "tied": True, "freq_base": 1e4, "eps": 1e-5})  # fmt: skip
    del known.metadata["llama.vocab_size"]
    known.metadata.update(vocabulary(32))
    known.metadata.update(changes)
    return known


def husk(layers: int, kv: int, hd: int, vocab: int) -> Known:
    """A llama whose cache has the shape of a large model's and whose weights are next to nothing: fills slots fast."""
    return _llama({"arch": "llama", "layers": layers, "width": 256, "hidden": 256, "head": kv, "kv": kv, "hd": hd,
                   "vocab": vocab, "ctx": 131072, "tied": True, "freq_base": 1e4, "eps": 1e-5})  # fmt: skip


def vocabulary(count: int) -> dict[str, Value]:
    """A sentencepiece tokenizer of so many different tokens."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [f"t{number}" for number in range(count)],
        "tokenizer.ggml.scores": [0.0] * count,
        "tokenizer.ggml.token_type": [1] * count,
    }


def speakable(count: int) -> dict[str, Value]:
    """A byte-level BPE tokenizer of `count` tokens that can write any text: two marks, the bytes, made-up words.

    One merge is there because readers want some; OpenVINO's takes no SentencePiece vocabulary from a GGUF file.
    """
    tokens = ["<|end|>", "<|begin|>", *(_letter(byte) for byte in range(256)), "er"]
    tokens += [f"\u0120w{number}" for number in range(count - len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens[:count],
        "tokenizer.ggml.token_type": [3, 3, *[1] * (count - 2)],
        "tokenizer.ggml.merges": ["e r"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
    }


def _letter(byte: int) -> str:
    """What stands for a byte: itself where it prints, else the next free letter from 256 on, as GPT-2 has it."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in printed else chr(256 + sum(other not in printed for other in range(byte)))


def read_table() -> Mapping[str, dict[str, Any]]:
    """The published models by name: `table.yaml`."""
    told: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("table.yaml").read_text(encoding="utf-8"))
    return told


def known(shape: dict[str, Any]) -> Known:
    """Header of one entry of the table of shapes; its tensors are f16, or f32 where no quantization applies."""
    return _BUILDS[shape["build"]](shape)


def _norm(name: str, width: int) -> TensorSpec:
    return TensorSpec(f"{name}.weight", (width,), "f32")


def _weight(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(f"{name}.weight", shape, "f16")


def _bias(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(f"{name}.bias", shape, "f32")


def _base(s: dict[str, Any], **more: Value) -> dict[str, Value]:
    values = metadata_of(
        s["arch"], block_count=s["layers"], context_length=s["ctx"], embedding_length=s["width"],
        attention__head_count=s["head"], vocab_size=s["vocab"], attention__layer_norm_rms_epsilon=float(s["eps"]),
        **more,
    )  # fmt: skip
    if "freq_base" in s:
        values[f"{s['arch']}.rope.freq_base"] = float(s["freq_base"])
    return values


def _globals(s: dict[str, Any]) -> Iterator[TensorSpec]:
    yield _weight("token_embd", s["width"], s["vocab"])
    yield _norm("output_norm", s["width"])
    if not s.get("tied"):
        yield _weight("output", s["width"], s["vocab"])
    if "rope_freqs" in s:
        yield _norm("rope_freqs", s["rope_freqs"])


def _attention(b: str, e: int, q: int, k: int, out: int, v: int | None = None) -> Iterator[TensorSpec]:
    yield _weight(f"{b}.attn_q", e, q)
    yield _weight(f"{b}.attn_k", e, k)
    yield _weight(f"{b}.attn_v", e, k if v is None else v)
    yield _weight(f"{b}.attn_output", out, e)


def _dense(b: str, e: int, f: int) -> Iterator[TensorSpec]:
    yield _weight(f"{b}.ffn_gate", e, f)
    yield _weight(f"{b}.ffn_up", e, f)
    yield _weight(f"{b}.ffn_down", f, e)


def _experts(b: str, e: int, s: dict[str, Any]) -> Iterator[TensorSpec]:
    x, f = s["experts"], s["ff_exp"]
    yield TensorSpec(f"{b}.ffn_gate_inp.weight", (e, x), "f32")
    yield _weight(f"{b}.ffn_gate_exps", e, f, x)
    yield _weight(f"{b}.ffn_up_exps", e, f, x)
    yield _weight(f"{b}.ffn_down_exps", f, e, x)


def _shared(b: str, e: int, f: int) -> Iterator[TensorSpec]:
    yield _weight(f"{b}.ffn_gate_shexp", e, f)
    yield _weight(f"{b}.ffn_up_shexp", e, f)
    yield _weight(f"{b}.ffn_down_shexp", f, e)


def _expert_keys(s: dict[str, Any]) -> dict[str, Value]:
    if "experts" not in s:
        return {}
    keys: dict[str, Value] = {"expert_count": s["experts"], "expert_used_count": s["used"]}
    keys["expert_feed_forward_length"] = s["ff_exp"]
    if "ff_shexp" in s:
        keys["expert_shared_feed_forward_length"] = s["ff_shexp"]
    return keys


def _llama(s: dict[str, Any]) -> Known:
    e, h, k, d = s["width"], s["head"], s["kv"], s["hd"]
    metadata = _base(s, attention__head_count_kv=k, attention__key_length=d, attention__value_length=d,
                     feed_forward_length=s["hidden"], rope__dimension_count=d, **_expert_keys(s))  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), *_attention(b, e, h * d, k * d, h * d), _norm(f"{b}.ffn_norm", e)]
        if s.get("qk_norm"):
            tensors += [_norm(f"{b}.attn_q_norm", d), _norm(f"{b}.attn_k_norm", d)]
        if s.get("qkv_bias"):
            tensors += [_bias(f"{b}.attn_q", h * d), _bias(f"{b}.attn_k", k * d), _bias(f"{b}.attn_v", k * d)]
        tensors += list(_experts(b, e, s) if "experts" in s else _dense(b, e, s["hidden"]))
    return Known(metadata, tensors)


def _phi3(s: dict[str, Any]) -> Known:
    e, h, k, d, f = s["width"], s["head"], s["kv"], s["hd"], s["hidden"]
    metadata = _base(s, attention__head_count_kv=k, feed_forward_length=f, rope__dimension_count=d,
                     attention__sliding_window=0)  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), _weight(f"{b}.attn_qkv", e, (h + 2 * k) * d)]
        tensors += [_weight(f"{b}.attn_output", h * d, e), _norm(f"{b}.ffn_norm", e)]
        tensors += [_weight(f"{b}.ffn_up", e, 2 * f), _weight(f"{b}.ffn_down", f, e)]
    return Known(metadata, tensors)


def _gemma3(s: dict[str, Any]) -> Known:
    plain = _llama({**s, "qk_norm": True})
    e = s["width"]
    extra = [_norm(f"blk.{i}.{n}", e) for i in range(s["layers"]) for n in ("post_attention_norm", "post_ffw_norm")]
    plain.metadata["gemma3.attention.sliding_window"] = s["sliding_window"]
    return Known(plain.metadata, plain.tensors + extra)


def _gdn(s: dict[str, Any]) -> Known:
    e, h, k, d, blocks, nextn = s["width"], s["head"], s["kv"], s["hd"], s["layers"], s.get("nextn", 0)
    more: dict[str, Value] = {f"ssm__{name}": s[short] for name, short in (
        ("conv_kernel", "conv"), ("state_size", "state"), ("group_count", "group"), ("time_step_rank", "dt"),
        ("inner_size", "inner"))}  # fmt: skip
    if "hidden" in s:
        more["feed_forward_length"] = s["hidden"]
    if nextn:
        more["nextn_predict_layers"] = nextn
    if "sections" in s:
        more["rope__dimension_sections"] = s["sections"]
    metadata = _base({**s, "layers": blocks + nextn}, attention__head_count_kv=k, attention__key_length=d,
                     attention__value_length=d, rope__dimension_count=s["rope"], full_attention_interval=s["interval"],
                     **more, **_expert_keys(s))  # fmt: skip
    tensors = list(_globals(s))
    for i in range(blocks + nextn):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), _norm(f"{b}.post_attention_norm", e)]
        full = i >= blocks or (i + 1) % s["interval"] == 0
        tensors += list(_attention(b, e, 2 * h * d, k * d, h * d)) if full else list(_delta(b, s))
        tensors += [_norm(f"{b}.attn_q_norm", d), _norm(f"{b}.attn_k_norm", d)] if full else []
        if "experts" in s:
            tensors += [*_experts(b, e, s), _norm(f"{b}.ffn_gate_inp_shexp", e), *_shared(b, e, s["ff_shexp"])]
        else:
            tensors += list(_dense(b, e, s["hidden"]))
        if i >= blocks:
            tensors += [_weight(f"{b}.nextn.eh_proj", 2 * e, e)]
            tensors += [_norm(f"{b}.nextn.{n}", e) for n in ("enorm", "hnorm", "shared_head_norm")]
    return Known(metadata, tensors)


def _delta(b: str, s: dict[str, Any]) -> Iterator[TensorSpec]:
    e, value, dt = s["width"], s["inner"], s["dt"]
    conv = 2 * s["state"] * s["group"] + value
    yield _weight(f"{b}.attn_qkv", e, conv)
    yield _weight(f"{b}.attn_gate", e, value)
    yield TensorSpec(f"{b}.ssm_conv1d.weight", (s["conv"], conv), "f32")
    yield _bias(f"{b}.ssm_dt", dt)
    yield TensorSpec(f"{b}.ssm_a", (dt,), "f32")
    if s.get("ssm_ba"):
        yield _weight(f"{b}.ssm_ba", e, 2 * dt)
    else:
        yield _weight(f"{b}.ssm_alpha", e, dt)
        yield _weight(f"{b}.ssm_beta", e, dt)
    yield _norm(f"{b}.ssm_norm", s["state"])
    yield _weight(f"{b}.ssm_out", value, e)


def _gemma4(s: dict[str, Any]) -> Known:
    e, h, f, period, blocks = s["width"], s["head"], s["hidden"], s["swa_period"], s["layers"]
    slides = [(i + 1) % period != 0 for i in range(blocks)]
    metadata = _base(
        s, attention__head_count_kv=[s["kv_swa"] if slide else s["kv_full"] for slide in slides],
        attention__key_length=s["hd"], attention__value_length=s["hd"], attention__key_length_swa=s["hd_swa"],
        attention__value_length_swa=s["hd_swa"], attention__sliding_window=s["sliding_window"],
        attention__sliding_window_pattern=slides, attention__shared_kv_layers=s["shared_kv"], feed_forward_length=f,
        embedding_length_per_layer_input=0, rope__dimension_count=s["hd"], rope__dimension_count_swa=s["hd_swa"],
        **_expert_keys(s),
    )  # fmt: skip
    tensors = [*_globals(s), _norm("rope_freqs", s["hd"] // 2)]
    for i, slide in enumerate(slides):
        b, d, k = f"blk.{i}", s["hd_swa"] if slide else s["hd"], s["kv_swa"] if slide else s["kv_full"]
        attention = list(_attention(b, e, h * d, k * d, h * d))
        tensors += attention if slide else [spec for spec in attention if "attn_v" not in spec.name]
        tensors += [_norm(f"{b}.attn_q_norm", d), _norm(f"{b}.attn_k_norm", d), _norm(f"{b}.layer_output_scale", 1)]
        tensors += [_norm(f"{b}.{n}", e) for n in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")]
        tensors += list(_dense(b, e, f))
        if "experts" in s:
            x, fe = s["experts"], s["ff_exp"]
            tensors += [_norm(f"{b}.{n}", e) for n in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")]
            tensors += [TensorSpec(f"{b}.ffn_gate_inp.weight", (e, x), "f32")]
            tensors += [
                TensorSpec(f"{b}.ffn_gate_inp.scale", (e,), "f32"),
                TensorSpec(f"{b}.ffn_down_exps.scale", (x,), "f32"),
            ]
            tensors += [_weight(f"{b}.ffn_gate_up_exps", e, 2 * fe, x), _weight(f"{b}.ffn_down_exps", fe, e, x)]
    return Known(metadata, tensors)


def _gpt_oss(s: dict[str, Any]) -> Known:
    e, h, k, d, x, f = s["width"], s["head"], s["kv"], s["hd"], s["experts"], s["ff_exp"]
    metadata = _base(s, attention__head_count_kv=k, attention__key_length=d, attention__value_length=d,
                     feed_forward_length=s["hidden"], attention__sliding_window=s["sliding_window"],
                     rope__scaling__type="yarn", rope__scaling__factor=32.0, **_expert_keys(s))  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), _norm(f"{b}.post_attention_norm", e)]
        tensors += [*_attention(b, e, h * d, k * d, h * d), _norm(f"{b}.attn_sinks", h)]
        tensors += [_bias(f"{b}.attn_q", h * d), _bias(f"{b}.attn_k", k * d), _bias(f"{b}.attn_v", k * d)]
        tensors += [_bias(f"{b}.attn_output", e), *_experts(b, e, s), _bias(f"{b}.ffn_gate_inp", x)]
        tensors += [
            _bias(f"{b}.ffn_gate_exps", f, x),
            _bias(f"{b}.ffn_up_exps", f, x),
            _bias(f"{b}.ffn_down_exps", e, x),
        ]
    return Known(metadata, tensors)


def _mla(s: dict[str, Any]) -> Known:
    e, h, q, kv, rope = s["width"], s["head"], s["q_lora"], s["kv_lora"], s["rope"]
    key, value = s["key_mla"], s["value_mla"]
    metadata = _base(
        s, attention__head_count_kv=s["kv"], attention__key_length=s["key"], attention__value_length=s["value"],
        attention__key_length_mla=key, attention__value_length_mla=value, attention__q_lora_rank=q,
        attention__kv_lora_rank=kv, rope__dimension_count=rope, feed_forward_length=s["hidden"],
        leading_dense_block_count=s["dense"], expert_shared_count=s["shared"], **_expert_keys(s),
    )  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), _norm(f"{b}.ffn_norm", e), _weight(f"{b}.attn_q_a", e, q)]
        tensors += [_norm(f"{b}.attn_q_a_norm", q), _weight(f"{b}.attn_q_b", q, h * key)]
        tensors += [_weight(f"{b}.attn_kv_a_mqa", e, kv + rope), _norm(f"{b}.attn_kv_a_norm", kv)]
        tensors += [_weight(f"{b}.attn_k_b", key - rope, kv, h), _weight(f"{b}.attn_v_b", kv, value, h)]
        tensors += [_weight(f"{b}.attn_output", h * value, e)]
        tensors += list(_dense(b, e, s["hidden"])) if i < s["dense"] else _sparse(b, e, s)
    return Known(metadata, tensors)


def _sparse(b: str, e: int, s: dict[str, Any]) -> list[TensorSpec]:
    return [*_experts(b, e, s), _bias(f"{b}.exp_probs_b", s["experts"]), *_shared(b, e, s["ff_exp"] * s["shared"])]


def _glm4moe(s: dict[str, Any]) -> Known:
    e, h, k, d, nextn = s["width"], s["head"], s["kv"], s["hd"], s["nextn"]
    metadata = _base(
        s, attention__head_count_kv=k, attention__key_length=d, attention__value_length=d,
        feed_forward_length=s["hidden"], rope__dimension_count=s["rope"], leading_dense_block_count=s["dense"],
        expert_shared_count=s["shared"], nextn_predict_layers=nextn, **_expert_keys(s),
    )  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [_norm(f"{b}.attn_norm", e), _norm(f"{b}.post_attention_norm", e)]
        tensors += [*_attention(b, e, h * d, k * d, h * d)]
        tensors += [_bias(f"{b}.attn_q", h * d), _bias(f"{b}.attn_k", k * d), _bias(f"{b}.attn_v", k * d)]
        tensors += list(_dense(b, e, s["hidden"])) if i < s["dense"] else _sparse(b, e, s)
        if i >= s["layers"] - nextn:
            tensors += [_weight(f"{b}.nextn.eh_proj", 2 * e, e), _weight(f"{b}.nextn.embed_tokens", e, s["vocab"])]
            tensors += [_weight(f"{b}.nextn.shared_head_head", e, s["vocab"])]
            tensors += [_norm(f"{b}.nextn.{n}", e) for n in ("enorm", "hnorm", "shared_head_norm")]
    return Known(metadata, tensors)


def _ssm(b: str, s: dict[str, Any]) -> list[TensorSpec]:
    e, inner, state, group, dt = s["width"], s["inner"], s["state"], s["group"], s["dt"]
    cd = inner + 2 * group * state
    tensors = [_weight(f"{b}.ssm_in", e, inner + cd + dt), TensorSpec(f"{b}.ssm_conv1d.weight", (s["conv"], cd), "f32")]
    tensors += [_bias(f"{b}.ssm_conv1d", cd), _bias(f"{b}.ssm_dt", dt), TensorSpec(f"{b}.ssm_a", (1, dt), "f32")]
    tensors += [TensorSpec(f"{b}.ssm_d", (1, dt), "f32"), _weight(f"{b}.ssm_out", inner, e), _norm(f"{b}.attn_norm", e)]
    if s.get("ssm_norm", True):
        tensors.append(TensorSpec(f"{b}.ssm_norm.weight", (inner // group, group), "f32"))
    return tensors


def _ssm_keys(s: dict[str, Any]) -> dict[str, Value]:
    return {"ssm__conv_kernel": s["conv"], "ssm__state_size": s["state"], "ssm__group_count": s["group"],
            "ssm__time_step_rank": s["dt"], "ssm__inner_size": s["inner"]}  # fmt: skip


def _mamba2(s: dict[str, Any]) -> Known:
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        tensors += _ssm(f"blk.{i}", s)
    return Known(_base(s, feed_forward_length=0, **_ssm_keys(s)), tensors)


def _falcon_h1(s: dict[str, Any]) -> Known:
    e, h, k, d = s["width"], s["head"], s["kv"], s["hd"]
    metadata = _base(s, attention__head_count_kv=k, attention__key_length=d, attention__value_length=d,
                     feed_forward_length=s["hidden"], **_ssm_keys(s))  # fmt: skip
    tensors = list(_globals(s))
    for i in range(s["layers"]):
        b = f"blk.{i}"
        tensors += [*_ssm(b, s), *_attention(b, e, h * d, k * d, h * d), *_dense(b, e, s["hidden"])]
        tensors += [TensorSpec(f"{b}.ffn_norm", (e,), "f32")]
    return Known(metadata, tensors)


def _bert(s: dict[str, Any]) -> Known:
    e, f, nomic = s["width"], s["hidden"], s["build"] == "nomic-bert"
    metadata = metadata_of(
        s["arch"], block_count=s["layers"], context_length=s["ctx"], embedding_length=e, feed_forward_length=f,
        attention__head_count=s["head"], attention__layer_norm_epsilon=1e-12, attention__causal=False,
        pooling_type=s["pooling"], vocab_size=s["vocab"],
    )  # fmt: skip
    metadata["tokenizer.ggml.token_type_count"] = s["types"]
    tensors = [_weight("token_embd", e, s["vocab"]), TensorSpec("token_types.weight", (e, s["types"]), "f32")]
    tensors += [_norm("token_embd_norm", e), _bias("token_embd_norm", e)]
    tensors += [] if nomic else [TensorSpec("position_embd.weight", (e, s["ctx"]), "f32")]
    for i in range(s["layers"]):
        b = f"blk.{i}"
        if nomic:
            tensors += [_weight(f"{b}.attn_qkv", e, 3 * e), _weight(f"{b}.attn_output", e, e), *_dense(b, e, f)]
        else:
            tensors += [*_attention(b, e, e, e, e), _weight(f"{b}.ffn_up", e, f), _weight(f"{b}.ffn_down", f, e)]
            tensors += [_bias(f"{b}.{n}", e) for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down")]
            tensors += [_bias(f"{b}.ffn_up", f)]
        for norm in ("attn_output_norm", "layer_output_norm"):
            tensors += [_norm(f"{b}.{norm}", e), _bias(f"{b}.{norm}", e)]
    return Known(metadata, tensors)


_BUILDS = {
    "llama": _llama, "llama-moe": _llama, "phi3": _phi3, "gemma3": _gemma3, "gdn": _gdn, "gemma4": _gemma4,
    "gpt-oss": _gpt_oss, "mla": _mla, "glm4moe": _glm4moe, "mamba2": _mamba2, "falcon-h1": _falcon_h1, "bert": _bert,
    "nomic-bert": _bert,
}  # fmt: skip
