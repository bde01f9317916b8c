"""How llama.cpp is built from source: flags of its build system, what it needs, and what its output means. Pure.

Source: the sdist of xllamacpp on PyPI, which holds the whole source of the build that the wheel was made from;
``CMakeLists.txt`` and ``ggml/CMakeLists.txt`` there.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bercail.core.build import Recipe, Target
from bercail.core.units import GIB, Bytes
from bercail.engines.llama_cpp.amendments import AMENDMENTS
from bercail.engines.llama_cpp.flags import BUILD, RELEASE

PACKAGE = "xllamacpp"
ARCHIVE = f"{PACKAGE}-{RELEASE}.tar.gz"
SHA256 = "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b"
"""Of the archive, as PyPI publishes it."""
SOURCE = f"{PACKAGE}-{RELEASE}/thirdparty/llama.cpp/"
"""Where llama.cpp lies in the archive."""

PROGRAMS = (
    "llama-server", "llama-bench", "llama-quantize", "llama-imatrix", "llama-perplexity", "llama-fit-params",
    "llama-batched-bench",
)  # fmt: skip

ROOM_BYTES: Bytes = 2 * GIB
"""Free disk that a build is not begun without."""

_ALWAYS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
    # Nothing is to be fetched while it builds, nor by what was built.
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF",
    # The archive has no history to count it from.
    f"-DLLAMA_BUILD_NUMBER={BUILD.removeprefix('b')}", f"-DLLAMA_BUILD_COMMIT={BUILD}",
)  # fmt: skip
_TARGETS: Mapping[Target, tuple[str, ...]] = {
    Target.CPU: (),
    Target.CUDA: ("-DGGML_CUDA=ON",),
    Target.VULKAN: ("-DGGML_VULKAN=ON",),
    Target.ROCM: ("-DGGML_HIP=ON",),
    # Without its persistent kernel cache, which outlives drivers: see the guide to engines.
    Target.SYCL: ("-DGGML_SYCL=ON", "-DCMAKE_C_COMPILER=icx", "-DCMAKE_CXX_COMPILER=icpx"),
    Target.METAL: ("-DGGML_METAL=ON",),
}


def flags(recipe: Recipe) -> tuple[str, ...]:
    """What CMake is given."""
    kind: tuple[str, ...] = ("-DGGML_NATIVE=ON",)
    if recipe.portable:
        kind = ("-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON")
    metal = () if recipe.target is Target.METAL else ("-DGGML_METAL=OFF",)
    return (*_ALWAYS, *kind, *_TARGETS[recipe.target], *metal)


def identity(recipe: Recipe, compiler: str) -> str:
    """The id of a build: the same for the same release, flags, compiler and, unless it is portable, processor."""
    changes = (one.after for one in AMENDMENTS)
    told = "\n".join((RELEASE, compiler, *flags(recipe), *changes, "" if recipe.portable else recipe.processor))
    kind = "portable" if recipe.portable else "native"
    return f"{BUILD}-{recipe.target}-{kind}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A program that a build takes.

    Attributes:
        names: any of them will do.
        package: what to install, in words.
    """

    names: tuple[str, ...]
    package: str


_CXX = Need(
    names=("c++", "g++", "clang++"),
    package="`apt install build-essential`, `dnf install gcc-c++`, `pacman -S base-devel` or `xcode-select --install`",
)
_NEEDS: Mapping[Target, tuple[Need, ...]] = {
    Target.CPU: (_CXX,),
    Target.METAL: (_CXX,),
    Target.CUDA: (_CXX, Need(names=("nvcc",), package="the CUDA toolkit, such as `apt install nvidia-cuda-toolkit`")),
    Target.VULKAN: (
        _CXX,
        Need(names=("glslc",), package="`apt install glslc libvulkan-dev spirv-headers`, or the Vulkan SDK"),
    ),
    Target.ROCM: (
        _CXX,
        Need(names=("hipcc",), package="ROCm with hipBLAS, such as `apt install hipcc libhipblas-dev`"),
    ),
    Target.SYCL: (
        Need(names=("icpx",), package="Intel's oneAPI base toolkit; then `source /opt/intel/oneapi/setvars.sh`"),
    ),
}


def needs(target: Target) -> tuple[Need, ...]:
    """Programs of the system that a build takes, beside CMake and Ninja."""
    return _NEEDS[target]


VULKAN_HEADERS = 272
"""The least of 1.3: layer settings, which the source asks for, came with it. Debian 12 has 1.3.239."""
_VULKAN_HEADER = re.compile(r"#define VK_HEADER_VERSION (\d+)\s*$", re.MULTILINE)
HEADERS_ADVICE = "`apt install libvulkan-dev` of Debian 13 or Ubuntu 24.04, or the Vulkan SDK and its headers in CPATH"


def vulkan_headers(text: str) -> int | None:
    """The version of the Vulkan headers, from all that they define; None if there are none."""
    found = _VULKAN_HEADER.search(text)
    return int(found[1]) if found else None


_STEP = re.compile(r"\[(\d+)/(\d+)\] ")


def progress(line: str) -> float | None:
    """The share of its steps that Ninja has begun with this line, or None for any other line."""
    found = _STEP.match(line)
    return int(found[1]) / max(1, int(found[2])) if found else None


_KILLED = re.compile(r"(?:fatal error|internal compiler error): Killed|Killed signal terminated program", re.IGNORECASE)
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_ERROR = re.compile(
    r"^(?!CMake Warning)(?:.*?\b(?:fatal )?error(?: \S*\d+)?: .+|CMake Error.*|.*undefined reference to .*)"
)
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a build failed.

    Attributes:
        sentence: the first error, in the compiler's words.
        hint: what to do.
        lines: the error and what follows it in the log.
    """

    sentence: str
    hint: str
    lines: tuple[str, ...]


def failure(lines: Sequence[str]) -> Failure:
    """The first real error in the output of CMake, Ninja and compilers."""
    for pattern, sentence, hint in (
        (_FULL, "the disk is full", "make room, and start it again: it goes on where it stopped"),
        (_KILLED, "the compiler was killed, most likely for want of memory",
         "start it again with fewer at once: --jobs 1; it goes on where it stopped"),
    ):  # fmt: skip
        if any(pattern.search(line) for line in lines):
            return Failure(sentence=sentence, hint=hint, lines=tuple(lines[-_SHOWN:]))
    for number, line in enumerate(lines):
        if _ERROR.match(line):
            told = [part.strip() for part in lines[number : number + _SHOWN] if part.strip()]
            sentence = " ".join(told[:3]) if line.startswith("CMake Error") else told[0]
            return Failure(sentence=sentence, hint="its log has all of it", lines=tuple(told))
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return Failure(sentence=last, hint="its log has all of it", lines=tuple(lines[-_SHOWN:]))
