"""Flags that ``llama-server`` has lost before b11549, and what becomes of each. Pure.

Where the change that removed a flag is known it is named, as a number of ggml-org/llama.cpp.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A flag that can be left out: what answers say does not depend on it.

    Attributes:
        values: how many words follow it.
        why: why nothing is lost.
        harmless: with these values only; any other one is refused with ``instead``. None: with all.
    """

    why: str
    values: int = 0
    harmless: frozenset[str] | None = None
    instead: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A flag with a successor: what is said instead, given its values."""

    said: Callable[..., tuple[str, ...]]
    values: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A flag without which answers would differ, and no other one has its effect.

    Attributes:
        instead: what to do.
    """

    instead: str
    values: int = 0


Fate: TypeAlias = Dropped | Replaced | Refused


def _words(*words: str) -> Replaced:
    return Replaced(said=lambda: words)


_SELF_EXTEND = "self-extend left with #9860, after b3909; a longer context is --rope-scaling yarn --rope-scale N"
_SYSTEM_PROMPT = "left with #9857, after b3909; send the text as the system message of each request"
_TAIL_FREE = "tail-free sampling left with #10071; --min-p or --top-p cut the tail off"
_LORA_BASE = (
    "an adapter is applied to the model as it is: name the one it was made for with --model, and leave this out"
)
_PRESET = "this preset is gone: name the file (--model FILE --embedding --pooling TYPE)"
_VOICE = "llama-server makes no speech: leave it out"
_NEVER_MORE = "llama-server writes one log, and never looked at this again"
_CHECKPOINTS_OFF = ("--ctx-checkpoints", "0")


def _checkpoints(spacing: str) -> tuple[str, ...]:
    """``-1`` made none while a prompt was read."""
    return _CHECKPOINTS_OFF if spacing.startswith("-") else ("--checkpoint-min-step", spacing)


def _log_format(form: str) -> tuple[str, ...]:
    return ("--log-jsonl",) if form == "json" else ()


_BY_NAMES: Mapping[tuple[str, ...], Fate] = {
    ("-gan", "--grp-attn-n"): Dropped(
        values=1, harmless=frozenset("1"), why="1 is what it does anyway", instead=_SELF_EXTEND
    ),
    ("-gaw", "--grp-attn-w"): Dropped(values=1, why="it meant nothing without --grp-attn-n"),
    ("-spf", "--system-prompt-file"): Refused(values=1, instead=_SYSTEM_PROMPT),
    ("--tfs",): Dropped(values=1, harmless=frozenset(("1", "1.0")), why="1 is what it does anyway", instead=_TAIL_FREE),
    ("--penalize-nl",): Dropped(why="newlines are penalized as all tokens are, since #10803"),
    ("--no-penalize-nl",): Refused(
        instead="newlines are penalized as all tokens are, since #10803; leave it out, and --repeat-penalty too "
        "if that disturbs"
    ),
    ("--lora-base",): Refused(values=1, instead=_LORA_BASE),
    ("-mv", "--model-vocoder"): Refused(values=1, instead=_VOICE),
    ("-hfv", "-hfrv", "--hf-repo-v"): Refused(values=1, instead=_VOICE),
    ("-hffv", "--hf-file-v"): Refused(values=1, instead=_VOICE),
    ("--tts-use-guide-tokens", "--tts-oute-default"): Refused(instead=_VOICE),
    ("--embd-bge-small-en-default", "--embd-e5-small-en-default", "--embd-gte-small-default"): Refused(instead=_PRESET),
    ("--slots-endpoint-disable",): _words("--no-slots"),
    ("--memory-f32",): _words("--cache-type-k", "f32", "--cache-type-v", "f32"),
    ("--low-vram",): _words("--no-kv-offload"),
    ("--clear-idle",): _words("--cache-idle-slots"),
    ("--no-clear-idle",): _words("--no-cache-idle-slots"),
    ("-cpent", "--checkpoint-every-n-tokens"): Replaced(values=1, said=_checkpoints),
    ("--log-format",): Replaced(values=1, said=_log_format),
    ("--mmap", "-ndio", "--no-direct-io"): Dropped(why="it is so anyway"),
    ("-dt", "--defrag-thold"): Dropped(values=1, why="its KV cache needs no tidying up"),
    ("-dkvc", "--dump-kv-cache"): Dropped(why="the KV cache is printed no more"),
    ("-cd", "--ctx-size-draft", "--spec-draft-ctx-size"): Dropped(
        values=1, why="the draft model has the context of the model since #22787"
    ),
    ("--spec-replace", "--spec-draft-replace"): Dropped(
        values=2, why="since #22787 a draft model must have the tokens of the model, and drafts change no answer"
    ),
    ("--spec-ngram-check-rate",): Dropped(values=1, why="drafts change no answer"),
    ("-nommq", "--no-mul-mat-q", "-mmq", "--mul-mat-q"): Dropped(why="the backend chooses its kernels"),
    ("-gqa", "--gqa"): Dropped(values=1, why="the header of a GGUF file tells it"),
    ("-eps", "--rms-norm-eps"): Dropped(values=1, why="the header of a GGUF file tells it"),
    ("--verbose-prompt",): Dropped(why="--verbose logs prompts"),
    ("-ld", "--logdir"): Dropped(values=1, why=_NEVER_MORE),
    ("--log-enable", "--log-new", "--log-append"): Dropped(why=_NEVER_MORE),
    ("-p", "--prompt"): Dropped(values=1, why="a server answers requests"),
    ("-f", "--file", "-bf", "--binary-file"): Dropped(values=1, why="a server answers requests"),
}

FATES: Mapping[str, Fate] = {name: fate for names, fate in _BY_NAMES.items() for name in names}
"""By each name of a flag."""
