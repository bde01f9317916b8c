"""The settings of an engine: every one explicit, nothing left to its defaults."""

from dataclasses import dataclass

from bercail.core.model import Pooling
from bercail.core.units import Bytes, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Every setting an engine is started with; nothing is left to its defaults.

    Attributes:
        context_tokens: KV cells over all slots together.
        slots: requests that run at once.
        kv_unified: one pool for all slots instead of an equal share each.
        batch_tokens: logical batch.
        ubatch_tokens: physical batch; drives the compute buffer.
        kv_type_k: type of the key cache, a name of ``core.quant.CACHE_TYPES``.
        kv_type_v: type of the value cache.
        flash_attention: on or off, never automatic.
        threads: for decode.
        threads_batch: for prefill.
        mmap: map the weights instead of reading them into memory.
        repack: rearrange quantized weights for the CPU at load; they then live outside the file mapping.
        embedding: start for embeddings; generation is then not served.
        pooling: how embeddings are pooled, or None for the model's own.
        prompt_cache_bytes: RAM for saved prompts of idle slots.
        checkpoints: saved states per slot of models whose cache cannot be cut (sliding window, recurrent).
        swa_full: a sliding-window cache of full size.
        warmup: one empty run after loading.
        split_mode: how GPUs share the model: ``none`` (one of them), ``layer``, ``tensor``.
        layer_split: layers on each GPU, in order, those before them staying in main memory; with ``tensor`` a 1 for
            each GPU, which has a slice of every layer. Empty without GPUs.
        cpu_experts: the routed experts of so many first layers stay in main memory.
        draft_tokens: guessed ahead by a draft model or the model's own drafting head (MTP); 0 loads neither.
    """

    context_tokens: Tokens
    slots: int
    kv_unified: bool
    batch_tokens: Tokens
    ubatch_tokens: Tokens
    kv_type_k: str
    kv_type_v: str
    flash_attention: bool
    threads: int
    threads_batch: int
    mmap: bool
    repack: bool
    embedding: bool = False
    pooling: Pooling | None = None
    prompt_cache_bytes: Bytes = 0
    checkpoints: int = 0
    swa_full: bool = False
    warmup: bool = True
    split_mode: str = "none"
    layer_split: tuple[int, ...] = ()
    cpu_experts: int = 0
    draft_tokens: int = 0

    @property
    def slot_context_tokens(self) -> Tokens:
        """The longest prompt and answer one request may have."""
        return self.context_tokens if self.kv_unified else self.context_tokens // self.slots
