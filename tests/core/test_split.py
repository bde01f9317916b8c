"""Where layers and slices lie: every byte on one device, remainders in turn, what cannot be cut on all of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core import memory, split
from bercail.core.model import Model, Recurrent, Tensor
from bercail.core.quant import TENSOR_TYPES_BY_NAME
from bercail.core.split import Split, cut, share_out, weigh
from fakes.models import a_model, a_shape, some_settings


def a_weight(name: str, *shape: int, kind: str = "q8_0") -> Tensor:
    return Tensor(name=name, shape=shape, type=TENSOR_TYPES_BY_NAME[kind], offset=0)


def a_dense_model(layers: int = 4, *, heads: int = 8, kv: int = 2, tied: bool = False, kind: str = "q8_0") -> Model:
    """Heads of 128, a feed-forward network of 1,024 columns, 1,000 tokens."""
    shape = a_shape(layers, heads, kv, 128, feed_forward=(1024,) * layers, vocabulary=1000)
    width = shape.embedding
    tensors = [a_weight("token_embd.weight", width, 1000), a_weight("output_norm.weight", width, kind="f32")]
    if not tied:
        tensors.append(a_weight("output.weight", width, 1000))
    for layer in range(layers):
        tensors += [
            a_weight(f"blk.{layer}.attn_norm.weight", width, kind="f32"),
            a_weight(f"blk.{layer}.attn_q.weight", width, heads * 128, kind=kind),
            a_weight(f"blk.{layer}.attn_k.weight", width, kv * 128, kind=kind),
            a_weight(f"blk.{layer}.attn_v.weight", width, kv * 128, kind=kind),
            a_weight(f"blk.{layer}.attn_output.weight", heads * 128, width, kind=kind),
            a_weight(f"blk.{layer}.ffn_gate.weight", width, 1024, kind=kind),
            a_weight(f"blk.{layer}.ffn_up.weight", width, 1024, kind=kind),
            a_weight(f"blk.{layer}.ffn_down.weight", 1024, width, kind=kind),
        ]
    return a_model(shape=shape, tensors=tuple(tensors))


def by_layer(*counts: int, experts: int = 0) -> dict[str, object]:
    return {"split_mode": Split.LAYER.value, "layer_split": counts, "cpu_experts": experts}


@pytest.mark.parametrize("counts", [(4, 0), (1, 3), (2, 1), (0, 4), (3,)])
def test_whole_layers_add_up_to_the_model_wherever_they_lie(counts: tuple[int, ...]) -> None:
    model = a_dense_model()
    settings = some_settings(**by_layer(*counts))
    held = split.held(model, settings, weigh(model, len(counts)))
    assert len(held) == len(counts) + 1
    assert sum(part.weights for part in held) == model.weights_bytes
    assert sum(part.cache for part in held) == memory.cache_bytes(model, settings)


def test_the_first_layers_stay_in_main_memory_with_the_embedding_and_the_output_goes_with_the_last() -> None:
    model = a_dense_model()
    settings = some_settings(**by_layer(1, 2))
    host, first, last = split.held(model, settings, weigh(model, 2))
    size = {tensor.name: tensor.bytes for tensor in model.tensors}
    block = sum(taken for name, taken in size.items() if name.startswith("blk.0."))
    assert host.weights == block + size["token_embd.weight"]
    assert first.weights == block
    assert last.weights == 2 * block + size["output.weight"] + size["output_norm.weight"]
    assert (host.cache, first.cache, last.cache) == tuple(
        count * memory.cache_bytes(model, settings) // 4 for count in (1, 1, 2)
    )


def test_a_tied_embedding_lies_in_main_memory_and_again_where_the_logits_are_made() -> None:
    model = a_dense_model(tied=True)
    embedding = next(tensor.bytes for tensor in model.tensors if tensor.name == "token_embd.weight")
    host, gpu = split.held(model, some_settings(**by_layer(4)), weigh(model, 1))
    assert host.weights == embedding
    assert gpu.weights == model.weights_bytes


def test_routed_experts_of_the_first_layers_may_stay_behind() -> None:
    plain = a_dense_model()
    routed = [a_weight(f"blk.{layer}.ffn_up_exps.weight", 1024, 512, 8) for layer in range(4)]
    model = replace(plain, tensors=(*plain.tensors, *routed))
    weights = weigh(model, 2)
    all_there = split.held(model, some_settings(**by_layer(2, 2)), weights)
    three_left = split.held(model, some_settings(**by_layer(2, 2, experts=3)), weights)
    one = routed[0].bytes
    assert [after.weights - before.weights for before, after in zip(all_there, three_left, strict=True)] == [
        3 * one, -2 * one, -one,
    ]  # fmt: skip
    half_off = split.held(model, some_settings(**by_layer(1, 1, experts=3)), weights)
    assert sum(part.weights for part in half_off) == model.weights_bytes


def test_blocks_of_a_drafting_head_are_not_loaded() -> None:
    plain = a_dense_model()
    model = replace(plain, tensors=(*plain.tensors, a_weight("blk.4.nextn.eh_proj.weight", 2048, 1024)))
    for gpus in (1, 2):
        assert weigh(model, gpus) == weigh(plain, gpus)


def test_slices_add_up_but_for_what_lies_on_every_gpu() -> None:
    model = a_dense_model()
    settings = some_settings(split_mode="tensor", layer_split=(1, 1))
    host, *gpus = split.held(model, settings, weigh(model, 2))
    size = {tensor.name: tensor.bytes for tensor in model.tensors}
    everywhere = sum(taken for name, taken in size.items() if name.endswith("norm.weight"))
    assert host.weights == size["token_embd.weight"]
    assert sum(gpu.weights for gpu in gpus) == model.weights_bytes - host.weights + everywhere
    assert sum(gpu.cache for gpu in gpus) == memory.cache_bytes(model, settings)


def test_fewer_heads_than_gpus_take_turns_from_layer_to_layer() -> None:
    model = a_dense_model(layers=8, kv=2)
    settings = some_settings(split_mode="tensor", layer_split=(1,) * 4)
    _, *gpus = split.held(model, settings, weigh(model, 4))
    assert {gpu.cache for gpu in gpus} == {memory.cache_bytes(model, settings) // 4}


def test_a_tied_embedding_is_whole_on_every_gpu_of_a_sliced_model() -> None:
    tied, untied = (weigh(a_dense_model(tied=flag), 2).slices for flag in (True, False))
    embedding = a_weight("token_embd.weight", 1024, 1000).bytes
    assert [one - other for one, other in zip(tied, untied, strict=True)] == [embedding // 2] * 2


def test_columns_are_cut_in_steps_of_whole_blocks() -> None:
    shape = weigh(a_dense_model(layers=1, kind="q4_k"), 3)
    rows = 1024
    # 1,024 columns in steps of 256: 256, 256 and the rest; two heads: none, one, one; the logits begin with the next.
    per_column = 3 * rows * 144 // 256
    per_head = (4 + 4 + 1 + 1) * 128 * rows * 144 // 256
    norms = 2 * rows * 4
    output = [-(-1000 * rows * 34 // 32 * share // 1000) for share in (334, 333, 333)]
    expected = [256 * per_column, 256 * per_column + per_head, 512 * per_column + per_head]
    found = [size - norms - logits for size, logits in zip(shape.slices, output, strict=True)]
    assert [abs(one - other) <= 8 for one, other in zip(found, expected, strict=True)] == [True] * 3


def test_delta_rule_layers_are_cut_by_their_key_heads() -> None:
    state = Recurrent(
        conv_bytes=3 * 8192 * 4, state_bytes=128 * 4096 * 4, layers=(True, False), channels=8192, inner=4096
    )
    shape = a_shape(2, 8, 2, 128, kv_heads=(0, 2), recurrent=state)
    tensors = (
        a_weight("token_embd.weight", 1024, 100),
        a_weight("output.weight", 1024, 100),
        a_weight("blk.0.attn_qkv.weight", 1024, 8192),
        a_weight("blk.0.ssm_out.weight", 4096, 1024),
        a_weight("blk.0.ssm_norm.weight", 128, kind="f32"),
    )
    model = a_model(shape=shape, tensors=tensors)
    settings = some_settings(split_mode="tensor", layer_split=(1, 1))
    _, one, other = split.held(model, settings, weigh(model, 2))
    assert one.state == other.state == memory.state_bytes(model, settings) // 2
    assert one.weights == other.weights == 50 * 1088 + (8192 * 1024 + 4096 * 1024) * 34 // 64 + 512


@pytest.mark.parametrize("known", [{}, {"channels": 1, "inner": 2}, {"channels": 4, "inner": 4}])
def test_a_state_of_unknown_width_lies_on_every_gpu(known: Any) -> None:
    state = Recurrent(conv_bytes=100, state_bytes=1000, layers=(True, True), **known)
    model = a_model(shape=a_shape(2, 8, 2, 128, kv_heads=(0, 0), recurrent=state))
    settings = some_settings(split_mode="tensor", layer_split=(1, 1))
    _, one, other = split.held(model, settings, weigh(model, 2))
    assert one.state == other.state == memory.state_bytes(model, settings)


def test_fused_gates_and_biases_are_cut_with_their_columns() -> None:
    plain = a_dense_model(layers=1)
    more = (
        a_weight("blk.0.ffn_gate_up_exps.weight", 1024, 2048, 4),
        a_weight("blk.0.ffn_up.bias", 1024, kind="f32"),
        a_weight("blk.0.ffn_down.bias", 1024, kind="f32"),
    )
    model = replace(plain, tensors=(*plain.tensors, *more))
    gained = [one - other for one, other in zip(weigh(model, 2).slices, weigh(plain, 2).slices, strict=True)]
    assert gained == [more[0].bytes // 2 + 2048 + 4096] * 2


@given(st.integers(0, 200), st.integers(1, 16), st.integers(1, 8), st.integers(0, 7))
def test_a_cut_gives_everything_away_in_whole_steps(whole: int, step: int, gpus: int, turn: int) -> None:
    found = cut(whole, step, gpus, turn % gpus)
    assert sum(found) == whole
    assert min(found) >= 0
    assert sum(part % step != 0 for part in found) <= 1


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=40),
    st.integers(0, 2000),
    st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
)
def test_all_layers_are_shared_out_and_no_other_share_is_much_emptier(
    sizes: list[int], last: int, rooms: list[int]
) -> None:
    counts = share_out(sizes, last, rooms)
    assert sum(counts) == len(sizes)

    def fullest(counts: tuple[int, ...]) -> float:
        at, worst = 0, 0.0
        for count, room in zip(counts, rooms, strict=True):
            taken = sum(sizes[at : at + count])
            at += count
            worst = max(worst, (taken + (last if count and at == len(sizes) else 0)) / room)
        return worst

    even = [len(sizes) // len(rooms)] * len(rooms)
    even[-1] += len(sizes) - sum(even)
    assert fullest(counts) <= fullest(tuple(even)) * 1.0001


@pytest.mark.parametrize(("kinds", "cells"), [(("q8_0", "q4_0"), 4096), (("f16", "q8_0"), 4096), (("f16", "f16"), 0)])
def test_a_quantized_cache_is_unpacked_layer_by_layer(kinds: tuple[str, str], cells: int) -> None:
    model = a_dense_model()
    settings = some_settings(kv_type_k=kinds[0], kv_type_v=kinds[1])
    assert split.unpacked_bytes(model, settings, 1.0) == cells * 2 * 2 * 128 * 2
    assert split.unpacked_bytes(model, settings, 0.5) == cells * 2 * 128 * 2
    slots = replace(settings, slots=2, context_tokens=8192)
    assert split.unpacked_bytes(model, slots, 1.0) == cells * 2 * 2 * 128 * 2
    assert split.unpacked_bytes(model, replace(settings, flash_attention=False), 1.0) == 0
