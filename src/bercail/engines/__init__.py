"""Engines: what is launched becomes a running child that speaks HTTP.

The names are looked up when they are asked for: the worker is a module of this package too, and the child that runs it
must not pay for the HTTP client and asyncio of its parent (0.1 s of every start).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.command import Commands
    from bercail.engines.fake import Behaviour, FakeEngine, FakeProcess, FakeServer
    from bercail.engines.library import LibraryEngine
    from bercail.engines.llama_cpp import (
        Embedded,
        LlamaCpp,
        Server,
        Workshop,
        check_files,
        port_notice,
        said_by,
        stand_in_command,
        translated,
        without_gpus,
    )
    from bercail.engines.onnxruntime import OnnxRuntime
    from bercail.engines.openvino import OpenVino
    from bercail.engines.orphans import end_orphan
    from bercail.engines.running import Patience
    from bercail.engines.upstream import HttpUpstream

_HOMES = {
    "Behaviour": "fake",
    "Commands": "command",
    "Embedded": "llama_cpp",
    "FakeEngine": "fake",
    "FakeProcess": "fake",
    "FakeServer": "fake",
    "HttpUpstream": "upstream",
    "LlamaCpp": "llama_cpp",
    "LibraryEngine": "library",
    "OnnxRuntime": "onnxruntime",
    "OpenVino": "openvino",
    "Patience": "running",
    "Server": "llama_cpp",
    "Workshop": "llama_cpp",
    "end_orphan": "orphans",
    "check_files": "llama_cpp",
    "port_notice": "llama_cpp",
    "said_by": "llama_cpp",
    "stand_in_command": "llama_cpp",
    "translated": "llama_cpp",
    "without_gpus": "llama_cpp",
}

__all__ = [
    "Behaviour",
    "Commands",
    "Embedded",
    "FakeEngine",
    "FakeProcess",
    "FakeServer",
    "HttpUpstream",
    "LibraryEngine",
    "LlamaCpp",
    "OnnxRuntime",
    "OpenVino",
    "Patience",
    "Server",
    "Workshop",
    "check_files",
    "end_orphan",
    "port_notice",
    "said_by",
    "stand_in_command",
    "translated",
    "without_gpus",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
