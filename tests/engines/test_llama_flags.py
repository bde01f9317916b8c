"""From a launch to the worker's parameters."""

from dataclasses import replace

import pytest

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.core.model import Pooling
from bercail.core.quant import CACHE_TYPES
from bercail.core.units import MIB
from bercail.engines.llama_cpp import flags, worker

SETTINGS = EngineSettings(
    context_tokens=4096, slots=2, kv_unified=True, batch_tokens=256, ubatch_tokens=128, kv_type_k="q8_0",
    kv_type_v="f16", flash_attention=True, threads=3, threads_batch=5, mmap=False, repack=True,
)  # fmt: skip
SPEC = LaunchSpec(model_id="m", model_path="/m.gguf", weights_bytes=1, settings=SETTINGS)


def test_every_setting_reaches_the_engine() -> None:
    values = flags.render(SPEC, "/s.sock")
    expected = {
        "model.path": "/m.gguf", "model_alias": ["m"], "n_ctx": 4096, "n_parallel": 2, "kv_unified": True,
        "n_batch": 256, "n_ubatch": 128, "cache_type_k": "GGML_TYPE_Q8_0", "cache_type_v": "GGML_TYPE_F16",
        "flash_attn_type": "LLAMA_FLASH_ATTN_TYPE_ENABLED", "cpuparams.n_threads": 3, "cpuparams_batch.n_threads": 5,
        "load_mode": "LLAMA_LOAD_MODE_NONE", "no_extra_bufts": False, "hostnames": ["/s.sock"], "warmup": True,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        ({"mmap": True}, "load_mode", "LLAMA_LOAD_MODE_MMAP"),
        ({"repack": False}, "no_extra_bufts", True),
        ({"flash_attention": False}, "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_DISABLED"),
        ({"embedding": True}, "embedding", True),
        ({"pooling": Pooling.MEAN}, "pooling_type", "LLAMA_POOLING_TYPE_MEAN"),
        ({"pooling": None}, "pooling_type", "LLAMA_POOLING_TYPE_UNSPECIFIED"),
        ({"prompt_cache_bytes": 3 * MIB - 1}, "cache_ram_mib", 2),
        ({"prompt_cache_bytes": MIB - 1}, "cache_idle_slots", False),
        ({"prompt_cache_bytes": MIB}, "cache_idle_slots", True),
        ({"checkpoints": 7}, "n_ctx_checkpoints", 7),
        ({"swa_full": True}, "swa_full", True),
        ({"warmup": False}, "warmup", False),
    ],
)
def test_each_setting_has_its_parameter(change: dict[str, object], name: str, expected: object) -> None:
    settings = replace(SETTINGS, **change)  # type: ignore[arg-type]
    assert flags.render(replace(SPEC, settings=settings), "/s.sock")[name] == expected


@pytest.mark.parametrize(
    ("draft_path", "tokens", "kind"),
    [(None, 0, "NONE"), (None, 2, "DRAFT_MTP"), ("/d.gguf", 2, "DRAFT_SIMPLE")],
)
def test_who_guesses_ahead(draft_path: str | None, tokens: int, kind: str) -> None:
    spec = replace(SPEC, settings=replace(SETTINGS, draft_tokens=tokens), draft_path=draft_path)
    values = flags.render(spec, "/s.sock")
    assert values["speculative.types"] == [f"COMMON_SPECULATIVE_TYPE_{kind}"]
    assert values["speculative.draft.mparams.path"] == (draft_path or "")


def test_engine_never_fits_fetches_or_offloads_on_its_own() -> None:
    values = flags.render(SPEC, "/s.sock")
    assert values["fit_params"] is False
    assert values["offline"] is True
    assert values["n_gpu_layers"] == 0
    assert values["ui"] is False
    assert "no_alloc" not in values


@pytest.mark.engine
@pytest.mark.parametrize("kv_type", CACHE_TYPES)
@pytest.mark.parametrize("pooling", [None, *Pooling])
def test_this_build_of_the_library_knows_every_parameter(kv_type: str, pooling: Pooling | None) -> None:
    library = pytest.importorskip("xllamacpp")
    settings = replace(SETTINGS, kv_type_k=kv_type, pooling=pooling)
    params = library.CommonParams()
    worker.apply(params, flags.render(replace(SPEC, settings=settings), "/s.sock"))
    assert params.cpuparams.n_threads == 3
    assert params.model_alias == {"m"}
    assert params.cache_type_k.name == f"GGML_TYPE_{kv_type.upper()}"


@pytest.mark.engine
def test_unknown_parameter_is_refused() -> None:
    library = pytest.importorskip("xllamacpp")
    with pytest.raises(AttributeError, match="frobnication"):
        worker.apply(library.CommonParams(), {"frobnication": 1})
