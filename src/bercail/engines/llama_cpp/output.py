"""What the engine says -> values: progress, readiness, and from a failure's log the reason in words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bercail.core.launch import Landed
from bercail.core.units import MIB

_STAMP = re.compile(r"^[\d.]+ [A-Z] +")
_PREFIX = re.compile(r"^(?:[\w~:]+(?:\(\))?(?: +[\w~:]+(?:\(\))?)?: )+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why an engine failed.

    Attributes:
        sentence: what happened, without a full stop.
        hint: what to do.
        code: a stable word.
    """

    sentence: str
    hint: str
    code: str


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
    r"(?:load_tensors|llama_kv_cache|llama_memory_recurrent|llama_context|sched_reserve): +(\w+) +"
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


_NEWER = "the embedded engine is llama.cpp b11549; a newer Bercail may bring one that knows this model"
_DAMAGED = "the file may be damaged or made by a faulty converter: compare its checksum, or fetch it again"
_MEMORY = "ask for a smaller context (--context) or fewer slots, free memory, or take a smaller quantization"

# The first pattern that is found in the log tells; the sentence may take up its groups.
_REASONS: tuple[tuple[str, str, str, str], ...] = (
    (r"unknown model architecture: '([^']*)'", "the engine does not know the architecture {0!r}", _NEWER,
     "unknown_architecture"),
    (r"unknown (?:pre-)?tokenizer(?: type)?: '([^']*)'", "the engine does not know the tokenizer {0!r}", _NEWER,
     "unknown_tokenizer"),
    (r"missing tensor '([^']*)'|tensor '([^']*)' not found", "the tensor {0} is missing", _DAMAGED, "damaged_model"),
    (r"tensor '([^']*)' has wrong shape", "the tensor {0} does not have the shape that its header promises", _DAMAGED,
     "damaged_model"),
    (r"tensor '([^']*)' data is not within the file bounds|tensor '([^']*)' .*out of bounds",
     "the file ends before the tensor {0}", _DAMAGED, "damaged_model"),
    (r"wrong number of tensors; expected (\d+), got (\d+)", "the file holds {1} tensors where {0} belong", _DAMAGED,
     "damaged_model"),
    (r"key not found in model: (\S+)", "the key {0} is missing in the header", _DAMAGED, "damaged_model"),
    (r"failed to allocate (?:buffer|CPU|compute)[^\n]*|unable to allocate [^\n]*|failed to allocate [^\n]*|"
     r"std::bad_alloc|Cannot allocate memory|out of memory|posix_memalign",
     "there was not enough memory for it", _MEMORY, "out_of_memory"),
    (r"quantized V cache (?:was requested|requires)[^\n]*|V cache quantization requires flash_attn",
     "a quantized value cache needs flash attention", "turn flash attention on, or take f16 for the value cache",
     "kv_type"),
    (r"draft model vocab type must match", "its tokens and those of the draft model differ",
     "name a draft model of the same family, or none", "draft_model"),
    (r"(failed to load (?:multimodal|mmproj|clip)[^\n]*|failed to load CLIP[^\n]*)", "the projector cannot be loaded",
     "check that the mmproj file belongs to this model, or start without it", "projector"),
    (r"(?:couldn't|could not|failed to) bind[^\n]*|couldn't start HTTP listener",
     "the engine could not open its socket", "check the directory for temporary files, and that it may be written",
     "engine_socket"),
    (r"GGML_ASSERT\(([^\n]*)\) failed", "the engine gave up on a check of its own: {0}",
     "the model may lie about itself; if it is sound this is a bug worth reporting", "engine_assert"),
    (r"failed to open GGUF file|failed to open [^\n]*: No such file",
     "the engine cannot open the file", "check that it exists and may be read", "unreadable_model"),
    (r"invalid magic|failed to read magic|gguf_init_from_file[^\n]*failed|bad GGUF magic",
     "the engine cannot read it as GGUF", _DAMAGED, "damaged_model"),
    (r" E gguf_\w+: ([^\n]+)", "the engine cannot read its header: {0}", _DAMAGED, "damaged_model"),
    (r"error loading model: ([^\n]*)", "the engine refuses it: {0}", _DAMAGED, "unloadable_model"),
    (r"terminate called after throwing an instance of '([^']*)'", "the engine broke off with {0}", _DAMAGED,
     "engine_crashed"),
)  # fmt: skip

_TELLING = re.compile(
    r"^[\d.]+ E |error|fail|GGML_ASSERT|bad_alloc|terminate called|unknown|out of memory|exception|Traceback|"
    r"cannot|unable|invalid|missing|Killed",
    re.IGNORECASE,
)
_NOISE = re.compile(r"--no-jinja|exiting due to|please check the input params|^Traceback|^\s+File |^\s+\^|cleaning up")

_SIGNALS = {4: "SIGILL, an illegal instruction", 6: "SIGABRT, an abort", 7: "SIGBUS, a bus error",
            8: "SIGFPE, an arithmetic error", 9: "SIGKILL", 11: "SIGSEGV, a segmentation fault",
            15: "SIGTERM"}  # fmt: skip


def telling_lines(log: Sequence[str], most: int = 6) -> tuple[str, ...]:
    """The lines of a failure's log that say something, oldest first, without time stamps."""
    chosen = [line for line in log if _TELLING.search(line) and not _NOISE.search(line)]
    return tuple(dict.fromkeys(_STAMP.sub("", line).strip() for line in chosen))[-most:]


def diagnose(log: Sequence[str], exit_code: int | None) -> Diagnosis:
    """Why the engine failed, from its log and its end (negative: the signal; None: it runs still)."""
    text = "\n".join(log)
    if "chat template parsing error" in text:
        return Diagnosis(
            sentence=f"the engine does not survive its chat template: {template_complaint(text) or 'it is not valid'}",
            hint="start it without chat, or give it another template",
            code="chat_template",
        )
    for pattern, sentence, hint, code in _REASONS:
        match = re.search(pattern, text)
        if match is not None:
            return Diagnosis(sentence=sentence.format(*[g for g in match.groups() if g] or [""]), hint=hint, code=code)
    return _from_exit(log, exit_code)


def _from_exit(log: Sequence[str], exit_code: int | None) -> Diagnosis:
    if exit_code == -9:
        return Diagnosis(
            sentence="its process was killed (SIGKILL), most likely by the kernel for want of memory",
            hint=_MEMORY,
            code="out_of_memory",
        )
    if exit_code == -4:
        return Diagnosis(
            sentence="this processor lacks instructions that the engine was built with (AVX2 and FMA on x86-64)",
            hint="it takes another build of the engine to run on this machine",
            code="engine_instructions",
        )
    last = (telling_lines(log, 1) or ("",))[0]
    said = f"; its last words: {last}" if last else ""
    how = "it gave no sign of life" if exit_code is None else describe_exit(exit_code)
    return Diagnosis(sentence=f"{how}{said}", hint="read the end of the engine's log", code="engine_failed")


def describe_exit(exit_code: int) -> str:
    """An end in words."""
    if exit_code < 0:
        return f"its process was ended by {_SIGNALS.get(-exit_code, f'signal {-exit_code}')}"
    return f"its process ended with status {exit_code}"


def template_complaint(text: str) -> str:
    """What the renderer has against a template, from a log or an error message; empty if nothing is found."""
    for pattern in (r"Error: Jinja Exception: ([^\n]+)", r"Error: ([^\n]+)",
                    r"((?:[Ll]exer|[Pp]arser|[Jj]inja)[^\n]*(?:error|Error|Expected|expected|unexpected)[^\n]*)",
                    r"template error: ([^\n]+)", r"chat template parsing error: ([^\n]+)"):  # fmt: skip
        found = re.search(pattern, text)
        if found:
            return _PREFIX.sub("", _STAMP.sub("", found[1])).strip()[:300]
    return ""
