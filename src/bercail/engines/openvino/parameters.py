"""What to launch -> the parameters of the worker of OpenVINO. Pure.

Source: ``openvino.properties`` (``KV_CACHE_PRECISION``, ``INFERENCE_NUM_THREADS``, ``PERFORMANCE_HINT``); blocks of the
cache hold 32 tokens on CPUs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.core.model import Pooling
from bercail.core.units import Tokens

BLOCK_TOKENS: Tokens = 32
CACHE_PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "q8_0": "u8", "q4_0": "u4"}
"""Types of the KV cache as both name them; the groups that share a scale differ in size."""

LACKS = ("logprobs", "tools", "grammar", "logit_bias", "n")
"""What of requests is refused."""
POOLINGS = (Pooling.MEAN, Pooling.CLS, Pooling.LAST)
"""How its graphs can be made to pool."""
PRECISION = "f32"
"""Of the arithmetic, where the plan names none. Left alone, processors with bfloat16 compute in that, and vectors then
differ in the second decimal place from those of the same model elsewhere."""
MOST_TEXT_TOKENS: Tokens = 1024
"""Of short texts in one step, however much the plan allows: beyond that nothing gets faster (MiniLM, two cores: 32, 64
and 128 texts of 20 tokens alike), and a step is how long a client that left is still worked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything the worker is started with.

    Attributes:
        context_tokens: prompt and answer of one request at most.
        blocks: of the KV cache, over all slots.
        slots: requests that run at once.
        batch_tokens: of all requests together in one step; of texts, with what the shorter ones are filled up with.
        pooling: how it embeds; empty to generate.
        properties: of the device's plugin.
    """

    model_id: str
    model_path: str
    listen: str
    context_tokens: Tokens
    blocks: int
    slots: int
    batch_tokens: Tokens
    pooling: str = ""
    device: str = "CPU"
    properties: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: LaunchSpec, listen: str) -> "Parameters":
        """For a launch.

        Raises:
            ValueError: it asks for what OpenVINO has not, named.
        """
        settings = spec.settings
        for name, asked in (("a projector", spec.projector_path), ("drafting", settings.draft_tokens)):
            if asked:
                raise ValueError(f"{name} is not served by OpenVINO yet; take --engine embedded")
        embeds = settings.embedding
        batch = max(settings.batch_tokens, settings.ubatch_tokens)
        shared = -(-settings.context_tokens // BLOCK_TOKENS)
        return cls(
            model_id=spec.model_id,
            model_path=spec.model_path,
            listen=listen,
            context_tokens=settings.slot_context_tokens,
            blocks=0 if embeds else shared + settings.slots,
            slots=settings.slots,
            batch_tokens=min(batch, MOST_TEXT_TOKENS) if embeds else batch,
            pooling=_pooling(spec) if embeds else "",
            properties={
                "INFERENCE_PRECISION_HINT": settings.precision or PRECISION,
                **({} if embeds else _cache(settings)),
                "INFERENCE_NUM_THREADS": settings.threads_batch,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Parameters":
        """From what ``document`` wrote."""
        return cls(**values)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def _cache(settings: EngineSettings) -> Mapping[str, str]:
    if settings.kv_type_k != settings.kv_type_v:
        raise ValueError("OpenVINO keeps keys and values in one type: kv_type_k and kv_type_v must be equal")
    if settings.kv_type_k not in CACHE_PRECISIONS:
        known = ", ".join(CACHE_PRECISIONS)
        raise ValueError(f"OpenVINO has no {settings.kv_type_k} cache; it has {known}")
    return {"KV_CACHE_PRECISION": CACHE_PRECISIONS[settings.kv_type_k]}


def _pooling(spec: LaunchSpec) -> str:
    if spec.model_path.lower().endswith(".gguf"):
        raise ValueError("OpenVINO embeds with folders of its own format, not with GGUF files; take --engine embedded")
    pooling = spec.settings.pooling
    if pooling not in POOLINGS:
        raise ValueError(
            f"OpenVINO pools by {', '.join(POOLINGS)}, not {pooling or 'as nobody says'}: name one with --pooling"
        )
    return pooling
