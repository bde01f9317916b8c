"""What engines say on standard output, a line of JSON at a time: how far they are, and where they listen. Pure.

The lines are those of ``llama-server`` as the child of another server; our own workers speak alike.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bercail.core.launch import Progress

_STATE = "cmd_child_to_router:state:"
_STAGES = {"text_model": "weights", "mmproj_model": "projector", "spec_model": "draft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The engine says that it is ready.

    Attributes:
        address: where it listens: ``unix:///path`` or ``http://host:port``; empty if the line does not tell.
    """

    address: str = ""


Said: TypeAlias = Progress | Ready | None


def parse_line(line: str) -> Said:
    """What a line of the worker's standard output means; None for any other line."""
    if not line.startswith(_STATE):
        return None
    try:
        said = json.loads(line[len(_STATE) :])
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    payload = said.get("payload")
    details: Mapping[str, object] = payload if isinstance(payload, dict) else {}
    if said.get("state") == "listening":
        return Ready(address=str(details.get("address", "")))
    if said.get("state") == "ready":
        return Ready()
    return _progress(details) if said.get("state") == "loading" else None


def _progress(details: Mapping[str, object]) -> Progress | None:
    current, value = details.get("current"), details.get("value")
    if not isinstance(current, str) or not isinstance(value, int | float):
        return None
    return Progress(stage=_STAGES.get(current, current), fraction=min(max(float(value), 0.0), 1.0))


def render_listening(address: str) -> str:
    """The worker's own line, once the engine listens, in the manner of the engine's."""
    return _STATE + json.dumps({"state": "listening", "payload": {"address": address}})


def render_progress(stage: str, fraction: float) -> str:
    """A worker's own line on how far it is."""
    return _STATE + json.dumps({"state": "loading", "payload": {"current": stage, "value": fraction}})
