"""What is launched, and the life of an engine: its state and the next step after each event."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    @property
    def slot_context_tokens(self) -> Tokens:
        """The longest prompt and answer one request may have."""
        return self.context_tokens if self.kv_unified else self.context_tokens // self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One engine process to be.

    Attributes:
        model_id: the name clients use.
        model_path: first file of the model.
        weights_bytes: for progress.
        projector_path: ``mmproj`` file, or None.
        chat_template: replaces the file's own where that one is unusable; None keeps it.
        environment: added to the engine's environment.
    """

    model_id: str
    model_path: str
    weights_bytes: Bytes
    settings: EngineSettings
    projector_path: str | None = None
    chat_template: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine listens: a unix socket, or a port on loopback."""

    unix_path: str | None = None
    host: str = "127.0.0.1"
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.unix_path}" if self.unix_path else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Weights are being loaded: ``fraction`` runs from 0 to 1 in each ``stage`` (``weights``, ``projector``)."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an engine process ended.

    Attributes:
        code: exit status, negative for the signal that killed it.
        log_tail: its last lines, oldest first.
    """

    code: int
    log_tail: tuple[str, ...]

    def __str__(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit status {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVerdict:
    """Whether the engine's own renderer can use a chat template.

    Attributes:
        usable: chat may be offered.
        why: if not, what went wrong, in words.
        tools: the renderer found that the template handles tools.
    """

    usable: bool
    why: str = ""
    tools: bool = False
