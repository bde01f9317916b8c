"""Engines: what is launched becomes a running child that speaks HTTP.

The names are looked up when they are asked for: the worker is a module of this package too, and the child that runs it
must not pay for the HTTP client and asyncio of its parent (0.1 s of every start).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.command import Commands
    from bercail.engines.fake import Behaviour, FakeEngine, FakeProcess, FakeServer
    from bercail.engines.llama_cpp import (
        Embedded,
        LlamaCpp,
        Server,
        Workshop,
        stand_in_command,
        translated,
    )
    from bercail.engines.openvino import OpenVino
    from bercail.engines.openvino import installed as openvino_installed
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
    "OpenVino": "openvino",
    "Patience": "running",
    "Server": "llama_cpp",
    "Workshop": "llama_cpp",
    "end_orphan": "orphans",
    "openvino_installed": "openvino",
    "stand_in_command": "llama_cpp",
    "translated": "llama_cpp",
}

_OTHER_NAMES = {"openvino_installed": "installed"}

__all__ = [
    "Behaviour",
    "Commands",
    "Embedded",
    "FakeEngine",
    "FakeProcess",
    "FakeServer",
    "HttpUpstream",
    "LlamaCpp",
    "OpenVino",
    "Patience",
    "Server",
    "Workshop",
    "end_orphan",
    "openvino_installed",
    "stand_in_command",
    "translated",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, _OTHER_NAMES.get(name, name))
