"""llama.cpp: embedded or built here, in a child process."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.llama_cpp.build import Workshop
    from bercail.engines.llama_cpp.engine import LlamaCpp
    from bercail.engines.llama_cpp.hosts import Embedded, Server, stand_in_command
    from bercail.engines.llama_cpp.old_flags import translated, without_gpus
    from bercail.engines.llama_cpp.server_files import check_files
    from bercail.engines.llama_cpp.variables import port_notice, said_by

_HOMES = {
    "Embedded": "hosts",
    "LlamaCpp": "engine",
    "Server": "hosts",
    "Workshop": "build",
    "check_files": "server_files",
    "port_notice": "variables",
    "said_by": "variables",
    "stand_in_command": "hosts",
    "translated": "old_flags",
    "without_gpus": "old_flags",
}

__all__ = [
    "Embedded",
    "LlamaCpp",
    "Server",
    "Workshop",
    "check_files",
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
