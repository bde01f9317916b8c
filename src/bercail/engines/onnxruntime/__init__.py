"""ONNX Runtime GenAI, in a child process: folders with ``genai_config.json``, on CPUs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.onnxruntime.engine import OnnxRuntime

__all__ = ["OnnxRuntime"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.engine"), name)
