"""Checks of a model's keys against its tensors: what an engine would refuse, or not survive, is refused here.

The bounds are those of llama.cpp b11549 (``llama_model_base::load_hparams`` and the loaders in ``src/models``), where
many of them are assertions that take the whole process down.
"""

import math

from bercail.core.alike import alike
from bercail.core.errors import ReadError
from bercail.core.model import ArraySummary
from bercail.readers.gguf import architectures
from bercail.readers.gguf.header import Header
from bercail.readers.gguf.keys import Keys
from bercail.readers.gguf.template import syntax_error
from bercail.readers.gguf.values import MAX_TEXT_BYTES

MAX_BLOCKS = 512
MAX_EXPERTS = 1024
MAX_CONTEXT_TOKENS = 2**31 - 1
MAX_WIDTH = 2**31 - 1
_EPSILONS = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon")
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_CLASSIFIERS = ("gelu", "silu", "tanh")
_FEW_EXPERTS_ARE_NONE = frozenset(("hunyuan-dense", "hunyuan_vl"))


def architecture(header: Header) -> str:
    """The architecture, if the engine knows it."""
    key = "general.architecture"
    found = header.metadata.get(key)
    if found is None:
        raise header.refuse(
            "the key is missing: the file is no model" if header.tensors else "the file holds no model",
            key,
            code="no_architecture",
            hint="give the path of a model",
        )
    if not isinstance(found, str):
        raise header.refuse(f"is {header.types[key]}, but must be a string", key)
    if found not in architectures.KNOWN:
        near = alike(found[:64], architectures.KNOWN)
        raise header.refuse(
            f"{_shown(found)} is unknown to llama.cpp b11549"
            + (f"; the nearest it knows is {near[0]!r}" if near else ""),
            key,
            code="unknown_architecture",
            hint="the model may need a newer engine, or the file is damaged",
        )
    return found


def hyper_parameters(keys: Keys) -> None:
    """Check the numbers that every loader reads, and set ``keys.blocks``."""
    _context(keys)
    _blocks(keys)
    _embedding(keys)
    _heads(keys)
    _norms(keys)
    _experts(keys)
    _rope(keys)
    _sliding(keys)
    _classifier(keys)


def template(header: Header) -> None:
    """Refuse a chat template that no Jinja can parse."""
    key = "tokenizer.chat_template"
    found = header.metadata.get(key)
    if found is None:
        return
    if isinstance(found, ArraySummary):
        raise header.refuse(f"a chat template of {found.count:,} bytes; at most {MAX_TEXT_BYTES:,} are read", key)
    if not isinstance(found, str):
        raise header.refuse(f"is {header.types[key]}, but must be a string", key)
    problem = syntax_error(found)
    if problem:
        raise header.refuse(
            f"the chat template has a syntax error: {problem}",
            key,
            code="bad_template",
            hint="get a corrected file from the publisher",
        )


def tokens_match(keys: Keys, tokens: int) -> None:
    """Refuse unless the token embedding has one row of the right width per token."""
    name = "token_embd.weight"
    tensor = keys.tensors.get(name)
    if keys.architecture in architectures.SPEECH:
        return
    if tensor is None:
        if keys.architecture not in architectures.LLAMA_LIKE:
            return
        raise keys.header.refuse("the tensor is missing: without it there is no model", name)
    wide = keys.count("features_length") if keys.has("features_length") else keys.count("embedding_length")
    if len(tensor.shape) != 2 or tensor.shape[0] != wide:
        raise _shape(keys, name, (wide, tokens), "embedding_length")
    if tensor.shape[1] != tokens:
        raise keys.header.refuse(f"has {tensor.shape[1]:,} rows for {tokens:,} tokens of the tokenizer", name)


def _shape(keys: Keys, name: str, wanted: tuple[int, ...], because: str) -> ReadError:
    return keys.header.refuse(f"has shape {keys.tensors[name].shape}, but {keys.name(because)} asks for {wanted}", name)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _context(keys: Keys) -> None:
    key = "context_length"
    if not keys.has(key):
        raise keys.missing(key)
    if not 1 <= keys.count(key) <= MAX_CONTEXT_TOKENS:
        raise keys.refuse(key, f"{keys.count(key):,} tokens; 1 to {MAX_CONTEXT_TOKENS:,} make sense")


def _blocks(keys: Keys) -> None:
    key = "block_count"
    if not keys.has(key):
        raise keys.missing(key)
    blocks = keys.count(key)
    if not 1 <= blocks <= MAX_BLOCKS:
        raise keys.refuse(key, f"{blocks:,} blocks; 1 to {MAX_BLOCKS} are possible")
    keys.blocks = blocks
    extra = keys.count("nextn_predict_layers")
    if extra > blocks:
        raise keys.refuse("nextn_predict_layers", f"{extra:,} of {blocks} blocks")


def _embedding(keys: Keys) -> None:
    key = "embedding_length"
    if not keys.has(key):
        raise keys.missing(key)
    if not 1 <= keys.count(key) <= MAX_WIDTH:
        raise keys.refuse(key, f"{keys.count(key):,} is no width")
    norm = keys.tensors.get("output_norm.weight")
    if norm is not None and keys.architecture in architectures.LLAMA_LIKE and norm.shape != (keys.count(key),):
        raise _shape(keys, "output_norm.weight", (keys.count(key),), key)


def _heads(keys: Keys) -> None:
    key = "attention.head_count"
    heads = keys.per_layer(key)
    headless = keys.architecture in architectures.HEADLESS
    if not headless and not keys.has(key):
        raise keys.missing(key)
    if not headless and not any(heads):
        raise keys.refuse(key, "0 heads")
    if keys.architecture in architectures.LLAMA_LIKE and not keys.is_array(key) and heads[0] < 1:
        raise keys.refuse(key, "0 heads")
    if max(heads) > MAX_WIDTH:
        raise keys.refuse(key, f"{max(heads):,} heads")
    _kv_heads(keys, heads)
    for length in ("key_length", "value_length", "key_length_swa", "value_length_swa"):
        if keys.count(f"attention.{length}", 1) > MAX_WIDTH:
            raise keys.refuse(f"attention.{length}", f"{keys.count(f'attention.{length}'):,} is no width")


def _kv_heads(keys: Keys, heads: tuple[int, ...]) -> None:
    key = "attention.head_count_kv"
    if not keys.has(key):
        return
    kv_heads = keys.per_layer(key)
    if max(kv_heads) > MAX_WIDTH:
        raise keys.refuse(key, f"{max(kv_heads):,} heads")
    if keys.architecture not in architectures.LLAMA_LIKE:
        return
    for layer, (all_heads, own) in enumerate(zip(heads, kv_heads, strict=True)):
        if own == 0 and all_heads and not keys.is_array(key):
            raise keys.refuse(key, "0 key/value heads")
        if own and (own > all_heads or all_heads % own):
            raise keys.refuse(key, f"{own:,} key/value heads for {all_heads:,} heads in block {layer}")


def _norms(keys: Keys) -> None:
    for key in _EPSILONS:
        epsilon = keys.real(key)
        if epsilon is not None and epsilon < 0:
            raise keys.refuse(key, f"{epsilon:g} is negative")
    rms = "attention.layer_norm_rms_epsilon"
    if keys.architecture in architectures.LLAMA_LIKE and not keys.has(rms):
        raise keys.missing(rms)


def _experts(keys: Keys) -> None:
    experts = keys.count("expert_count")
    used = max(keys.per_layer("expert_used_count"))
    groups = keys.count("expert_group_count")
    if experts <= 1 and keys.architecture in _FEW_EXPERTS_ARE_NONE:
        return
    if experts > MAX_EXPERTS:
        raise keys.refuse("expert_count", f"{experts:,} experts; {MAX_EXPERTS:,} is the most")
    if used > experts:
        raise keys.refuse("expert_used_count", f"{used:,} of {experts:,} experts")
    if experts == 0:
        if groups:
            raise keys.refuse("expert_group_count", f"{groups:,} groups of no experts")
        return
    if used == 0:
        raise keys.refuse("expert_used_count", f"0 of {experts:,} experts")
    _expert_groups(keys, experts, groups)
    if not any("_exps" in name for name in keys.tensors):
        raise keys.refuse("expert_count", f"{experts:,} experts, but the file holds no expert tensors (ffn_*_exps)")


def _expert_groups(keys: Keys, experts: int, groups: int) -> None:
    used = keys.count("expert_group_used_count")
    if groups >= experts or (groups > 1 and experts % groups):
        raise keys.refuse("expert_group_count", f"{groups:,} groups of {experts:,} experts")
    if groups > 1 and not 0 < used < groups:
        raise keys.refuse("expert_group_used_count", f"{used:,} of {groups:,} groups")


def _rope(keys: Keys) -> None:
    scaling = keys.text(keys.name("rope.scaling.type"))
    if scaling is not None and scaling not in _ROPE_SCALINGS:
        raise keys.refuse("rope.scaling.type", f"{_shown(scaling)}; {', '.join(_ROPE_SCALINGS)} exist")
    for key in ("rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor", "rope.scale_linear"):
        number = keys.real(key)
        if number is not None and number < 0:
            raise keys.refuse(key, f"{number:g} is negative")
    heads = keys.per_layer("attention.head_count")
    if heads[0] == 0:
        return
    width = keys.count("attention.key_length", keys.count("embedding_length") // heads[0])
    key = "rope.dimension_count"
    if keys.has(key) and keys.architecture in architectures.ROPE_IS_HEAD and keys.count(key) != width:
        raise keys.refuse(key, f"{keys.count(key):,}, but a head is {width:,} wide")
    if keys.count(key) > MAX_WIDTH:
        raise keys.refuse(key, f"{keys.count(key):,} is no width")


def _sliding(keys: Keys) -> None:
    rule = architectures.SLIDING.get(keys.architecture)
    pattern = keys.value("attention.sliding_window_pattern")
    if isinstance(pattern, ArraySummary) or (isinstance(pattern, tuple) and len(pattern) > MAX_BLOCKS):
        raise keys.refuse("attention.sliding_window_pattern", f"more than {MAX_BLOCKS} entries")
    if rule is None or not rule.required:
        return
    if isinstance(pattern, tuple) and not any(pattern[: keys.blocks]):
        raise keys.refuse("attention.sliding_window_pattern", "no layer slides, though the architecture must")
    if pattern is None and rule.period == 0:
        raise keys.missing("attention.sliding_window_pattern")
    if not keys.has("attention.sliding_window") and rule.window is None:
        raise keys.missing("attention.sliding_window")


def _classifier(keys: Keys) -> None:
    activation = keys.text(keys.name("classifier.activation"))
    if activation is not None and activation not in _CLASSIFIERS:
        raise keys.refuse("classifier.activation", f"{_shown(activation)}; {', '.join(_CLASSIFIERS)} exist")
    scale = keys.value("attention.scale")
    if isinstance(scale, float) and not math.isfinite(scale):
        raise keys.refuse("attention.scale", f"is {scale}, not a finite number")
