"""Builds llama.cpp from source on this machine, and keeps what was built.

A build goes on where a killed one stopped: the unpacked source and Ninja's tree stay until it is done. What is done
appears in its place in one step, with the SHA-256 of each file beside it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bercail.core.build import Build, Recipe, Target
from bercail.core.errors import EngineError, RefusedError
from bercail.core.launch import Progress
from bercail.core.units import format_bytes
from bercail.engines.llama_cpp import flags
from bercail.engines.llama_cpp import recipe as book
from bercail.engines.llama_cpp.server_flags import parse_version
from bercail.engines.llama_cpp.source import KEPT_LINES, PINNED, WORK, Pinned, Tell, archived, digest_of, unpacked
from bercail.engines.process import ChildProcess, Command
from bercail.engines.runtime import end

EXTRA = "pip install 'bercail[build]'"
_RECORD = "build.json"
_LOG = "build.log"
_LIBRARIES = ("*.so", "*.so.*", "*.dylib", "*.dll")


class Workshop:
    """Builds, and a folder of what was built; implements ``ports.Workshop``."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        pinned: Pinned = PINNED,
        cuda_card: Path = Path("/dev/nvidiactl"),
        trial: Path | None = None,
    ) -> None:
        """Make it; nothing is touched yet.

        Args:
            folder: of the builds.
            environment: of compilers: ``PATH``, ``CXX``, ``PIP_INDEX_URL`` ...
            pinned: what the archive of the source must be, and what is changed in it.
            cuda_card: is there where an NVIDIA card is.
            trial: a small model that what was built has to compute with; None leaves that out.
        """
        self._folder = folder
        self._pinned = pinned
        self._cuda_card = cuda_card
        self._trial = trial
        scripts = str(Path(sys.executable).parent)  # where pip puts cmake and ninja
        self._environment = {**environment, "PATH": f"{scripts}{os.pathsep}{environment.get('PATH', os.defpath)}"}

    def builds(self) -> tuple[Build, ...]:
        """What was built, the newest first; a damaged record is no build."""
        found = [build for path in self._folder.glob(f"*/{_RECORD}") if (build := _read(path))]
        return tuple(sorted(found, key=lambda build: -build.made_s))

    async def build(self, recipe: Recipe, *, jobs: int, source: str | None, tell: Tell) -> Build:
        """Make what `recipe` says, or find that it is there.

        Args:
            recipe: what to build.
            jobs: compilers at once.
            source: archive of the source on this machine; None fetches it from the package index.
            tell: hears of every step.

        Raises:
            RefusedError: something that it takes is missing, with what to install; or the archive is not the one.
            EngineError: it failed, with the first error.
        """
        started_s = time.monotonic()
        if recipe.target is Target.CUDA and not recipe.portable and not self._cuda_card.exists():
            raise RefusedError(
                f"a build for the NVIDIA card of this machine needs one, and there is no {self._cuda_card}",
                hint="--portable builds for the cards of the last years, which takes far longer",
                code="no_gpu",
            )
        compiler = await self._check(recipe.target)
        identity = book.identity(recipe, compiler)
        place, work = self._folder / identity, self._folder / WORK / identity
        try:
            work.mkdir(parents=True, exist_ok=True)
            with _alone(work):
                if made := _read(place / _RECORD):
                    return made
                archive = await archived(self._pinned, self._folder, source, self._run, tell)
                tree = await unpacked(archive, self._pinned, work, tell)
                await self._compile(recipe, tree, work, jobs, tell)
                await self._try(work / "tree" / "bin", tell)
                made = await asyncio.to_thread(self._install, recipe, compiler, work, place, started_s)
        except OSError as error:
            raise _translated(error) from error
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        return made

    async def verify(self, build: Build) -> tuple[str, ...]:
        """What is wrong with a build: files that are missing or changed, or do not run; empty if it is sound."""
        folder = Path(build.folder)
        wrong = [
            f"{name} {'has changed' if (folder / name).is_file() else 'is missing'}"
            for name, digest in build.files.items()
            if not (folder / name).is_file() or await asyncio.to_thread(digest_of, folder / name) != digest
        ]
        if wrong:
            return tuple(wrong)
        lines: list[str] = []
        status = await self._run((str(folder / "llama-server"), "--version"), lines.append)
        if status or parse_version("\n".join(lines)) != build.release:
            return (f"llama-server --version ends with status {status} and says: {' '.join(lines)[:200]}",)
        crash = await self._crash(folder)
        return (crash,) if crash else ()

    def remove(self, build: Build) -> None:
        """Delete a build.

        Raises:
            EngineError: it cannot be deleted.
        """
        try:
            shutil.rmtree(build.folder)
        except OSError as error:
            raise _translated(error) from error

    async def _check(self, target: Target) -> str:
        """See that all it takes is there; the compiler in its own words.

        Raises:
            RefusedError: something is missing, or the disk is too full.
        """
        for need in book.needs(target):
            if not any(self._which(name) for name in need.names):
                raise RefusedError(
                    f"a build for {target} takes {need.names[0]}, which is not installed",
                    hint=f"install {need.package}",
                    code="no_compiler",
                )
        for name in ("cmake", "ninja"):
            if not self._which(name):
                raise RefusedError(f"a build takes {name}, which is not installed", hint=EXTRA, code="no_build_tools")
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < book.ROOM_BYTES:
            raise RefusedError(
                f"a build takes up to {format_bytes(book.ROOM_BYTES)} of disk, and {self._folder} has "
                f"{format_bytes(free)} left",
                hint="make room, or name another place in XDG_CACHE_HOME",
                code="disk_full",
            )
        compiler = self._environment.get("CXX") or next(
            name for name in book.needs(target)[0].names if self._which(name)
        )
        if target is Target.VULKAN:
            await self._check_headers(compiler)
        lines: list[str] = []
        await self._run((compiler, "--version"), lines.append)
        return lines[0] if lines else compiler

    async def _check_headers(self, compiler: str) -> None:
        """See that the Vulkan headers are as new as the source needs them, before an hour goes into shaders.

        Raises:
            RefusedError: they are missing, or older.
        """
        lines: list[str] = []
        every = (compiler, "-E", "-dM", "-x", "c++", "-include", "vulkan/vulkan_core.h", os.devnull)
        await self._run(every, lines.append)
        version = book.vulkan_headers("\n".join(lines))
        if version is None:
            raise RefusedError(
                "a build for vulkan takes the headers of Vulkan, which are not installed",
                hint=f"install {book.HEADERS_ADVICE}",
                code="no_headers",
            )
        if version < book.VULKAN_HEADERS:
            raise RefusedError(
                f"a build for vulkan takes Vulkan headers of 1.3.{book.VULKAN_HEADERS} or newer, and those of this "
                f"system are of release {version}",
                hint=f"take {book.HEADERS_ADVICE}",
                code="old_headers",
            )

    def _which(self, name: str) -> str | None:
        return shutil.which(name, path=self._environment["PATH"])

    async def _compile(self, recipe: Recipe, source: Path, work: Path, jobs: int, tell: Tell) -> None:
        """Configure, and compile what is not compiled yet.

        Raises:
            EngineError: it failed, with the first error.
        """
        tree, log = work / "tree", work / _LOG
        configure = ("cmake", "-G", "Ninja", "-S", str(source), "-B", str(tree), *book.flags(recipe))
        compile_ = ("cmake", "--build", str(tree), "--parallel", str(jobs), "--target", *book.PROGRAMS)
        with log.open("w", buffering=1, encoding="utf-8", errors="replace") as file:
            for stage, argv in (("configuring", configure), ("compiling", compile_)):
                tell(Progress(stage=stage, fraction=0.0))
                lines: deque[str] = deque(maxlen=KEPT_LINES)

                def hear(line: str, lines: deque[str] = lines, stage: str = stage) -> None:
                    file.write(f"{line}\n")
                    lines.append(line)
                    if (share := book.progress(line)) is not None:
                        tell(Progress(stage=stage, fraction=share))

                if await self._run((str(self._which(argv[0])), *argv[1:]), hear):
                    found = book.failure(tuple(lines))
                    raise EngineError(
                        f"{stage} failed: {found.sentence}",
                        hint=f"{found.hint}: {log}",
                        code="build_failed",
                        log_tail=found.lines,
                    )

    async def _try(self, folder: Path, tell: Tell) -> None:
        """See that what was compiled also computes, which a compiler's mistake or a virtual machine may prevent.

        Raises:
            EngineError: it crashes, or ends with an error.
        """
        tell(Progress(stage="trying", fraction=0.0))
        if crash := await self._crash(folder):
            raise EngineError(
                f"what was built does not work: {crash}",
                hint="take another compiler (CXX=clang++), or build with --portable",
                code="build_crashes",
            )

    async def _crash(self, folder: Path) -> str:
        """How a short prompt and answer on the CPU end in the programs of `folder`; empty if well."""
        if self._trial is None:
            return ""
        argv = (str(folder / "llama-bench"), "-m", str(self._trial), "-p", "64", "-n", "4", "-r", "1", "-ngl", "0")
        status = await self._run(argv, lambda _: None)
        if not status:
            return ""
        ending = f"signal {-status}" if status < 0 else f"status {status}"
        return f"llama-bench with a small model ends with {ending}"

    def _install(self, recipe: Recipe, compiler: str, work: Path, place: Path, started_s: float) -> Build:
        made = work / "tree" / "bin"
        draft = place.with_name(f"{place.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for path in (*(made / name for name in book.PROGRAMS), *(p for glob in _LIBRARIES for p in made.glob(glob))):
            shutil.copy2(path, draft / path.name, follow_symlinks=False)
        real = [path for path in draft.iterdir() if path.is_file() and not path.is_symlink()]
        build = Build(
            id=place.name,
            release=flags.BUILD,
            recipe=recipe,
            flags=book.flags(recipe),
            amended=tuple(one.reason for one in self._pinned.amendments),
            compiler=compiler,
            made_s=int(time.time()),
            took_s=round(time.monotonic() - started_s, 1),
            folder=str(place),
            bytes=sum(path.stat().st_size for path in real),
            files={path.name: digest_of(path) for path in sorted(real)},
        )
        shutil.copy2(work / _LOG, draft / _LOG)
        (draft / _RECORD).write_text(json.dumps(asdict(build), indent=1), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
        return build

    async def _run(self, argv: Sequence[str], hear: Callable[[str], None]) -> int:
        """The exit status of a program, negative for a signal; it ends with us."""
        command = Command(argv=argv, environment=self._environment)
        child = await ChildProcess.spawn(command, hear, hear)
        try:
            return (await child.wait()).code
        finally:
            await asyncio.shield(end(child))


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Nobody else makes this build meanwhile.

    Raises:
        RefusedError: somebody does.
    """
    import fcntl

    with work.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(
                "this build is being made right now by another bercail", hint="wait for it", code="build_runs"
            ) from error
        yield


def _read(record: Path) -> Build | None:
    """The build that a record tells of, or None if it tells of none."""
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        recipe = Recipe(**{**said["recipe"], "target": Target(said["recipe"]["target"])})
        build = Build(
            **{
                **said,
                "recipe": recipe,
                "flags": tuple(said["flags"]),
                "folder": str(record.parent),
                "amended": tuple(said.get("amended", ())),
            }
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return build


def _translated(error: OSError) -> EngineError:
    return EngineError(
        f"{error.filename or 'a file'}: {error.strerror or error}",
        hint="look at the disk and at who may write there",
        code="build_files",
    )
