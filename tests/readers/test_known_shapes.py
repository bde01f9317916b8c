"""Headers in the true shapes of well-known models are accepted and understood."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bercail.core.model import Capability, Model, Pooling, Role
from bercail.readers import Readers
from readers.gguf_writer import write_gguf
from readers.shapes import known

# Sources of the numbers: the table of model shapes that the `shared` test reads in full.
LLAMA_8B = {
    "arch": "llama", "tpl": "llama", "blocks": 32, "embd": 4096, "ff": 14336, "head": 32, "kv": 8, "hd": 128,
    "vocab": 128256, "ctx": 131072, "tied": False, "rope_freqs": 64, "freq_base": 5e5, "eps": 1e-5,
}  # fmt: skip
QWEN3_MOE = {
    "arch": "qwen3moe", "tpl": "llama-moe", "qk_norm": True, "blocks": 48, "embd": 2048, "ff": 6144, "head": 32,
    "kv": 4, "hd": 128, "vocab": 151936, "ctx": 40960, "experts": 128, "used": 8, "ff_exp": 768, "freq_base": 1e6,
    "eps": 1e-6,
}  # fmt: skip
QWEN35 = {
    "arch": "qwen35", "tpl": "gdn", "blocks": 64, "nextn": 1, "embd": 5120, "ff": 17408, "head": 24, "kv": 4,
    "hd": 256, "rope": 64, "vocab": 248320, "ctx": 262144, "conv": 4, "state": 128, "group": 16, "dt": 48,
    "inner": 6144, "interval": 4, "freq_base": 1e7, "eps": 1e-6,
}  # fmt: skip
GEMMA3 = {
    "arch": "gemma3", "tpl": "gemma3", "blocks": 48, "embd": 3840, "ff": 15360, "head": 16, "kv": 8, "hd": 256,
    "vocab": 262144, "ctx": 131072, "tied": True, "sliding_window": 1024, "freq_base": 1e6, "eps": 1e-6,
}  # fmt: skip
GEMMA4 = {
    "arch": "gemma4", "tpl": "gemma4", "blocks": 30, "embd": 2816, "ff": 2112, "head": 16, "kv_full": 2, "kv_swa":
    8, "hd": 512, "hd_swa": 256, "vocab": 262144, "ctx": 262144, "tied": True, "sliding_window": 1024,
    "swa_period": 6, "shared_kv": 0, "experts": 128, "used": 8, "ff_exp": 704, "freq_base": 1e6, "eps": 1e-6,
}  # fmt: skip
GPT_OSS = {
    "arch": "gpt-oss", "tpl": "gpt-oss", "blocks": 24, "embd": 2880, "ff": 2880, "head": 64, "kv": 8, "hd": 64,
    "vocab": 201088, "ctx": 131072, "sliding_window": 128, "experts": 32, "used": 4, "ff_exp": 2880, "freq_base":
    150000, "eps": 1e-5,
}  # fmt: skip
DEEPSEEK = {
    "arch": "deepseek2", "tpl": "mla", "blocks": 61, "embd": 7168, "ff": 18432, "dense": 3, "head": 128, "kv": 1,
    "key": 576, "value": 512, "key_mla": 192, "value_mla": 128, "q_lora": 1536, "kv_lora": 512, "rope": 64,
    "vocab": 129280, "ctx": 163840, "experts": 256, "used": 8, "shared": 1, "ff_exp": 2048, "freq_base": 1e4,
    "eps": 1e-6,
}  # fmt: skip
MAMBA2 = {
    "arch": "mamba2", "tpl": "mamba2", "blocks": 64, "embd": 2560, "head": 0, "vocab": 50288, "ctx": 1048576,
    "tied": True, "conv": 4, "state": 128, "group": 1, "dt": 80, "inner": 5120, "eps": 1e-5,
}  # fmt: skip
FALCON_H1 = {
    "arch": "falcon-h1", "tpl": "falcon-h1", "blocks": 36, "embd": 1024, "ff": 2048, "head": 8, "kv": 2, "hd": 64,
    "vocab": 32784, "ctx": 16384, "conv": 4, "state": 128, "group": 1, "dt": 24, "inner": 1536, "ssm_norm": False,
    "freq_base": 1e11, "eps": 1e-5,
}  # fmt: skip
NOMIC = {
    "arch": "nomic-bert", "tpl": "nomic-bert", "blocks": 12, "embd": 768, "ff": 3072, "head": 12, "vocab": 30522,
    "ctx": 2048, "types": 2, "pooling": 1, "eps": 1e-12,
}  # fmt: skip


def read(tmp_path: Path, shape: dict[str, Any]) -> Model:
    path = write_gguf(tmp_path / f"{shape['arch']}.gguf", *known(shape))
    return Readers({}, tmp_path, tmp_path).read(str(path))


def test_llama_is_read_with_its_published_size(tmp_path: Path) -> None:
    model = read(tmp_path, LLAMA_8B)
    assert model.parameter_count == 8_030_261_312
    assert (model.shape.layers, model.shape.embedding, model.shape.vocabulary) == (32, 4096, 128256)
    assert set(model.shape.kv_heads) == {8}
    assert (model.shape.key_length, model.shape.value_length) == (128, 128)
    assert model.context_length == 131072
    assert not model.shape.swa_layers
    assert model.quantization == "F16"
    assert model.capabilities == (Capability.COMPLETION,)


def test_sparse_model_has_experts_and_no_dense_network(tmp_path: Path) -> None:
    shape = read(tmp_path, QWEN3_MOE).shape
    assert (shape.experts, shape.experts_used, shape.expert_feed_forward) == (128, 8, 768)
    assert set(shape.feed_forward) == {0}


def test_hybrid_with_drafting_head_keeps_cache_only_on_full_layers(tmp_path: Path) -> None:
    model = read(tmp_path, QWEN35)
    shape = model.shape
    assert (shape.layers, shape.nextn_layers) == (64, 1)
    assert sum(1 for heads in shape.kv_heads[:64] if heads) == 16
    assert shape.kv_heads[64] == 4
    assert shape.recurrent is not None
    assert (shape.recurrent.conv_bytes, shape.recurrent.state_bytes) == (122_880, 3_145_728)
    assert sum(shape.recurrent.layers) == 48
    assert len(shape.recurrent.layers) == 65
    assert Capability.MTP in model.capabilities
    assert shape.rope_dimensions == 64


def test_gemma3_slides_on_five_of_six_layers(tmp_path: Path) -> None:
    shape = read(tmp_path, GEMMA3).shape
    assert shape.sliding_window == 1024
    assert sum(shape.swa_layers) == 40
    assert not shape.swa_layers[5]


def test_gemma4_has_other_heads_on_sliding_layers(tmp_path: Path) -> None:
    shape = read(tmp_path, GEMMA4).shape
    assert (shape.key_length, shape.key_length_swa) == (512, 256)
    assert shape.kv_heads[:6] == (8, 8, 8, 8, 8, 2)
    assert sum(shape.swa_layers) == 25
    assert shape.shared_kv_layers == 0
    assert set(shape.feed_forward) == {2112}


def test_gpt_oss_slides_on_even_layers(tmp_path: Path) -> None:
    shape = read(tmp_path, GPT_OSS).shape
    assert shape.swa_layers[:4] == (True, False, True, False)
    assert shape.sliding_window == 128


def test_mla_cache_is_compressed(tmp_path: Path) -> None:
    shape = read(tmp_path, DEEPSEEK).shape
    assert shape.mla_compressed
    assert (shape.kv_lora_rank, shape.rope_dimensions, shape.key_length) == (512, 64, 576)
    assert shape.feed_forward[:4] == (18432, 18432, 18432, 0)
    assert shape.shared_feed_forward == 2048


def test_state_space_model_has_states_and_no_cache(tmp_path: Path) -> None:
    shape = read(tmp_path, MAMBA2).shape
    assert set(shape.kv_heads) == {0}
    assert shape.recurrent is not None
    assert (shape.recurrent.conv_bytes, shape.recurrent.state_bytes) == (64_512, 2_621_440)
    assert all(shape.recurrent.layers)


def test_falcon_h1_has_cache_and_state_in_every_layer(tmp_path: Path) -> None:
    shape = read(tmp_path, FALCON_H1).shape
    assert set(shape.kv_heads) == {2}
    assert shape.recurrent is not None
    assert (shape.recurrent.conv_bytes, shape.recurrent.state_bytes) == (21_504, 786_432)


def test_embedding_model_pools_and_only_embeds(tmp_path: Path) -> None:
    model = read(tmp_path, NOMIC)
    assert model.role is Role.EMBED
    assert model.pooling is Pooling.MEAN
    assert model.capabilities == (Capability.EMBEDDINGS,)
    assert not model.shape.causal


def test_pooling_of_rank_makes_a_reranker(tmp_path: Path) -> None:
    model = read(tmp_path, {**NOMIC, "pooling": 4})
    assert model.role is Role.RERANK
    assert model.capabilities == (Capability.RERANK,)


@pytest.mark.shared
def test_every_shape_of_the_reference_is_accepted_with_its_counts(shared: Path, tmp_path: Path) -> None:
    text = (shared / "reference" / "model-shapes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    shapes: dict[str, dict[str, Any]] = json.loads(blocks[-1])
    assert len(shapes) > 25
    for name, shape in shapes.items():
        model = read(tmp_path, shape)
        assert (len(model.tensors), model.parameter_count) == (shape["n_tensors"], shape["n_params"]), name
        assert model.notes == (), name
