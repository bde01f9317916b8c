"""Why a program did not become a server: from its command line, the end of its log and its exit status. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bercail.core.command import CommandSpec
from bercail.engines.failure import LLAMA_CPP, Diagnosis, Reason, diagnose_end, find_reason
from bercail.engines.leashed import NOT_STARTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of one question.

    Attributes:
        status: of the answer; None if there was none.
        words: that, for people.
        silent: there was none in time.
    """

    status: int | None
    words: str
    silent: bool = False


CONTAINER_PROGRAMS = ("docker", "podman")
_DETACHED = ("-d", "--detach", "--detach=true")
_SHELL_KILLED = 137
"""128 and SIGKILL: how shells and containers tell of it."""
_UNSTARTABLE = re.compile(r"^/.*: (?:No such file or directory|Exec format error|Permission denied)$")

_FLAG = "correct its command line: what it knows, its --help tells"
_FILE = "check the path; in a container, also what is mounted where"
_GPU_MEMORY = "ask it for less (a smaller context, fewer layers on the GPU), or end what else holds that memory"
_HOST_MEMORY = "ask it for less (a smaller context or model), or free memory"
_IMAGE = "check its name and tag; a private one takes a login first"
_NEWER = "take a newer version of the program, or a model that it knows"

_CONTAINERS: tuple[Reason, ...] = (
    (r"permission denied while trying to connect to the [Dd]ocker", "this user may not talk to the Docker daemon",
     "join the group docker (sudo usermod -aG docker $USER) and log in again, or take podman", "docker_permission"),
    (r"Cannot connect to the Docker daemon|failed to connect to the docker API|Cannot connect to Podman",
     "the container daemon is not running, or elsewhere", "start it (sudo systemctl start docker), or set DOCKER_HOST",
     "docker_not_running"),
    (r"Unable to find image '([^']+)' locally(?s:.*)(?:dial tcp|no such host|i/o timeout|handshake timeout)",
     "its image {0} is not here, and the registry cannot be reached", "check the network, or load the image by hand",
     "registry_unreachable"),
    (r"pull access denied for ([^,\s]+)|manifest for (\S+) not found|"
     r"Unable to find image '([^']+)' locally(?s:.*)(?:denied|not found|unknown)|"
     r"(?:initializing source docker://|unable to pull |reading manifest \S+ in )([^\s:]+(?::[^\s:]+)?)",
     "there is no image {0}, or not for everybody", _IMAGE, "missing_image"),
    (r"invalid reference format", "what it names as an image cannot be one", _IMAGE, "missing_image"),
    (r"[Tt]he container name \"/?([^\"]+)\" is already in use", "there is a container {0} already",
     "remove it (docker rm -f), start with --rm, and let a stop command end it by name", "container_name"),
    (r"could not select device driver|unresolvable CDI device", "its containers have no way to the GPU",
     "install the NVIDIA Container Toolkit, and restart the daemon", "container_gpu"),
    (r"nvidia-container-cli: ([^\n]+)", "the GPU cannot be given to a container: {0}",
     "see that nvidia-smi works here, then restart the daemon", "container_gpu"),
    (r"bind source path does not exist: ([^\s\"]+)", "what is to be mounted is not there: {0}", _FILE, "missing_file"),
    (r"exec: \"([^\"]+)\": (?:executable file not found|stat |permission denied|no such file)",
     "its image has no program {0} that may be run", "correct what follows the image's name", "no_such_program"),
)  # fmt: skip

_STARTS: tuple[Reason, ...] = (
    (r"error while loading shared libraries: ([^:\n]+): cannot open", "it lacks the library {0}",
     "install it, or name its folder in LD_LIBRARY_PATH", "missing_library"),
    (r"ModuleNotFoundError: No module named '([^']+)'|: No module named ([\w.]+)", "its Python lacks the module {0}",
     "install it there, or name the program by the path of the right environment", "missing_library"),
    (r"error: invalid argument: ([^\n]+)|(?i:error: unknown argument: )([^\n]+)|"
     r"unknown shorthand flag: '.' in (\S+)|unknown flag: (\S+)|flag provided but not defined: (\S+)|"
     r"error: unrecognized arguments: ([^\n]+)|unrecognized option '([^']+)'|error: unexpected argument '([^']+)'|"
     r"No such option:? ['\"]?(-[\w-]+)", "it does not know {0}", _FLAG, "unknown_flag"),
    (r"docker: unknown command: ([^\n]+)", "there is no {0}", _FLAG, "unknown_flag"),
    (r"error while handling argument \"([^\"]+)\"|error: argument ([^\s:]+): (?:invalid|expected)",
     "it does not take what {0} is given", _FLAG, "bad_value"),
    (r"(?i:address already in use|port is already allocated)|couldn't bind HTTP server socket",
     "the port that it should listen at is taken", "give it another: ${PORT} stands for one that is free",
     "port_taken"),
)  # fmt: skip

_MODELS: tuple[Reason, ...] = (
    (r"failed to open GGUF file '([^']+)'|failed to open ([^\n]*?): No such file|"
     r"init model loader from file failed: '([^']+)'|FileNotFoundError: [^\n]*: '([^']+)'|can't open file '([^']+)'|"
     r"OSError: (/\S+) does not (?:exist|appear)|Invalid repository ID or local directory specified: '([^']+)'",
     "it cannot open {0}", _FILE, "missing_file"),
    (r"GatedRepoError|access a gated repo", "its model is given to registered people only",
     "accept its terms where it is published, and set HF_TOKEN", "gated_model"),
    (r"([\w.-]+/[\w.-]+) is not a local folder and is not a valid model identifier|RepositoryNotFoundError",
     "there is no model {0} to fetch, or it takes a token", "check its name, or set HF_TOKEN", "missing_file"),
    (r"Model architectures \['?([^\]']+)'?\] (?:are not supported|failed to be inspected)|"
     r"model type `([^`]+)` but Transformers does not recognize", "it does not know the architecture {0!r}", _NEWER,
     "unknown_architecture"),
)  # fmt: skip

_MEMORY: tuple[Reason, ...] = (
    (r"CUDA error: out of memory|CUDA out of memory|cudaMalloc failed: out of memory|CUBLAS_STATUS_ALLOC_FAILED|"
     r"HIP out of memory|hipErrorOutOfMemory|Free memory on device [^\n]*is less than desired|"
     r"No available memory for the cache blocks|larger than the (?:available KV cache memory|maximum number of tokens)|"
     r"(?:UR|ZE)_RESULT_ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES)|ErrorOutOfDeviceMemory|VK_ERROR_OUT_OF_DEVICE_MEMORY|"
     r"ggml_vulkan: Device memory allocation of size \d+ failed|to allocate (?:CUDA|ROCm|SYCL|Vulkan)\d* buffer",
     "there was not enough memory on the GPU", _GPU_MEMORY, "out_of_memory"),
    (r"(?:UR|ZE)_RESULT_ERROR_OUT_OF_HOST_MEMORY|ErrorOutOfHostMemory|std::bad_alloc|Cannot allocate memory|"
     r"\bMemoryError\b", "there was not enough memory for it", _HOST_MEMORY, "out_of_memory"),
)  # fmt: skip

_REASONS = (*_CONTAINERS, *_STARTS, *_MODELS, *_MEMORY)

# What llama.cpp says means the same to everybody; what to do about it is not the same without our plan.
_HINTS = {
    "unknown_architecture": _NEWER,
    "unknown_tokenizer": _NEWER,
    "out_of_memory": _HOST_MEMORY,
    "engine_socket": "correct where it should listen",
    "engine_failed": "read the end of its log, and try its command by hand",
}


def diagnose(argv: Sequence[str], log: Sequence[str], exit_code: int) -> Diagnosis:
    """Why a program ended before it was ready.

    Args:
        argv: what was started.
        log: the last lines of its output.
        exit_code: negative for the signal that ended it.
    """
    text = "\n".join(log)
    if found := find_reason(text, _REASONS):
        return found
    if found := find_reason(text, LLAMA_CPP):
        return replace(found, hint=_HINTS.get(found.code, found.hint))
    return _from_end(argv, log, exit_code)


def _from_end(argv: Sequence[str], log: Sequence[str], exit_code: int) -> Diagnosis:
    last = next((line.strip() for line in reversed(log) if line.strip()), "")
    if exit_code == 0:
        detached = argv[0].rpartition("/")[2] in CONTAINER_PROGRAMS and any(word in argv for word in _DETACHED)
        return Diagnosis(
            sentence="it ended without an error before it was ready",
            hint="start it without --detach, for it must run as long as it serves"
            if detached
            else "it must run as long as it serves: keep it from going to the background",
            code="ended_early",
        )
    if exit_code == NOT_STARTED and _UNSTARTABLE.search(last):
        return Diagnosis(
            sentence=f"the system cannot run it: {last}",
            hint="see that it is made for this machine, and that the first line of a script names a program",
            code="no_such_program",
        )
    plain = diagnose_end(log, -9 if exit_code == _SHELL_KILLED else exit_code)
    said = "" if not last or "; its last words" in plain.sentence or exit_code < 0 else f"; its last words: {last}"
    return replace(plain, sentence=plain.sentence + said, hint=_HINTS.get(plain.code, plain.hint))


def diagnose_silence(spec: CommandSpec, log: Sequence[str], look: Look | None) -> Diagnosis:
    """Why a program that runs is not ready.

    Args:
        spec: what was started.
        log: the last lines of its output.
        look: what came of the last question; None if there was no time for one.
    """
    text, status = "\n".join(log), look.status if look else None
    if re.search(r"Unable to find image|Pulling from|Pull complete|Downloading|Trying to pull", text):
        hint = "it seems to be fetching something: fetch it beforehand, or allow more time"
    elif status in (401, 403):
        hint = f"let it answer GET {spec.check_path} without a key, or name the key among its headers"
    elif status is not None and status < 500:
        hint = f"let its check be a path that gives 200 (it is {spec.check_path}), or none"
    elif status is None:
        hint = f"see that it listens at {spec.url}; or allow more time"
    else:
        hint = "allow more time, or read the end of its log"
    said = f": {look.words}" if look else ""
    return Diagnosis(sentence=f"it is not ready after {spec.ready_s:g} s{said}", hint=hint, code="engine_timeout")
