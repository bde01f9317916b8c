"""What to launch -> the parameters of the worker of OpenVINO. Pure.

Source: ``openvino.properties`` (``KV_CACHE_PRECISION``, ``INFERENCE_NUM_THREADS``, ``PERFORMANCE_HINT``); blocks of the
cache hold 32 tokens on CPUs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bercail.core.launch import LaunchSpec
from bercail.core.units import Tokens

BLOCK_TOKENS: Tokens = 32
CACHE_PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "q8_0": "u8", "q4_0": "u4"}
"""Types of the KV cache as both name them; the groups that share a scale differ in size."""

LACKS = ("logprobs", "tools", "grammar", "logit_bias", "n")
"""What of requests is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything the worker is started with.

    Attributes:
        context_tokens: prompt and answer of one request at most.
        blocks: of the KV cache, over all slots.
        slots: requests that run at once.
        batch_tokens: of all requests together in one step.
        properties: of the device's plugin.
    """

    model_id: str
    model_path: str
    listen: str
    context_tokens: Tokens
    blocks: int
    slots: int
    batch_tokens: Tokens
    device: str = "CPU"
    properties: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: LaunchSpec, listen: str) -> "Parameters":
        """For a launch.

        Raises:
            ValueError: it asks for what OpenVINO has not, named.
        """
        settings = spec.settings
        if settings.kv_type_k != settings.kv_type_v:
            raise ValueError("OpenVINO keeps keys and values in one type: kv_type_k and kv_type_v must be equal")
        if settings.kv_type_k not in CACHE_PRECISIONS:
            known = ", ".join(CACHE_PRECISIONS)
            raise ValueError(f"OpenVINO has no {settings.kv_type_k} cache; it has {known}")
        for name, asked in (("an embedding engine", settings.embedding), ("a projector", spec.projector_path),
                            ("drafting", settings.draft_tokens)):  # fmt: skip
            if asked:
                raise ValueError(f"{name} is not served by OpenVINO yet; take --engine embedded")
        shared = -(-settings.context_tokens // BLOCK_TOKENS)
        return cls(
            model_id=spec.model_id,
            model_path=spec.model_path,
            listen=listen,
            context_tokens=settings.slot_context_tokens,
            blocks=shared + settings.slots,
            slots=settings.slots,
            batch_tokens=max(settings.batch_tokens, settings.ubatch_tokens),
            properties={
                "KV_CACHE_PRECISION": CACHE_PRECISIONS[settings.kv_type_k],
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
