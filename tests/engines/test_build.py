"""Building an engine from source: real CMake, Ninja and compiler on a project that is small."""

import asyncio
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from bercail.core.build import Build, Recipe, Target, compilers_at_once, named, recipe_for
from bercail.core.errors import EngineError, RefusedError
from bercail.core.launch import Progress
from bercail.engines.llama_cpp import recipe as book
from bercail.engines.llama_cpp.amendments import AMENDMENTS, Amendment, amended
from bercail.engines.llama_cpp.build import Workshop
from bercail.engines.llama_cpp.source import Pinned
from bercail.store import find_paths
from fakes.models import a_machine

LISTS = """
cmake_minimum_required(VERSION 3.14)
project(small CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_library(small SHARED small.cpp)
foreach(name %s)
  add_executable(${name} main.cpp)
  target_link_libraries(${name} small)
endforeach()
""" % " ".join(book.PROGRAMS)  # noqa: UP031 - braces are CMake's
MAIN = """
#include <cstdio>
const char * version();
int main() { std::printf("version: %s\\n", version()); }
"""
SMALL = """
const char * version() { return "11549 (b11549)"; }
"""


def archive(folder: Path, changes: Mapping[str, str]) -> tuple[Path, str]:
    """The source of a small project in the layout of the real one, and its SHA-256."""
    files = {"CMakeLists.txt": LISTS, "main.cpp": MAIN, "small.cpp": SMALL, **changes}
    path = folder / "source.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, text in files.items():
            info = tarfile.TarInfo(book.SOURCE + name)
            info.size = len(text.encode())
            file.addfile(info, io.BytesIO(text.encode()))
        outside = tarfile.TarInfo("other/secret.txt")
        file.addfile(outside, io.BytesIO())
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


needs_compiler = pytest.mark.skipif(
    not (shutil.which("c++") and Path(sys.executable).with_name("ninja").exists()), reason="no C++ compiler here"
)
RECIPE = Recipe(target=Target.CPU, processor="Test CPU")


class Bench:
    """A workshop, and what it told."""

    def __init__(
        self,
        folder: Path,
        changes: Mapping[str, str] | None = None,
        environment: Mapping[str, str] = os.environ,
        trial: Path | None = None,
        amendments: Sequence[Amendment] = (),
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.source, sha256 = archive(folder, changes or {})
        self.folder = folder / "engines"
        self.workshop = Workshop(
            self.folder,
            environment,
            pinned=Pinned(sha256=sha256, amendments=amendments),
            cuda_card=folder / "card",
            trial=trial,
        )
        self.told: list[Progress] = []

    def build(self, recipe: Recipe = RECIPE) -> Build:
        return asyncio.run(self.workshop.build(recipe, jobs=2, source=str(self.source), tell=self.told.append))

    def verify(self, build: Build) -> tuple[str, ...]:
        return asyncio.run(self.workshop.verify(build))


@needs_compiler
def test_a_build_is_made_once_kept_verified_and_deleted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    made = bench.build()
    stages = list(dict.fromkeys(step.stage for step in bench.told))
    assert stages == ["unpacking", "configuring", "compiling", "trying"]
    assert bench.told[-2].fraction == 1.0
    assert made.id.startswith("b11549-cpu-native-")
    assert (made.release, made.recipe, Path(made.folder).parent) == ("b11549", RECIPE, bench.folder)
    assert {*book.PROGRAMS, "libsmall.so"} == set(made.files)
    assert made.bytes == sum((Path(made.folder) / name).stat().st_size for name in made.files)
    assert "-DGGML_NATIVE=ON" in made.flags
    assert "Linking" in (Path(made.folder) / "build.log").read_text()
    assert not list((bench.folder / "work").glob("*/"))
    moved = bench.folder.rename(tmp_path / "moved")  # its libraries are found beside it
    said = subprocess.run([moved / made.id / "llama-server"], capture_output=True, text=True, check=True).stdout
    assert said == "version: 11549 (b11549)\n"
    moved.rename(bench.folder)

    bench.told.clear()
    assert bench.build() == made == bench.workshop.builds()[0]
    assert bench.told == []

    assert bench.verify(made) == ()
    server, quantize = (Path(made.folder) / name for name in ("llama-server", "llama-quantize"))
    server.write_bytes(server.read_bytes() + b" ")
    quantize.unlink()
    assert sorted(bench.verify(made)) == ["llama-quantize is missing", "llama-server has changed"]
    bench.workshop.remove(made)
    assert bench.workshop.builds() == ()


CRASHES = "#include <csignal>\n" + MAIN.replace(
    "main() {", "main(int argc, char **) { if (argc > 2) std::raise(SIGILL);"
)


@needs_compiler
def test_what_compiles_and_does_not_compute_is_not_kept_but_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"main.cpp": CRASHES}, trial=tmp_path / "small.gguf")
    with pytest.raises(EngineError, match="llama-bench with a small model ends with signal 4") as caught:
        bench.build()
    assert caught.value.code == "build_crashes"
    assert "CXX=clang++" in caught.value.hint
    assert bench.workshop.builds() == ()


@needs_compiler
def test_a_build_that_runs_and_does_not_compute_is_not_sound(tmp_path: Path) -> None:
    made = Bench(tmp_path, {"main.cpp": CRASHES}).build()
    again = Workshop(Path(made.folder).parent, os.environ, trial=tmp_path / "small.gguf")
    assert asyncio.run(again.verify(made)) == ("llama-bench with a small model ends with signal 4",)


def test_the_release_that_is_built_is_the_one_that_the_changes_are_for() -> None:
    here = find_paths(os.environ, home=Path.home(), system=platform.system(), user_id=None)
    archive = here.cache / "engines" / book.ARCHIVE
    if not archive.is_file():
        pytest.skip(f"{book.ARCHIVE} was not fetched here (bercail engine build does)")
    with tarfile.open(archive) as file:
        read = {one.file: file.extractfile(book.SOURCE + one.file) for one in AMENDMENTS}
        texts = {name: text.read().decode() for name, text in read.items() if text}
    changed = amended(texts, AMENDMENTS)
    assert all(one.after in changed[one.file] for one in AMENDMENTS)


MENDED = Amendment(file="small.cpp", before="(b11549 )", after="(b11549)", reason="the version had a space too many")


@needs_compiler
def test_what_is_built_is_the_source_as_it_was_changed_and_its_record_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"small.cpp": SMALL.replace("11549 (b11549)", "11549 (b11549 )")}, amendments=(MENDED,))
    made = bench.build()
    assert made.amended == ("the version had a space too many",)
    assert bench.workshop.builds() == (made,)
    said = subprocess.run([Path(made.folder) / "llama-server"], capture_output=True, text=True, check=True).stdout
    assert said == "version: 11549 (b11549)\n"


@pytest.mark.parametrize("text", ["nothing of it", MENDED.before * 2])
def test_a_source_that_is_another_one_is_not_changed_by_guess(text: str) -> None:
    with pytest.raises(EngineError, match=r"small\.cpp holds what is to be changed there [02] times") as caught:
        amended({MENDED.file: text}, (MENDED,))
    assert caught.value.code == "other_source"


@needs_compiler
def test_a_source_that_cannot_be_changed_is_not_built(tmp_path: Path) -> None:
    bench = Bench(tmp_path, amendments=(MENDED,))
    with pytest.raises(EngineError, match="0 times, not once"):
        bench.build()
    assert bench.workshop.builds() == ()
    assert not list((bench.folder / "work").glob("*/source"))


@needs_compiler
def test_the_first_error_of_the_compiler_is_told_and_what_is_done_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"main.cpp": "int main() { return unknown_name; }\n"})
    with pytest.raises(
        EngineError, match=r"compiling failed: .*main.cpp:1:21: error: .unknown_name. was not"
    ) as caught:
        bench.build()
    assert len(caught.value.log_tail) <= 5
    log = Path(caught.value.hint.rpartition(": ")[2])
    assert "unknown_name" in log.read_text()
    assert bench.workshop.builds() == ()
    broken = next((bench.folder / "work").glob("*/source")) / book.SOURCE / "main.cpp"
    broken.write_text(MAIN)
    bench.told.clear()
    bench.build()
    assert bench.told[0].stage == "configuring"  # nothing is unpacked again


@needs_compiler
def test_a_project_that_cannot_be_configured_is_told_of(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"CMakeLists.txt": 'message(FATAL_ERROR "needs a newer world")\n'})
    with pytest.raises(EngineError, match=r"configuring failed: CMake Error .*needs a newer world"):
        bench.build()


@needs_compiler
def test_a_stopped_build_leaves_no_compiler_and_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def stopped() -> None:
        compiling = asyncio.Event()

        def tell(step: Progress) -> None:
            if step.stage == "compiling":
                compiling.set()

        making = asyncio.create_task(bench.workshop.build(RECIPE, jobs=1, source=str(bench.source), tell=tell))
        await compiling.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(stopped())
    assert bench.workshop.builds() == ()
    assert bench.verify(bench.build()) == ()


@needs_compiler
def test_two_at_once_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def both() -> list[Build | BaseException]:
        make = [bench.workshop.build(RECIPE, jobs=1, source=str(bench.source), tell=bench.told.append) for _ in "ab"]
        return await asyncio.gather(*make, return_exceptions=True)

    found = asyncio.run(both())
    refused = [one for one in found if isinstance(one, RefusedError)]
    assert len(refused) == 1
    assert "another bercail" in str(refused[0])


@needs_compiler
def test_a_build_that_does_not_run_is_unsound(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"small.cpp": 'const char * version() { return "1"; }\n'})
    (wrong,) = bench.verify(bench.build())
    assert "llama-server --version ends with status 0 and says: version: 1" in wrong


@needs_compiler
def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.source.write_bytes(bench.source.read_bytes() + b"\0")
    with pytest.raises(RefusedError, match="its SHA-256 is"):
        bench.build()
    bench.source.unlink()
    with pytest.raises(RefusedError, match=r"source.tar.gz is no file"):
        bench.build()


def test_what_is_missing_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    bench = Bench(tmp_path, environment={"PATH": str(tmp_path)})
    with pytest.raises(RefusedError, match=r"takes c\+\+.*build-essential"):
        bench.build()
    for name in ("c++",):
        (tmp_path / name).write_text("#!/bin/sh\necho test compiler 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(RefusedError, match=r"takes cmake.*pip install 'bercail\[build\]'"):
        bench.build()
    with pytest.raises(RefusedError, match=r"takes nvcc.*nvidia-cuda-toolkit"):
        bench.build(Recipe(target=Target.CUDA, portable=True))
    with pytest.raises(RefusedError, match=r"needs one, and there is no .*--portable"):
        bench.build(Recipe(target=Target.CUDA))
    (tmp_path / "card").touch()
    with pytest.raises(RefusedError, match="takes nvcc"):
        bench.build(Recipe(target=Target.CUDA))


@pytest.mark.parametrize(
    ("said", "words"),
    [("", "headers of Vulkan, which are not installed"), ("#define VK_HEADER_VERSION 239", "are of release 239"),
     ("#define VK_HEADER_VERSION 272\n#define VK_HEADER_VERSION_COMPLETE 1", "is no file")],
)  # fmt: skip
def test_headers_of_vulkan_that_are_too_old_are_told_before_anything_is_compiled(
    tmp_path: Path, said: str, words: str
) -> None:
    for name in ("c++", "glslc", "cmake", "ninja"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    bench = Bench(tmp_path, environment={"PATH": str(tmp_path)})
    bench.source.unlink()
    with pytest.raises(RefusedError, match=words):
        bench.build(Recipe(target=Target.VULKAN, portable=True))


def test_a_damaged_record_is_no_build(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", "{}"), ("c", '{"recipe": {"target": "abacus"}}'), ("d", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "build.json").write_text(text)
    assert Workshop(tmp_path, {}).builds() == ()


FAILURES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("[1/9] c++ a.cpp", "a.cpp:3:1: error: expected ';'", "  3 | int", "b.cpp:1:1: error: later"), "a.cpp:3:1: error"),
    (("CMake Warning: no git", "CMake Error at x.cmake:3 (message):", "", "  Vulkan not found"), "Vulkan not found"),
    (("nvcc fatal   : Unsupported gpu", "ninja: build stopped"), "ninja: build stopped"),
    (("a.cpp:(.text+0x1): undefined reference to `f'",), "undefined reference"),
    (("c++: fatal error: Killed signal terminated program cc1plus",), "want of memory"),
    (("a.cpp:1:1: error: x", "fatal error: error writing to a.o: No space left on device"), "the disk is full"),
    (("ggml.cu(3): error #20: identifier",), "ggml.cu"),
    ((), "it said nothing"),
)


@pytest.mark.parametrize(("lines", "words"), FAILURES)
def test_the_reason_of_a_failure(lines: tuple[str, ...], words: str) -> None:
    found = book.failure(lines)
    assert words in found.sentence
    assert found.hint


@pytest.mark.parametrize("target", Target)
def test_every_target_has_flags_and_needs(target: Target) -> None:
    native, portable = (book.flags(Recipe(target=target, portable=kind)) for kind in (False, True))
    assert "-DGGML_NATIVE=ON" in native
    assert {"-DGGML_NATIVE=OFF", "-DGGML_CPU_ALL_VARIANTS=ON"} <= set(portable)
    assert all(need.names and need.package for need in book.needs(target))
    assert ("-DGGML_METAL=OFF" in native) == (target is not Target.METAL)


def test_an_id_follows_from_all_that_matters() -> None:
    def identity(compiler: str = "gcc 12", **changes: object) -> str:
        return book.identity(Recipe(**{"target": Target.CPU, "processor": "a", **changes}), compiler)  # type: ignore[arg-type]

    assert identity() == identity()
    others = {identity(processor="b"), identity("gcc 13"), identity(target=Target.CUDA), identity(portable=True)}
    assert len({*others, identity()}) == 5
    assert identity(portable=True) == identity(portable=True, processor="b")


def test_a_recipe_names_the_processor_unless_it_is_portable() -> None:
    machine = a_machine()
    assert recipe_for(machine, Target.CPU, portable=False).processor == "Test CPU: avx2 fma"
    assert recipe_for(machine, Target.CPU, portable=True).processor == ""


@pytest.mark.parametrize(("available", "quota", "jobs"), [(64, None, 8), (4, None, 2), (1, None, 1), (64, 2.0, 2)])
def test_as_many_compilers_as_cpus_and_memory_allow(available: int, quota: float | None, jobs: int) -> None:
    assert compilers_at_once(a_machine(available << 30, quota_cpus=quota)) == jobs


def test_a_part_of_an_id_is_enough() -> None:
    make: Callable[[str], Build] = lambda name: Build(  # noqa: E731
        id=name, release="b1", recipe=RECIPE, flags=(), compiler="", made_s=0, took_s=0, folder="", bytes=0
    )
    builds = [make("b1-cpu-native-1"), make("b1-cpu-native-12")]
    assert named(builds, "native-12") == builds[1]
    assert named(builds, "b1-cpu-native-1") == builds[0]
    assert named(builds, "cpu") is None
    assert named(builds, "") is None
