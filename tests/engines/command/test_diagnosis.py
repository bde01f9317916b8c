"""Why programs fail, from what they really say."""

import pytest

from bercail.core.command import CommandSpec
from bercail.engines.command.diagnosis import Look, diagnose, diagnose_silence
from bercail.engines.failure import is_gone

DOCKER = ("docker", "run", "--rm", "--name", "x", "image")
SERVER = ("/opt/llama-server", "--port", "1")


@pytest.mark.parametrize(
    ("log", "code", "sentence"),
    [
        # docker 28.2.2
        ("unknown flag: --nope\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]", "unknown_flag", "--nope"),
        ("unknown shorthand flag: 'z' in -z", "unknown_flag", "it does not know -z"),
        ("docker: unknown command: docker runn\n\nRun 'docker --help'", "unknown_flag", "there is no docker runn"),
        (
            "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "docker_not_running",
            "not running",
        ),
        (
            "docker: permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock: Head: dial unix /var/run/docker.sock: connect: permission denied",
            "docker_permission",
            "may not talk to the Docker daemon",
        ),
        (
            "Unable to find image 'nope/image:latest' locally\ndocker: Error response from daemon: pull access denied "
            "for nope/image, repository does not exist or may require 'docker login': denied",
            "missing_image",
            "there is no image nope/image",
        ),
        (
            "Unable to find image 'vllm/vllm-openai:v99' locally\ndocker: Error response from daemon: manifest for "
            "vllm/vllm-openai:v99 not found: manifest unknown",
            "missing_image",
            "there is no image vllm/vllm-openai:v99",
        ),
        (
            "Unable to find image 'a/b:latest' locally\ndocker: Error response from daemon: Get "
            '"https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host',
            "registry_unreachable",
            "its image a/b:latest is not here",
        ),
        (
            'docker: Error response from daemon: Conflict. The container name "/x" is already in use by "3f".',
            "container_name",
            "there is a container x already",
        ),
        (
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
            "container_gpu",
            "no way to the GPU",
        ),
        (
            "docker: Error response from daemon: driver failed programming external connectivity on endpoint x: "
            "Bind for 0.0.0.0:8080 failed: port is already allocated",
            "port_taken",
            "is taken",
        ),
        (
            'docker: Error response from daemon: OCI runtime create failed: exec: "vlm": executable file not found in '
            "$PATH: unknown",
            "no_such_program",
            "no program vlm",
        ),
        ("docker: invalid reference format: repository name must be lowercase", "missing_image", "cannot be one"),
        # podman
        (
            "Error: initializing source docker://nope:latest: reading manifest latest in docker.io/library/nope: "
            "requested access to the resource is denied",
            "missing_image",
            "there is no image nope:latest",
        ),
        # llama-server
        ("error: invalid argument: --ctx-sze", "unknown_flag", "it does not know --ctx-sze"),
        ('error while handling argument "--ctx-size": stoi', "bad_value", "what --ctx-size is given"),
        (
            "0.00.1 E couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",
            "port_taken",
            "the port that it should listen at is taken",
        ),
        (
            "0.00.1 E gguf_init_from_file: failed to open GGUF file '/m/none.gguf' (No such file or directory)",
            "missing_file",
            "it cannot open /m/none.gguf",
        ),
        (
            "llama_model_load: error loading model: unknown model architecture: 'newest'",
            "unknown_architecture",
            "does not know the architecture 'newest'",
        ),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of "
         "memory", "out_of_memory", "not enough memory on the GPU"),
        ("CUDA error: out of memory", "out_of_memory", "not enough memory on the GPU"),
        ("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", "out_of_memory", "the GPU"),
        (
            "ggml_vulkan: Device memory allocation of size 118497280 failed.\n"
            "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
            "out_of_memory",
            "the GPU",
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory", "memory for it"),
        ("gguf_init_from_file_impl: invalid magic characters: 'noth', expected 'GGUF'", "damaged_model", "as GGUF"),
        ("/opt/llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No "
         "such file or directory", "missing_library", "it lacks the library libcudart.so.12"),
        # stable-diffusion.cpp
        ("error: unknown argument: --steppes", "unknown_flag", "it does not know --steppes"),
        ("[ERROR] stable-diffusion.cpp:198 - init model loader from file failed: '/m/x.safetensors'", "missing_file",
         "it cannot open /m/x.safetensors"),
        # vLLM
        ("api_server.py: error: unrecognized arguments: --max-len 3", "unknown_flag", "--max-len 3"),
        ("vllm: error: argument --port: invalid int value: 'x'", "bad_value", "what --port is given"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB.", "out_of_memory", "the GPU"),
        ("ValueError: Free memory on device (4.1/23.5 GiB) on startup is less than desired GPU memory utilization",
         "out_of_memory", "the GPU"),
        ("ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported: []",
         "unknown_architecture", "'NewForCausalLM'"),
        ("OSError: nope/none is not a local folder and is not a valid model identifier listed on "
         "'https://huggingface.co/models'", "missing_file", "no model nope/none"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "gated_model", "registered people"),
        ("OSError: [Errno 98] Address already in use", "port_taken", "is taken"),
        ("/usr/bin/python3: No module named vllm", "missing_library", "the module vllm"),
    ],
)  # fmt: skip
def test_what_a_program_says_is_understood(log: str, code: str, sentence: str) -> None:
    found = diagnose(SERVER, log.split("\n"), 1)
    assert found.code == code
    assert sentence in found.sentence
    assert found.hint
    assert "{" not in found.sentence


@pytest.mark.parametrize(
    ("argv", "log", "status", "code", "words"),
    [
        (SERVER, (), -9, "out_of_memory", "killed"),
        (DOCKER, (), 137, "out_of_memory", "killed"),
        (SERVER, (), -11, "engine_failed", "SIGSEGV"),
        (SERVER, (), -4, "engine_instructions", "lacks instructions"),
        (SERVER, ("what it is about", "", "  who knows  ", ""), 3, "engine_failed", "its last words: who knows"),
        (
            SERVER,
            ("it went well", "a failure of sorts", "bye"),
            3,
            "engine_failed",
            "its last words: a failure of sorts",
        ),
        (SERVER, (), 3, "engine_failed", "its process ended with status 3"),
        (SERVER, ("/opt/x.sh: No such file or directory",), 127, "no_such_program", "the system cannot run it"),
        (SERVER, ("/opt/x: Exec format error",), 127, "no_such_program", "the system cannot run it"),
        (SERVER, (), 0, "ended_early", "ended without an error"),
    ],
)
def test_an_end_without_known_words(
    argv: tuple[str, ...], log: tuple[str, ...], status: int, code: str, words: str
) -> None:
    found = diagnose(argv, log, status)
    assert found.code == code
    assert words in found.sentence
    assert "--context" not in found.hint


def test_a_detached_container_is_seen_for_what_it_is() -> None:
    assert "--detach" in diagnose(("/usr/bin/docker", "run", "-d", "image"), ("3fe1",), 0).hint
    assert "background" in diagnose(SERVER, (), 0).hint


@pytest.mark.parametrize(
    ("log", "look", "hint"),
    [
        ((), None, "listens at http://localhost:1"),
        ((), Look(status=None, words="refused"), "listens at http://localhost:1"),
        ((), Look(status=503, words="GET /health gives 503"), "allow more time"),
        ((), Look(status=404, words="GET /health gives 404"), "a path that gives 200"),
        ((), Look(status=401, words="GET /health gives 401"), "key"),
        (("Unable to find image 'x' locally", "latest: Pulling from x"), None, "fetch it beforehand"),
    ],
)
def test_a_program_that_is_never_ready_is_told_what_was_seen(
    log: tuple[str, ...], look: Look | None, hint: str
) -> None:
    spec = CommandSpec(model_id="m", argv=SERVER, url="http://localhost:1", ready_s=7.5)
    found = diagnose_silence(spec, log, look)
    assert found.code == "engine_timeout"
    assert "not ready after 7.5 s" in found.sentence
    assert look is None or look.words in found.sentence
    assert hint in found.hint


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("Error response from daemon: No such container: x", True),
        ('Error: no container with name or ID "x" found: no such container', True),
        ("kill: (123): No such process", True),
        ("Cannot connect to the Docker daemon", False),
        ("", False),
    ],
)
def test_nothing_left_to_end_is_no_failure(said: str, *, gone: bool) -> None:
    assert is_gone(said) is gone
