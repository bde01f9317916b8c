"""Headers in the true shapes of well-known models are accepted and understood."""

from pathlib import Path
from typing import Any

import pytest

from bercail.core.model import Capability, Model, Pooling, Role
from bercail.readers import Readers
from tools.synth.shapes import known, read_table
from tools.synth.write import write_gguf

TABLE = read_table()
LLAMA_8B = TABLE["Llama-3.1-8B"]
QWEN3_MOE = TABLE["Qwen3-30B-A3B"]
GEMMA3 = TABLE["Gemma-3-12B"]
GEMMA4 = TABLE["Gemma-4-26B-A4B"]
GPT_OSS = TABLE["gpt-oss-20b"]
DEEPSEEK = TABLE["DeepSeek-V3"]
MAMBA2 = TABLE["mamba2-2.7b"]
FALCON_H1 = TABLE["Falcon-H1-0.5B"]
NOMIC = TABLE["nomic-embed-text-v1.5"]
QWEN35 = {**TABLE["Qwen3.6-27B"], "nextn": 1}


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


@pytest.mark.parametrize(
    ("last", "values"),
    [({}, 768), ({"embedding_length_out": 64}, 64), ({"dense_2_feat_out": 3072, "dense_3_feat_out": 512}, 512)],
)
def test_an_embedding_is_as_wide_as_what_it_has_passed_last(tmp_path: Path, last: dict[str, int], values: int) -> None:
    metadata, tensors = known(NOMIC)
    path = write_gguf(
        tmp_path / "m.gguf", metadata | {f"nomic-bert.{key}": wide for key, wide in last.items()}, tensors
    )
    assert Readers({}, tmp_path, tmp_path).read(str(path)).shape.vector == values


def test_pooling_of_rank_makes_a_reranker(tmp_path: Path) -> None:
    model = read(tmp_path, {**NOMIC, "pooling": 4})
    assert model.role is Role.RERANK
    assert model.capabilities == (Capability.RERANK,)


@pytest.mark.parametrize("name", TABLE)
def test_every_shape_of_the_table_is_accepted_with_its_published_counts(tmp_path: Path, name: str) -> None:
    shape = TABLE[name]
    model = read(tmp_path, shape)
    assert (len(model.tensors), model.parameter_count) == (shape["tensors"], shape["parameters"])
    assert model.notes == ()
