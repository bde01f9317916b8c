"""The embedded llama.cpp, in a child process."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.llama_cpp.engine import LlamaCpp, LlamaProcess, Patience

__all__ = ["LlamaCpp", "LlamaProcess", "Patience"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.engine"), name)
