"""The engine of ONNX Runtime GenAI."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from bercail.core.launch import Exit, LaunchSpec
from bercail.core.model import Format
from bercail.engines.library import Kind, LibraryEngine
from bercail.engines.onnxruntime.parameters import LACKS, Parameters


def _parameters(spec: LaunchSpec, listen: str) -> Mapping[str, Any]:
    return Parameters.of(spec, listen).document()


def _complaint(ended: Exit) -> str:
    """What it has against the folder: its own words, where it ended by itself."""
    said = [line.strip() for line in ended.log_tail if line.strip()]
    return f"ONNX Runtime cannot read it: {said[-1][:300]}" if said and ended.code == 1 else ""


KIND = Kind(
    name="onnxruntime",
    title="ONNX Runtime GenAI",
    module="onnxruntime_genai",
    distribution="onnxruntime-genai",
    worker="bercail.engines.onnxruntime.worker",
    reads=(Format.ONNX,),
    lacks=LACKS,
    parameters=_parameters,
    complaint=_complaint,
    remedy="it takes folders with genai_config.json, a graph and a tokenizer, as `python -m "
    "onnxruntime_genai.models.builder` makes them; for a GGUF file take --engine embedded",
    batches=False,  # ONNX Runtime GenAI 0.18 batches only exports with paged attention, which those for CPUs are not
)

OnnxRuntime = partial(LibraryEngine, KIND)
"""Makes the engine."""
