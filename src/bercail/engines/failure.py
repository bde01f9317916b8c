"""Why an engine failed, from the end of its log and its exit status. Pure.

What llama.cpp says is told here once: its library is in our workers, and in most programs that people run.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_STAMP = re.compile(r"^[\d.]+ [A-Z] +")


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


_NEWER = "the embedded engine is llama.cpp b11549; a newer Bercail may bring one that knows this model"
_DAMAGED = "the file may be damaged or made by a faulty converter: compare its checksum, or fetch it again"
_MEMORY = "ask for a smaller context (--context) or fewer slots, free memory, or take a smaller quantization"

Reason: TypeAlias = tuple[str, str, str, str]
"""A pattern, a sentence that may take up its groups, what to do, and a stable word."""

LLAMA_CPP: tuple[Reason, ...] = (
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
    (r"context type MTP requested but model doesn't contain MTP layers|failed to create MTP context",
     "it has no layers that draft (MTP), which --spec-type draft-mtp asks for",
     "take a file with such layers, name a draft model (--model-draft), or leave --spec-type out", "draft_model"),
    (r"failed to load draft model, '([^']*)'", "the draft model {0} cannot be loaded",
     "check that it exists, is whole, and that its architecture is known", "draft_model"),
    (r"failed to load lora adapter '([^']*)'", "the adapter {0} cannot be loaded",
     "check that it exists and was made for this model", "adapter"),
    (r"built without SSL support", "this build cannot serve https, which --ssl-key-file and --ssl-cert-file ask for",
     "leave them out, and let a reverse proxy do it", "no_https"),
    (r"static assets path not found: ([^\n]*)", "the folder of --path is not there: {0}",
     "name a folder that exists, or leave --path out", "no_folder"),
    (r"couldn't bind HTTP server socket, hostname: ([^,\n]*), port: (\d+)", "it could not listen at {0}:{1}",
     "check that nothing else listens there, and that the address is one of this machine", "address_taken"),
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
"""What llama.cpp says before it gives up."""

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
    return tuple(dict.fromkeys(without_stamp(line) for line in chosen))[-most:]


def without_stamp(line: str) -> str:
    """A line of llama.cpp's log without time and level."""
    return _STAMP.sub("", line).strip()


def find_reason(text: str, reasons: Iterable[Reason]) -> Diagnosis | None:
    """The first of ``reasons`` whose pattern is found in a log, or None."""
    for pattern, sentence, hint, code in reasons:
        match = re.search(pattern, text)
        if match is not None:
            return Diagnosis(sentence=sentence.format(*[g for g in match.groups() if g] or [""]), hint=hint, code=code)
    return None


def diagnose_end(log: Sequence[str], exit_code: int | None) -> Diagnosis:
    """What the end alone tells, with the last words that say something."""
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


_GONE = re.compile(
    r"No such container|no container with (?:name or )?ID|container \S+ is not running|No such process", re.IGNORECASE
)


def is_gone(text: str) -> bool:
    """Whether a stop command, such as ``docker stop NAME``, failed only because there is nothing left to end."""
    return _GONE.search(text) is not None
