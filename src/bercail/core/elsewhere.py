"""The settings of a plan in the words of other programs: llama-server's command line, llama-swap's YAML."""

import json
import shlex

from bercail.core.cpulist import format_cpulist
from bercail.core.engine import EngineSettings
from bercail.core.units import MIB


def llama_server(
    model_path: str,
    projector: str | None,
    settings: EngineSettings,
    *,
    drafting_layers: int = 0,
    draft_path: str | None = None,
) -> tuple[str, ...]:
    """The arguments of `llama-server` (b11549) that run a model with the settings of a plan.

    Args:
        model_path: first file of the model.
        projector: its ``mmproj`` file, or None.
        settings: of the plan.
        drafting_layers: blocks of a drafting head in the file, which the engine counts even if it loads none.
        draft_path: file of the draft model, or None.
    """
    prompt_cache = settings.prompt_cache_bytes // MIB
    return (
        *_binding(settings), "llama-server", "--model", model_path,
        *(("--mmproj", projector) if projector else ("--no-mmproj",)),
        *_gpu_arguments(settings, drafting_layers), "--fit", "off",
        "--load-mode", "mmap" if settings.mmap else "none",
        "--repack" if settings.repack else "--no-repack",
        "--ctx-size", str(settings.context_tokens), "--parallel", str(settings.slots),
        "--kv-unified" if settings.kv_unified else "--no-kv-unified",
        "--cache-type-k", settings.kv_type_k, "--cache-type-v", settings.kv_type_v,
        "--flash-attn", "on" if settings.flash_attention else "off",
        "--batch-size", str(settings.batch_tokens), "--ubatch-size", str(settings.ubatch_tokens),
        "--threads", str(settings.threads), "--threads-batch", str(settings.threads_batch),
        "--cache-ram", str(prompt_cache), "--cache-idle-slots" if prompt_cache else "--no-cache-idle-slots",
        "--ctx-checkpoints", str(settings.checkpoints), "--no-context-shift", "--jinja",
        *(("--swa-full",) if settings.swa_full else ()),
        *(("--embedding",) if settings.embedding else ()),
        *(("--pooling", settings.pooling.value) if settings.pooling else ()),
        *(() if settings.warmup else ("--no-warmup",)),
        *_draft_arguments(settings, draft_path),
    )  # fmt: skip


def _binding(settings: EngineSettings) -> tuple[str, ...]:
    """What keeps a program to some CPUs, and to the memory of a node."""
    if not settings.cores:
        return ()
    cpus = format_cpulist(settings.cores)
    if settings.numa is None:
        return ("taskset", "--cpu-list", cpus)
    return ("numactl", f"--physcpubind={cpus}", f"--membind={settings.numa}")


def _draft_arguments(settings: EngineSettings, draft_path: str | None) -> tuple[str, ...]:
    """Who guesses ahead, if anybody."""
    if not settings.draft_tokens:
        return ()
    who = (
        ("--spec-type", "draft-simple", "--spec-draft-model", draft_path)
        if draft_path
        else ("--spec-type", "draft-mtp")
    )
    alone = settings.split_mode != "tensor" and settings.layer_split and settings.devices
    where = ("--spec-draft-device", settings.devices[-1], "--spec-draft-ngl", _ALL) if alone and draft_path else ()
    return (*who, *where, "--spec-draft-n-max", str(settings.draft_tokens))


_ALL = "999"


def _gpu_arguments(settings: EngineSettings, drafting_layers: int) -> tuple[str, ...]:
    """Where the layers go; what comes after the last one counts as one more, on the GPU that has it."""
    named = ("--device", ",".join(settings.devices)) if settings.devices else ()
    if not settings.layer_split:
        return (*named, "--gpu-layers", "0", "--no-kv-offload", "--no-mmproj-offload")
    if settings.split_mode == "tensor":
        return (*named, "--gpu-layers", _ALL, "--split-mode", "tensor")
    # Named devices are those that hold something: the engine then opens no other, and counts among these.
    held = [count for count in settings.layer_split if count or not settings.devices]
    used = max(index for index, count in enumerate(held) if count)
    after = drafting_layers + 1
    counts = [count + after * (index == used) for index, count in enumerate(held)]
    where = ("--split-mode", "layer", "--tensor-split", ",".join(map(str, counts)))
    alone = ("--split-mode", "none", "--main-gpu", str(used))
    return (
        *named, "--gpu-layers", str(sum(counts)), *(where if settings.split_mode == "layer" else alone),
        *(("--n-cpu-moe", str(settings.cpu_experts)) if settings.cpu_experts else ()),
    )  # fmt: skip


def llama_swap(model_id: str, arguments: tuple[str, ...]) -> str:
    """A llama-swap configuration of one model that runs `arguments` on the port it is given."""
    command = shlex.join((*arguments, "--host", "127.0.0.1"))
    lines = (
        "models:",
        f"  {json.dumps(model_id, ensure_ascii=False)}:",
        "    cmd: |",
        f"      {command} --port ${{PORT}}",
    )
    return "\n".join((*lines, "    checkEndpoint: /health\n"))
