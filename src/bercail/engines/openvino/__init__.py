"""OpenVINO GenAI, in a child process: continuous batching on CPUs, from GGUF files and folders of its own format."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.openvino.engine import OpenVino

__all__ = ["OpenVino"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.engine"), name)
