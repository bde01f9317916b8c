"""The engine of OpenVINO GenAI."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from bercail.core.launch import Exit, LaunchSpec
from bercail.core.model import Format
from bercail.engines.library import Kind, LibraryEngine
from bercail.engines.openvino.parameters import LACKS, Parameters


def _parameters(spec: LaunchSpec, listen: str) -> Mapping[str, Any]:
    return Parameters.of(spec, listen).document()


def _complaint(ended: Exit) -> str:
    """What its reader has against the file, without where in its source it says so."""
    text = "\n".join(ended.log_tail)
    if "unordered_map::at" in text:
        return "OpenVINO's reader misses a key in its header"
    if not any(word in text for word in ("Unsupported model architecture", "Unsupported GGML", "gguf", "GGUF")):
        return ""
    said = [line.strip() for line in ended.log_tail if line.strip() and not line.startswith("Check '")]
    return f"OpenVINO cannot read it as GGUF{f': {said[-1][:200]}' if said else ''}"


KIND = Kind(
    name="openvino",
    title="OpenVINO GenAI",
    module="openvino_genai",
    distribution="openvino-genai",
    worker="bercail.engines.openvino.worker",
    reads=(Format.GGUF, Format.OPENVINO),
    lacks=LACKS,
    parameters=_parameters,
    complaint=_complaint,
    remedy="take --engine embedded, or convert it: `optimum-cli export openvino` makes a folder that OpenVINO reads",
)

OpenVino = partial(LibraryEngine, KIND)
"""Makes the engine."""
