"""The arithmetic of caches and buffers against figures that were measured with llama.cpp b11549."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core import memory
from bercail.core.model import Model, Recurrent, Role, Shape
from bercail.core.quant import CACHE_TYPES
from bercail.core.units import MIB
from fakes.models import a_model, a_shape, models, some_settings

GEMMA = a_shape(6, 4, 1, 256, sliding_window=512, swa_layers=(True,) * 5 + (False,))


def slides(layers: int, period: int) -> tuple[bool, ...]:
    return tuple((layer + 1) % period != 0 for layer in range(layers))


def hybrid(layers: int, kv: int, inner: int, embedding: int, feed_forward: int) -> Shape:
    """Gated-delta-net layers with full attention on every fourth; widths as in the Qwen3.5 family."""
    states = slides(layers, 4)
    conv, state = 3 * (inner + 2 * 16 * 128) * 4, 128 * inner * 4
    return a_shape(
        layers, 16, kv, 256, embedding=embedding, feed_forward=(feed_forward,) * layers, vocabulary=248320,
        kv_heads=tuple(0 if flag else kv for flag in states),
        recurrent=Recurrent(conv_bytes=conv, state_bytes=state, layers=states),
    )  # fmt: skip


def gemma4(layers: int, kv_full: int, kv_swa: int) -> Shape:
    flags = slides(layers, 6)
    return a_shape(
        layers, 16, 1, 512, key_length_swa=256, value_length_swa=256, sliding_window=1024, swa_layers=flags,
        kv_heads=tuple(kv_swa if flag else kv_full for flag in flags),
    )  # fmt: skip


def compressed(layers: int) -> Shape:
    return a_shape(layers, 20, 1, 576, value_length=512, kv_lora_rank=512, rope_dimensions=64, mla_compressed=True)


def state_space(layers: int, kv: int, conv: int, state: int) -> Shape:
    states = Recurrent(conv_bytes=conv, state_bytes=state, layers=(True,) * layers)
    return a_shape(layers, 8, kv, 64, recurrent=states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Cache figures of a published model, f16: per token, per cell of the sliding layers, per sequence."""

    shape: Shape
    token_bytes: int
    window_cell_bytes: int = 0
    sequence_bytes: int = 0


PUBLISHED = {
    "Llama-3.2-1B": Known(shape=a_shape(16, 32, 8, 64), token_bytes=32_768),
    "Llama-3.2-3B": Known(shape=a_shape(28, 24, 8, 128), token_bytes=114_688),
    "Llama-3.1-8B": Known(shape=a_shape(32, 32, 8, 128), token_bytes=131_072),
    "Llama-3.3-70B": Known(shape=a_shape(80, 64, 8, 128), token_bytes=327_680),
    "Mistral-Small-24B": Known(shape=a_shape(40, 32, 8, 128), token_bytes=163_840),
    "Qwen2.5-7B": Known(shape=a_shape(28, 28, 4, 128), token_bytes=57_344),
    "Qwen3-8B": Known(shape=a_shape(36, 32, 8, 128), token_bytes=147_456),
    "Qwen3-32B": Known(shape=a_shape(64, 64, 8, 128), token_bytes=262_144),
    "Qwen3-30B-A3B": Known(shape=a_shape(48, 32, 4, 128), token_bytes=98_304),
    "Phi-4": Known(shape=a_shape(40, 40, 10, 128), token_bytes=204_800),
    "GLM-4.5-Air": Known(shape=a_shape(46, 96, 8, 128, kv_heads=(8,) * 47, nextn_layers=1), token_bytes=188_416),
    "Qwen3.6-27B": Known(
        shape=hybrid(64, 4, 6144, 5120, 17408), token_bytes=65_536, sequence_bytes=156_893_184
    ),
    "Qwen3.6-35B-A3B": Known(shape=hybrid(40, 2, 4096, 2048, 0), token_bytes=20_480, sequence_bytes=65_863_680),
    "Qwen3-Next-80B-A3B": Known(shape=hybrid(48, 2, 4096, 2048, 0), token_bytes=24_576, sequence_bytes=79_036_416),
    "mamba2-2.7b": Known(shape=state_space(64, 0, 64_512, 2_621_440), token_bytes=0, sequence_bytes=171_900_928),
    "Falcon-H1-0.5B": Known(shape=state_space(36, 2, 21_504, 786_432), token_bytes=18_432, sequence_bytes=29_085_696),
    "Gemma-3-12B": Known(
        shape=a_shape(48, 16, 8, 256, sliding_window=1024, swa_layers=slides(48, 6)),
        token_bytes=65_536, window_cell_bytes=327_680,
    ),
    "Gemma-3-27B": Known(
        shape=a_shape(62, 32, 16, 128, sliding_window=1024, swa_layers=slides(62, 6)),
        token_bytes=81_920, window_cell_bytes=425_984,
    ),
    "Gemma-4-26B-A4B": Known(shape=gemma4(30, 2, 8), token_bytes=20_480, window_cell_bytes=204_800),
    "Gemma-4-31B": Known(shape=gemma4(60, 4, 16), token_bytes=81_920, window_cell_bytes=819_200),
    "gpt-oss-20b": Known(
        shape=a_shape(24, 64, 8, 64, sliding_window=128, swa_layers=slides(24, 2)),
        token_bytes=24_576, window_cell_bytes=24_576,
    ),
    "gpt-oss-120b": Known(
        shape=a_shape(36, 64, 8, 64, sliding_window=128, swa_layers=slides(36, 2)),
        token_bytes=36_864, window_cell_bytes=36_864,
    ),
    "DeepSeek-V3": Known(shape=compressed(61), token_bytes=70_272),
    "GLM-4.7-Flash": Known(shape=compressed(47), token_bytes=54_144),
}  # fmt: skip


@pytest.mark.parametrize("known", PUBLISHED.values(), ids=PUBLISHED.keys())
@pytest.mark.parametrize("context", [4096, 131072])
def test_cache_of_published_models_is_exact(known: Known, context: int) -> None:
    model, settings = a_model(shape=known.shape), some_settings(context_tokens=context)
    window = memory.pad(known.shape.sliding_window + 512, 256)
    assert memory.cache_bytes(model, settings) == known.token_bytes * context + known.window_cell_bytes * window
    assert memory.state_bytes(model, settings) == known.sequence_bytes


@pytest.mark.parametrize(("slots", "unified", "cells"), [(1, False, 1024), (4, True, 2560), (4, False, 1024)])
def test_cells_of_a_sliding_layer_as_measured(slots: int, unified: bool, cells: int) -> None:
    settings = some_settings(context_tokens=16384, slots=slots, kv_unified=unified)
    assert memory.sliding_cells_per_stream(GEMMA, settings) == cells


def test_a_full_sliding_cache_is_as_large_as_any_other() -> None:
    settings = some_settings(context_tokens=16384, swa_full=True)
    assert memory.sliding_cells_per_stream(GEMMA, settings) == 16384


def test_a_sliding_layer_never_has_more_cells_than_the_context() -> None:
    assert memory.sliding_cells_per_stream(GEMMA, some_settings(context_tokens=300)) == 512


@pytest.mark.parametrize(
    ("context", "slots", "unified", "cells"),
    [(4096, 1, False, 4096), (4096, 4, False, 1024), (4096, 4, True, 4096), (4000, 3, False, 1536), (1, 1, False, 256)],
)
def test_cells_are_padded_per_stream(context: int, slots: int, unified: bool, cells: int) -> None:
    settings = some_settings(context_tokens=context, slots=slots, kv_unified=unified)
    assert memory.cells_per_stream(settings) == cells


@pytest.mark.parametrize(("kind", "per_token"), [("f16", 1152), ("q8_0", 612)])
def test_a_compressed_cache_takes_what_was_measured_per_token_and_layer(kind: str, per_token: int) -> None:
    settings = some_settings(kv_type_k=kind, kv_type_v=kind)
    assert memory.cache_bytes(a_model(shape=compressed(1)), settings) == per_token * 4096


@pytest.mark.parametrize(
    ("kind", "bytes_per_value"),
    list(zip(CACHE_TYPES, [4, 2, 2, 1.0625, 0.75, 0.6875, 0.625, 0.5625, 0.5625], strict=True)),
)
def test_bytes_per_value_of_every_cache_type(kind: str, bytes_per_value: float) -> None:
    assert memory.row_bytes(kind, 1024) == 1024 * bytes_per_value


def test_key_and_value_types_count_apart() -> None:
    settings = some_settings(kv_type_k="q8_0", kv_type_v="q4_0", context_tokens=256)
    assert memory.cache_bytes(a_model(shape=a_shape(1, 4, 2, 64)), settings) == 256 * (136 + 72)


def test_the_golden_log_of_a_27b_hybrid() -> None:
    model = a_model(shape=hybrid(64, 4, 6144, 5120, 17408))
    settings = some_settings(context_tokens=131072, slots=4, kv_unified=True, kv_type_k="q8_0", kv_type_v="q8_0")
    assert memory.cache_bytes(model, settings) == 4352 * MIB
    assert memory.state_bytes(model, settings) == 598.5 * MIB
    assert memory.checkpoint_bytes(model, settings) == 149.625 * MIB


@pytest.mark.parametrize(("slots", "conv", "state"), [(1, 0.5625, 12), (4, 2.25, 48)])
def test_recurrent_rows_as_measured(slots: int, conv: float, state: float) -> None:
    shape = a_shape(4, 4, 1, 256, recurrent=Recurrent(
        conv_bytes=3 * (2048 + 2 * 16 * 128) * 4 * 2, state_bytes=4 * MIB, layers=(True, True, True, False),
    ))  # fmt: skip
    found = memory.state_bytes(a_model(shape=shape), some_settings(slots=slots))
    assert found == 3 * slots * (3 * (2048 + 2 * 16 * 128) * 8 + 4 * MIB)
    assert state * MIB < found <= (state + conv) * MIB


def test_layers_that_share_a_cache_take_none() -> None:
    whole = a_shape(10, 4, 2, 64)
    some = replace(whole, shared_kv_layers=4)
    settings = some_settings()
    shared, all_own = (memory.cache_bytes(a_model(shape=shape), settings) for shape in (some, whole))
    assert shared * 10 == all_own * 6


def test_an_encoder_keeps_nothing_between_tokens() -> None:
    model = a_model(shape=a_shape(causal=False), role=Role.EMBED)
    settings = some_settings(embedding=True)
    assert not memory.keeps_cache(model)
    assert memory.cache_bytes(model, settings) == memory.checkpoint_bytes(model, settings) == 0


def test_a_checkpoint_holds_the_window_and_nothing_of_the_full_layers() -> None:
    settings = some_settings(context_tokens=32768)
    cell = 2 * 256 * 2
    assert memory.checkpoint_bytes(a_model(shape=GEMMA), settings) == 5 * 768 * cell
    assert memory.checkpoint_bytes(a_model(), settings) == 0


@pytest.mark.parametrize("ubatch", [128, 512, 2048])
@pytest.mark.parametrize(("context", "slots", "unified", "attended"), [(4096, 1, False, 4096), (8192, 4, False, 2048)])
def test_compute_of_a_dense_model_follows_the_fit(
    ubatch: int, context: int, slots: int, unified: bool, attended: int
) -> None:
    shape = a_shape(4, 16, 8, 128, embedding=2048, feed_forward=(8192,) * 4)
    settings = some_settings(context_tokens=context, slots=slots, kv_unified=unified, ubatch_tokens=ubatch)
    expected = (3 * 8192 + 5 * 2048) * ubatch * 4 + 2 * attended * ubatch
    assert memory.compute_bytes(a_model(shape=shape), settings) == expected


LLAMA_8B = a_shape(32, 32, 8, 128, embedding=4096, feed_forward=(14336,) * 32, vocabulary=128_256)


@pytest.mark.parametrize(
    ("context", "slots", "unified", "flash", "mib"),
    [
        (4096, 1, False, True, 32.00), (32768, 4, True, True, 39.00), (131072, 4, False, True, 39.00),
        (4096, 1, False, False, 79.00), (32768, 4, False, False, 145.00), (131072, 1, False, False, 2125.00),
    ],
)  # fmt: skip
def test_compute_is_what_the_engine_logs_for_llama_8b(
    context: int, slots: int, unified: bool, flash: bool, mib: float
) -> None:
    settings = some_settings(
        context_tokens=context, slots=slots, kv_unified=unified, ubatch_tokens=128, flash_attention=flash
    )
    assert memory.compute_bytes(a_model(shape=LLAMA_8B), settings) == mib * MIB


def test_without_flash_attention_values_are_as_wide_in_every_layer_as_in_the_widest() -> None:
    shape = gemma4(6, 2, 8)
    on = some_settings(context_tokens=4096)
    off = replace(on, flash_attention=False)
    wider = (2048 - 1024) * 2 * 4096  # the one full layer: 2 heads of 512, the sliding ones 8 of 256
    assert memory.cache_bytes(a_model(shape=shape), off) - memory.cache_bytes(a_model(shape=shape), on) == wider


def test_an_ungated_network_keeps_less() -> None:
    model = a_model(shape=a_shape(embedding=384, feed_forward=(1536,) * 4, causal=False), role=Role.EMBED)
    settings = some_settings(context_tokens=256, ubatch_tokens=256, batch_tokens=256, embedding=True)
    mask = 256 * 256 * 2
    assert memory.compute_bytes(replace(model, architecture="bert"), settings) == (2 * 1536 + 384) * 256 * 4 + mask


def test_a_sliding_model_has_a_second_mask() -> None:
    settings = some_settings(context_tokens=16384)
    plain = replace(GEMMA, swa_layers=(), sliding_window=0)
    more = memory.compute_bytes(a_model(shape=GEMMA), settings) - memory.compute_bytes(a_model(shape=plain), settings)
    assert more == 1024 * 512 * 2


def test_compute_of_a_sparse_model_follows_the_active_experts() -> None:
    shape = a_shape(
        2, 32, 4, 64, embedding=2048, feed_forward=(0, 0), experts=128, experts_used=8, expert_feed_forward=768
    )
    settings = some_settings()
    expected = ((2 * 2048 + 768) * 8 + 3 * 2048) * 512 * 4 + 2 * 4096 * 512
    assert memory.compute_bytes(a_model(shape=shape), settings) == expected
    wider = replace(shape, expert_feed_forward=4096, shared_feed_forward=512)
    expected = 3 * (4096 * 8 + 512) * 512 * 4 + 5 * 2048 * 512 * 4 + 2 * 4096 * 512
    assert memory.compute_bytes(a_model(shape=wider), settings) == expected


def test_compute_of_compressed_attention_and_of_hybrids_is_more_than_dense() -> None:
    settings, ubatch = some_settings(), 512
    latent = replace(compressed(2), key_length_mla=256, embedding=256, feed_forward=(256,) * 2)
    mask = 4096 * ubatch * 2
    assert memory.compute_bytes(a_model(shape=latent), settings) == (20 * (2 * 576 + 256) + 5 * 256) * ubatch * 4 + mask
    states = state_space(4, 2, 1, 1)
    plain = memory.compute_bytes(a_model(shape=replace(states, recurrent=None)), settings)
    mixed = memory.compute_bytes(a_model(shape=states), settings)
    assert 1.25 < mixed / plain <= 1.35


def test_a_short_context_needs_no_more_than_its_own_batch() -> None:
    model = a_model()
    assert memory.compute_bytes(model, some_settings(context_tokens=256)) < memory.compute_bytes(
        model, some_settings(context_tokens=512)
    )


def test_outputs_are_logits_per_slot_or_embeddings_per_token() -> None:
    model = a_model(shape=a_shape(vocabulary=50_000))
    assert memory.output_bytes(model, some_settings(slots=2)) == 2 * 50_000 * 4
    assert memory.output_bytes(model, some_settings(embedding=True, batch_tokens=512)) == 256 * 512 * 4


@given(models(), st.integers(1, 100), st.integers(1, 8), st.booleans(), st.sampled_from((*CACHE_TYPES, "")))
def test_memory_never_shrinks_as_context_slots_or_batch_grow(
    model: Model, steps: int, slots: int, unified: bool, kind: str
) -> None:
    settings = some_settings(
        context_tokens=256 * steps * slots, slots=slots, kv_unified=unified, kv_type_k=kind or "f16",
        kv_type_v=kind or "f16", flash_attention=bool(kind),
    )  # fmt: skip
    grown = [
        replace(settings, context_tokens=settings.context_tokens + 256 * slots),
        replace(settings, slots=slots + 1, context_tokens=256 * steps * (slots + 1)),
    ]
    if model.shape.recurrent is None or not model.shape.recurrent.scan:
        # The copies of a scanned state find room in a larger batch's input: there the engine takes less for more.
        grown.append(replace(settings, ubatch_tokens=1024))
    for part in (memory.cache_bytes, memory.state_bytes, memory.compute_bytes, memory.output_bytes):
        for more in grown:
            assert 0 <= part(model, settings) <= part(model, more)


def delta(slots: int, ubatch: int) -> float:
    """Compute of Qwen3.6-27B in MiB, less its mask."""
    shape = replace(
        hybrid(64, 4, 6144, 5120, 17408),
        recurrent=Recurrent(
            conv_bytes=3 * 10240 * 4, state_bytes=128 * 6144 * 4, layers=slides(64, 4), channels=10240, inner=6144
        ),
    )
    settings = some_settings(context_tokens=4096, slots=slots, ubatch_tokens=ubatch)
    mask = 4096 // slots * ubatch * 2
    return (memory.compute_bytes(a_model(shape=shape), settings) - mask) / MIB


def test_states_of_the_slots_are_copied_where_that_is_more_than_the_feed_forward_network() -> None:
    # Logged by the engine: 38.0 at one slot and 128 tokens, 37.2 and 50.0 at four slots and 64 and 128, 152 at 512.
    assert delta(1, 128) == pytest.approx(38.0, abs=0.05)
    assert delta(4, 64) == pytest.approx(37.22, abs=0.05)
    assert delta(4, 128) == pytest.approx(49.97, abs=0.05)
    assert delta(4, 512) == pytest.approx(152.0, abs=0.05)


@pytest.mark.parametrize(
    ("slots", "ubatch", "mib"), [(1, 64, 12.14), (1, 512, 79.23), (4, 64, 27.33), (4, 128, 36.91), (4, 512, 86.91)]
)
def test_a_state_space_scan_is_as_the_engine_logs_it_for_mamba2(slots: int, ubatch: int, mib: float) -> None:
    states = Recurrent(
        conv_bytes=64_512, state_bytes=2_621_440, layers=(True,) * 64, channels=5376, inner=5120, scan=True
    )
    shape = a_shape(64, 0, 0, 0, embedding=2560, feed_forward=(0,) * 64, recurrent=states)
    settings = some_settings(context_tokens=4096, slots=slots, ubatch_tokens=ubatch)
    assert memory.compute_bytes(a_model(shape=shape), settings) / MIB == pytest.approx(mib, rel=0.003)


def test_compressed_values_are_copied_without_flash_attention_where_no_room_is_left_over() -> None:
    shape = replace(compressed(2), key_length_mla=256, embedding=2048, feed_forward=(10240,) * 2)
    short, long = (
        some_settings(context_tokens=context, ubatch_tokens=128, flash_attention=False) for context in (4096, 32768)
    )
    scores = 32768 * 128 * (20 + 1) * 4
    copied = 32768 * 512 * 2
    width = (20 * (2 * 576 + 256) + 5 * 2048) * 128 * 4
    assert memory.compute_bytes(a_model(shape=shape), long) == scores + copied + width
    assert memory.compute_bytes(a_model(shape=shape), short) == 4096 * 128 * (20 + 1) * 4 + width
