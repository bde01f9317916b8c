"""The type of number that an engine computes in, where it can be told one. Pure."""

from bercail.core.engine import Offer
from bercail.core.machine import Cpu
from bercail.core.options import EngineOptions

TOLD = "openvino"
"""The engine that can be: others compute in types of their own."""
_MULTIPLIES_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


def precision(offer: Offer, cpu: Cpu, wish: EngineOptions, *, embeds: bool) -> tuple[str, str]:
    """The type, empty where the engine decides, and why.

    Left alone OpenVINO takes bfloat16 wherever the processor multiplies in it, embeddings included.
    """
    if offer.name != TOLD:
        return "", "it follows from the types of the weights"
    if wish.precision is not None:
        return wish.precision, "as asked"
    if embeds:
        return "f32", "vectors are then those of the same model elsewhere"
    if _shortened(cpu):
        return "bf16", "this processor multiplies in it; f32 is exact and slower to read"
    return "f32", "this processor multiplies in nothing shorter"


def misplaced(offer: Offer, cpu: Cpu, wish: EngineOptions) -> str:
    """Why the wished type cannot be had, or empty."""
    if wish.precision is None:
        return ""
    if offer.name != TOLD:
        return f"--precision and the engine {offer.name} contradict each other: it computes in types of its own"
    if wish.precision == "bf16" and not _shortened(cpu):
        return "--precision bf16 and this processor contradict each other: it does not multiply in bfloat16"
    return ""


def _shortened(cpu: Cpu) -> bool:
    return any(name in cpu.instruction_sets for name in _MULTIPLIES_BF16)
