"""What to launch -> the parameters of the worker: plain data, every setting explicit."""

from collections.abc import Mapping
from typing import TypeAlias

from bercail.core.launch import LaunchSpec
from bercail.core.units import MIB, Bytes

Parameter: TypeAlias = str | int | float | bool | list[str]

BUILD = "b11549"
RELEASE = "2026.10.11549"
"""Of the package `xllamacpp`, which is that build."""

LOADING_VERBOSITY = 4
SERVING_VERBOSITY = 3
SPARE_HTTP_THREADS = 4
HTTP_TIMEOUT_S = 3600


def render(spec: LaunchSpec, listen: str) -> Mapping[str, Parameter]:
    """The worker's parameters for ``spec``.

    Names are those of ``common_params`` of llama.cpp b11549, dots lead into its parts, and enumerations go by the
    names of their members.

    Args:
        spec: what to launch.
        listen: path of a unix socket that ends in ``.sock``, or a loopback address; the port is then free to choose.
    """
    return {**_model(spec), **_memory(spec), **_work(spec), **_serving(spec, listen)}


def _model(spec: LaunchSpec) -> dict[str, Parameter]:
    return {
        "model.path": spec.model_path,
        "model_alias": [spec.model_id],
        "mmproj.path": spec.projector_path or "",
        "no_mmproj": spec.projector_path is None,
        "mmproj_use_gpu": False,
        "chat_template": spec.chat_template or "",
        "use_jinja": True,
        "reasoning_format": "COMMON_REASONING_FORMAT_AUTO",
        "offline": True,
        "load_mode": "LLAMA_LOAD_MODE_MMAP" if spec.settings.mmap else "LLAMA_LOAD_MODE_NONE",
        "no_extra_bufts": not spec.settings.repack,
        "check_tensors": False,
        "n_gpu_layers": 0,
        # The plan is ours: the engine would shrink the context without a word.
        "fit_params": False,
    }


def _memory(spec: LaunchSpec) -> dict[str, Parameter]:
    settings = spec.settings
    return {
        "n_ctx": settings.context_tokens,
        "n_parallel": settings.slots,
        "kv_unified": settings.kv_unified,
        "cache_type_k": f"GGML_TYPE_{settings.kv_type_k.upper()}",
        "cache_type_v": f"GGML_TYPE_{settings.kv_type_v.upper()}",
        "no_kv_offload": True,
        "swa_full": settings.swa_full,
        "cache_ram_mib": prompt_cache_mib(settings.prompt_cache_bytes),
        # It saves the prompt of an idle slot into that memory: pointless, and a loss, without any.
        "cache_idle_slots": settings.prompt_cache_bytes >= MIB,
        "n_ctx_checkpoints": settings.checkpoints,
        "ctx_shift": False,
    }


def _work(spec: LaunchSpec) -> dict[str, Parameter]:
    settings = spec.settings
    pooling = settings.pooling.value if settings.pooling is not None else "unspecified"
    return {
        "n_batch": settings.batch_tokens,
        "n_ubatch": settings.ubatch_tokens,
        "flash_attn_type": f"LLAMA_FLASH_ATTN_TYPE_{'ENABLED' if settings.flash_attention else 'DISABLED'}",
        "cpuparams.n_threads": settings.threads,
        "cpuparams_batch.n_threads": settings.threads_batch,
        "numa": "GGML_NUMA_STRATEGY_DISABLED",
        "cont_batching": True,
        "embedding": settings.embedding,
        "pooling_type": f"LLAMA_POOLING_TYPE_{pooling.upper()}",
        "warmup": settings.warmup,
        "speculative.types": [f"COMMON_SPECULATIVE_TYPE_{_drafting(spec)}"],
        "speculative.draft.n_max": max(settings.draft_tokens, 1),
        "speculative.draft.mparams.path": spec.draft_path or "",
    }


def _drafting(spec: LaunchSpec) -> str:
    """Who guesses ahead: a model of its own, or the drafting head."""
    if not spec.settings.draft_tokens:
        return "NONE"
    return "DRAFT_SIMPLE" if spec.draft_path else "DRAFT_MTP"


def _serving(spec: LaunchSpec, listen: str) -> dict[str, Parameter]:
    return {
        "hostnames": [listen],
        "port": 0,
        "ui": False,
        "endpoint_slots": True,
        "slot_save_path": spec.slot_folder,
        "endpoint_metrics": True,
        "endpoint_props": False,
        # One thread per open connection; the engine adds more as needed, up to 1,024.
        "n_threads_http": spec.settings.slots + SPARE_HTTP_THREADS,
        "timeout_read": HTTP_TIMEOUT_S,
        "timeout_write": HTTP_TIMEOUT_S,
        # The gateway keeps clients' connections alive itself, and holds headers until the first real byte.
        "sse_ping_interval": 0,
        # Pages of a browser have no business here, not even on loopback.
        "cors_origins": "null",
        "cors_credentials": False,
        # While it loads, it says where everything lands; `worker` silences that afterwards.
        "verbosity": LOADING_VERBOSITY,
    }


def prompt_cache_mib(size_bytes: Bytes) -> int:
    """The engine counts its prompt cache in MiB; rounded down, 0 is none."""
    return max(size_bytes, 0) // MIB
