"""Engines that are at hand, and the settings of one: every one explicit, nothing left to its defaults."""

from dataclasses import dataclass
from enum import StrEnum

from bercail.core.machine import Gpu
from bercail.core.model import Format, Pooling
from bercail.core.units import Bytes, Tokens


class Make(StrEnum):
    """Where an engine comes from, and so which instructions of the processor it uses."""

    EMBEDDED = "embedded"
    """In the box: AVX2 on x86-64, and nothing newer."""
    NATIVE = "native"
    """Built here for this processor."""
    PORTABLE = "portable"
    """With kernels for every processor, the best chosen when it starts."""
    LIBRARY = "library"
    """Another project's library in our worker: it uses what it can."""
    FOUND = "found"
    """Somebody else's: what it uses is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An engine that is at hand.

    Attributes:
        name: ``llama.cpp`` ...
        id: what tells it from others: ``embedded``, the id of a build, or the path of a program.
        target: what it computes on: ``cpu``, ``cuda`` ...
        processor: what it was built for, in words; empty if it runs on others as well.
        reads: formats of models it can load.
        lacks: what of requests it refuses, by the names that clients use.
        batches: requests that run at once share its steps; otherwise they take turns.
        gpus: what it saw when it was last asked, in its order.
        trouble: why it sees none although it was made for some, or could not be asked; empty if all is well.
    """

    name: str
    id: str
    make: Make
    target: str = "cpu"
    processor: str = ""
    reads: tuple[Format, ...] = (Format.GGUF,)
    lacks: tuple[str, ...] = ()
    batches: bool = True
    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""

    def __str__(self) -> str:
        return self.name if self.make in (Make.EMBEDDED, Make.LIBRARY) else f"{self.name} ({self.id})"


EMBEDDED = Offer(name="llama.cpp", id="embedded", make=Make.EMBEDDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The engine that is to run a model, and why that one."""

    offer: Offer
    because: str


IN_THE_BOX = Choice(offer=EMBEDDED, because="in the box")


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
        cores: CPUs that it is kept to; empty is all that may be used.
        numa: node that all its memory comes from, or None.
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
        devices: the engine's names of the GPUs that hold layers, in the order of ``layer_split``; ``none`` keeps it off
            all that it sees. Empty leaves that to the engine.
        cpu_experts: the routed experts of so many first layers stay in main memory.
        draft_tokens: guessed ahead by a draft model or the model's own drafting head (MTP); 0 loads neither.
        precision: type of number that it computes in, where it can be told one.
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
    devices: tuple[str, ...] = ()
    cpu_experts: int = 0
    draft_tokens: int = 0
    precision: str = ""
    cores: tuple[int, ...] = ()
    numa: int | None = None

    @property
    def slot_context_tokens(self) -> Tokens:
        """The longest prompt and answer one request may have."""
        return self.context_tokens if self.kv_unified else self.context_tokens // self.slots
