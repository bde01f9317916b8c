"""What the engine says -> values: progress, readiness, and from a failure's log the reason in words."""

import re
from collections.abc import Mapping, Sequence

from bercail.core.launch import Landed
from bercail.core.units import MIB
from bercail.engines.failure import LLAMA_CPP, Diagnosis, diagnose_end, find_reason, without_stamp

_PREFIX = re.compile(r"^(?:[\w~:]+(?:\(\))?(?: +[\w~:]+(?:\(\))?)?: )+")


_BUFFERS = {
    "cache": re.compile(r"llama_kv_cache: size = +([\d.]+) MiB"),
    "state": re.compile(r"llama_memory_recurrent: size = +([\d.]+) MiB"),
    "compute": re.compile(r"compute buffer size = +([\d.]+) MiB"),
    "output": re.compile(r"output buffer size = +([\d.]+) MiB"),
}


def memory_account(lines: Sequence[str]) -> Mapping[str, float]:
    """Bytes of cache, recurrent state, compute and output buffers that a context logged, to a hundredth of a MiB."""
    return {
        part: sum(float(found[1]) for line in lines if (found := pattern.search(line))) * MIB
        for part, pattern in _BUFFERS.items()
    }


_LANDED = re.compile(
    r"(?:load_tensors|llama_kv_cache|llama_memory_recurrent|llama_context|sched_reserve): +(Meta\([\w,]+\)|\w+) +"
    r"(model|KV|RS|output|compute) buffer size = +([\d.]+) MiB"
)
_LANDED_PARTS = {
    "model": "weights", "KV": "KV cache", "RS": "recurrent state", "output": "output", "compute": "compute",
}  # fmt: skip


def parse_landing(line: str) -> Landed | None:
    """The buffer that a line of a loading engine's log tells of, to a hundredth of a MiB; None for any other line."""
    found = _LANDED.search(line)
    if found is None:
        return None
    return Landed(place=found[1], part=_LANDED_PARTS[found[2]], bytes=round(float(found[3]) * MIB))


def diagnose(log: Sequence[str], exit_code: int | None) -> Diagnosis:
    """Why the engine failed, from its log and its end (negative: the signal; None: it runs still)."""
    text = "\n".join(log)
    if "chat template parsing error" in text:
        return Diagnosis(
            sentence=f"the engine does not survive its chat template: {template_complaint(text) or 'it is not valid'}",
            hint="start it without chat, or give it another template",
            code="chat_template",
        )
    return find_reason(text, LLAMA_CPP) or diagnose_end(log, exit_code)


def template_complaint(text: str) -> str:
    """What the renderer has against a template, from a log or an error message; empty if nothing is found."""
    for pattern in (r"Error: Jinja Exception: ([^\n]+)", r"Error: ([^\n]+)",
                    r"((?:[Ll]exer|[Pp]arser|[Jj]inja)[^\n]*(?:error|Error|Expected|expected|unexpected)[^\n]*)",
                    r"template error: ([^\n]+)", r"chat template parsing error: ([^\n]+)"):  # fmt: skip
        found = re.search(pattern, text)
        if found:
            return _PREFIX.sub("", without_stamp(found[1])).strip()[:300]
    return ""
