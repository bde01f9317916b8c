"""Any program that ends in an HTTP server, and servers elsewhere."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bercail.engines.command.commands import Commands
    from bercail.engines.command.elsewhere import Elsewhere
    from bercail.engines.command.program import Program

_HOMES = {"Commands": "commands", "Elsewhere": "elsewhere", "Program": "program"}

__all__ = ["Commands", "Elsewhere", "Program"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
