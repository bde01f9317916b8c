"""Where a plan begins: every setting that does not depend on how much memory there is."""

from bercail.core import memory
from bercail.core.budget import with_context
from bercail.core.engine import EngineSettings
from bercail.core.machine import Machine
from bercail.core.model import Format, Model, Pooling, Role
from bercail.core.options import EngineOptions, purpose_of
from bercail.core.units import Tokens

GENERATE_BATCH: Tokens = 128
"""A lost client is noticed after a batch, and its slot is free after one more at most. Larger ones gained nothing on a
CPU: a billion parameters at q8_0 on two cores read 25 to 35 tokens/s at 64, 128, 256 and 512 alike."""
GUESSES: Tokens = 3
"""Guessed ahead by a draft model, if nobody says how many: the engine's own default."""
GPU_BATCH: Tokens = 512
"""What keeps a GPU busy: its default in the engine."""


def usable_threads(machine: Machine) -> int:
    """Physical cores (the fast ones of a hybrid processor), no more than the CPU quota grants in full."""
    cpu = machine.cpu
    cores = cpu.performance_cores or cpu.physical_cores or len(cpu.logical_cpus)
    quota = int(cpu.quota_cpus) if cpu.quota_cpus is not None else cores
    return max(1, min(cores, quota))


def _prefill_threads(machine: Machine) -> int:
    cpu = machine.cpu
    cores = cpu.physical_cores or len(cpu.logical_cpus)
    quota = int(cpu.quota_cpus) if cpu.quota_cpus is not None else cores
    return max(1, min(cores, quota))


def _own_pooling(model: Model, *, embedding: bool) -> Pooling | None:
    """For models that name no pooling: without one, clients get no embedding.

    The mean, but of a folder exported to embed whose tokens see only those before them the last one, for it alone has
    seen all; GGUF files of such models name theirs.
    """
    unsaid = model.pooling is None or model.pooling is Pooling.NONE
    if not embedding or not unsaid or (model.role is not Role.GENERATE and model.format is Format.GGUF):
        return None
    return Pooling.LAST if model.role is Role.EMBED and model.shape.causal else Pooling.MEAN


def embeds(model: Model, wish: EngineOptions) -> bool:
    """Whether it is started to embed, or to rank, rather than to generate."""
    wanted = purpose_of(wish).embedding or model.role is not Role.GENERATE
    return wanted if wish.embedding is None else wish.embedding


def begin(machine: Machine, model: Model, wish: EngineOptions) -> EngineSettings:
    """Everything but the context, which starts at what was asked or what the model was made for."""
    embedding = embeds(model, wish)
    pooling = Pooling(wish.pooling) if wish.pooling else _own_pooling(model, embedding=embedding)
    usual = GPU_BATCH if machine.gpus else GENERATE_BATCH
    ubatch = wish.ubatch or wish.batch or usual
    threads = wish.threads or usable_threads(machine)
    settings = EngineSettings(
        context_tokens=0,
        slots=wish.slots or 1,
        kv_unified=memory.pools_wrongly_apart(model, wish.slots or 1, pooling, embedding=embedding)
        if wish.kv_unified is None
        else wish.kv_unified,
        batch_tokens=wish.batch or max(usual, ubatch),
        ubatch_tokens=ubatch,
        kv_type_k=wish.kv_type_k or "f16",
        kv_type_v=wish.kv_type_v or "f16",
        flash_attention=wish.flash_attention is not False,
        threads=threads,
        threads_batch=wish.threads_batch or (wish.threads or _prefill_threads(machine)),
        # Drivers of GPUs without memory of their own cannot take a mapping: the engine reads the file for them itself.
        mmap=not any(gpu.shared for gpu in machine.gpus) if wish.mmap is None else wish.mmap,
        repack=wish.repack is not False,
        embedding=embedding,
        pooling=pooling,
        prompt_cache_bytes=wish.prompt_cache or 0,
        draft_tokens=(wish.draft_tokens or GUESSES) if model.draft else wish.mtp or 0,
    )
    asked = wish.context or model.context_length
    # The engine rounds up to whole steps; the plan does so first, where the model allows it, and says it.
    return with_context(model, settings, max(asked, min(memory.pad(asked, memory.CELL_STEP), model.context_length)))
