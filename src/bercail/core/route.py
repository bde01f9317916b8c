"""A model as clients see it, and what they can expect of it right now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bercail.core.begin import embeds
from bercail.core.configuration import Selector
from bercail.core.model import Capability, Format, Model, Role
from bercail.core.options import EngineOptions
from bercail.core.overflow import Overflow
from bercail.core.plan import Fits
from bercail.core.units import Bytes, Seconds, Tokens


class Phase(StrEnum):
    """What a client can expect of a model right now."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model as clients see it.

    Attributes:
        id: the name clients use.
        phase: resident, loading, on disk only, or broken.
        created: modification time of the file, unix seconds.
        context_length: tokens the model was made for; None while its header has not been read.
        slot_context_tokens: longest prompt and answer of one request as loaded; None while it is not.
        wished_context_tokens: the same as it is to be loaded; None if nobody says.
        slots: requests that run at once as loaded; None while it is not.
        capabilities: what may be asked of it; empty while its header has not been read.
        parameter_count: None while its header has not been read.
        vector_values: of each embedding, where its engine makes none of another size; None if that is not known.
        chat_refusal: why chat is disabled, or empty.
        error: why it failed or cannot be loaded, or empty.
        progress: of loading, 0 to 1; None unless it is loading.
        format: how it is kept on disk; None while its header has not been read.
        engine: that runs it; None while none does.
        lacks: what of requests that engine refuses.
        batches: requests that run at once share its steps, or take turns; None while no engine that is known runs it.
        plain: nothing is to be added to its requests: it is not known to be llama.cpp's server.
        name: for people, if a configuration gives it one.
        description: likewise.
        unlisted: it is served, and not listed.
        aliases: other names that clients may use.
        metadata: what a configuration says of it to clients.
        also: names under which it is listed as well, and whether each is an ``alias`` or of a ``profile``.
        selectors: that mean it at this moment, and are listed.
        asked: the name by which a client asked for it, what a profile makes of it; empty if nobody did.
        overflow: what becomes of a prompt that is too long; None if nothing is said of it.
        requests: that it serves.
        waiting: for it.
        planned_bytes: memory of all devices that its plan takes as loaded; None while it is not, or nobody knows.
        held_bytes: the same without what the plan leaves free.
        held_gpu_bytes: of these, on GPUs.
        cores: CPUs that its engine is kept to; empty is all, or that it is not loaded.
        numa: node that all its memory comes from, or None.
        cores_because: why these CPUs; empty while it is not loaded.
        loads: how often it was loaded since the server started.
        swaps: how often it then made room for another.
        ignores_websockets: they neither load it nor keep it in memory.
        tells_loading: streams that wait for it say how that goes.
        started_by: command line, as a shell would read it, that a configuration starts it by; empty otherwise.
        address: where its server answers; empty while it is not loaded.
        ttl_s: it leaves memory after so long without a request; None is never.
    """

    id: str
    phase: Phase
    created: int
    file_bytes: Bytes
    context_length: Tokens | None = None
    slot_context_tokens: Tokens | None = None
    wished_context_tokens: Tokens | None = None
    slots: int | None = None
    capabilities: tuple[Capability, ...] = ()
    architecture: str | None = None
    quantization: str | None = None
    parameter_count: int | None = None
    vocabulary: int | None = None
    vector_values: int | None = None
    chat_refusal: str = ""
    error: str = ""
    progress: float | None = None
    format: str | None = None
    engine: str | None = None
    lacks: tuple[str, ...] = ()
    batches: bool | None = None
    plain: bool = False
    name: str = ""
    description: str = ""
    unlisted: bool = False
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    selectors: tuple[Selector, ...] = ()
    asked: str = ""
    overflow: Overflow | None = None
    requests: int = 0
    waiting: int = 0
    planned_bytes: Bytes | None = None
    held_bytes: Bytes | None = None
    held_gpu_bytes: Bytes | None = None
    cores: tuple[int, ...] = ()
    numa: int | None = None
    cores_because: str = ""
    loads: int = 0
    swaps: int = 0
    ignores_websockets: bool = False
    tells_loading: bool = False
    started_by: str = ""
    address: str = ""
    ttl_s: Seconds | None = None

    @property
    def usable_context_tokens(self) -> Tokens | None:
        """Longest prompt and answer of one request as it is loaded, or as it would be; None if that is not known."""
        return self.slot_context_tokens or self.wished_context_tokens or self.context_length


_MADE_TO_BE_ASKED = (Role.GENERATE, Role.EMBED, Role.RERANK)


def offered(
    model: Model, wish: EngineOptions, chat_refusal: str = "", plan: Fits | None = None
) -> tuple[Capability, ...]:
    """What may be asked of a model as it is loaded by ``plan``, or as it would be.

    Args:
        model: what its file says it can.
        wish: what it is to be started for.
        chat_refusal: why chat is disabled for it, or empty.
        plan: None while it is not loaded.
    """
    if model.role not in _MADE_TO_BE_ASKED:
        return ()
    if plan.settings.embedding if plan else embeds(model, wish):
        return (Capability.RERANK,) if model.role is Role.RERANK else (Capability.EMBEDDINGS,)
    without: set[Capability] = {Capability.CHAT, Capability.TOOLS} if chat_refusal else set()
    if plan.projector is None if plan else wish.vision is False:
        without |= {Capability.VISION, Capability.AUDIO}
    kept = tuple(capability for capability in model.capabilities if capability not in without)
    # Without a template of its own llama.cpp speaks ChatML; flows.prepare says so when it loads.
    adds = Capability.CHAT not in kept and not chat_refusal and model.format is Format.GGUF
    return (Capability.CHAT, *kept) if adds else kept


def nothing_served(models: Sequence[ServedModel]) -> str:
    """That no model of all there are can be loaded, with the reason of each, in words; empty if one may be."""
    if not models or any(model.phase is not Phase.FAILED for model in models):
        return ""
    reasons = "; ".join(f"{model.id}: {model.error}" for model in models[:_MOST_TOLD])
    more = f"; and {len(models) - _MOST_TOLD} more" if len(models) > _MOST_TOLD else ""
    count = "THE ONLY MODEL CANNOT" if len(models) == 1 else f"NONE OF {len(models)} MODELS CAN"
    return f"{count} BE LOADED, so every request will fail: {reasons}{more}"


_MOST_TOLD = 4
