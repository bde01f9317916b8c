"""What to launch -> the parameters of the worker of ONNX Runtime GenAI. Pure.

Source: ``genai_config.json`` of onnxruntime-genai 0.18 (``session_options``, ``search``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bercail.core.launch import LaunchSpec
from bercail.core.units import Tokens

LACKS = ("logprobs", "tools", "grammar", "logit_bias", "n", "min_p", "presence_penalty", "frequency_penalty")
"""What of requests is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything the worker is started with.

    Attributes:
        context_tokens: prompt and answer of one request at most.
        slots: requests that are worked on at once, a token of each in turn.
        step_tokens: of a prompt at once; between steps others have their turn, and a lost client is noticed.
        overlay: laid over the folder's own ``genai_config.json``.
    """

    model_id: str
    model_path: str
    listen: str
    context_tokens: Tokens
    slots: int
    step_tokens: Tokens
    overlay: Mapping[str, Any]

    @classmethod
    def of(cls, spec: LaunchSpec, listen: str) -> "Parameters":
        """For a launch.

        Raises:
            ValueError: it asks for what ONNX Runtime GenAI has not, named.
        """
        settings = spec.settings
        asked_for = {
            "an embedding engine": settings.embedding, "a projector": spec.projector_path,
            "drafting": settings.draft_tokens, "one pool for all slots": settings.kv_unified,
        }  # fmt: skip
        if lacking := [name for name, asked in asked_for.items() if asked]:
            raise ValueError(f"{lacking[0]} is not served by ONNX Runtime yet")
        options = {"intra_op_num_threads": settings.threads_batch, "inter_op_num_threads": 1, "provider_options": []}
        return cls(
            model_id=spec.model_id,
            model_path=spec.model_path,
            listen=listen,
            context_tokens=settings.slot_context_tokens,
            slots=settings.slots,
            step_tokens=settings.ubatch_tokens,
            overlay={"model": {"decoder": {"session_options": options}}},
        )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Parameters":
        """From what ``document`` wrote."""
        return cls(**values)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
