"""The source that llama.cpp is built from: fetched by pip, checked against its hash, unpacked."""

import asyncio
import hashlib
import shutil
import sys
import tarfile
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bercail.core.errors import EngineError, RefusedError
from bercail.core.launch import Progress
from bercail.engines.llama_cpp import flags
from bercail.engines.llama_cpp import recipe as book
from bercail.engines.llama_cpp.amendments import AMENDMENTS, Amendment, amended

WORK = "work"
KEPT_LINES = 4000
Tell = Callable[[Progress], None]
Run = Callable[[Sequence[str], Callable[[str], None]], Awaitable[int]]
"""Runs a program to its end: what it is called with, who hears its lines; its exit status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What the source has to be, and what is changed in it.

    Attributes:
        sha256: of the archive.
        amendments: to what it holds.
    """

    sha256: str = book.SHA256
    amendments: Sequence[Amendment] = AMENDMENTS


PINNED = Pinned()


async def archived(pinned: Pinned, folder: Path, source: str | None, run: Run, tell: Tell) -> Path:
    """The source, checked.

    Raises:
        RefusedError: it is not what it should be, or there is no pip to fetch it with.
        EngineError: it cannot be fetched.
    """
    archive = Path(source) if source else folder / book.ARCHIVE
    if source is None and not (archive.is_file() and await asyncio.to_thread(digest_of, archive) == pinned.sha256):
        tell(Progress(stage="fetching the source", fraction=0.0))
        await _fetch(pinned, folder, run)
    if not archive.is_file():
        raise RefusedError(f"{archive} is no file", hint=f"name {book.ARCHIVE}, or leave --source out to fetch it")
    found = await asyncio.to_thread(digest_of, archive)
    if found != pinned.sha256:
        raise RefusedError(
            f"{archive} is not {book.ARCHIVE}: its SHA-256 is {found}, not {pinned.sha256}",
            hint="fetch it again, from a place you trust",
            code="wrong_hash",
        )
    return archive


async def _fetch(pinned: Pinned, folder: Path, run: Run) -> None:
    """By pip, which knows the index, the mirror and the keys of this environment, and checks the hash first."""
    wanted = folder / WORK / "source.txt"
    wanted.write_text(f"{book.PACKAGE}=={flags.RELEASE} --hash=sha256:{pinned.sha256}\n")
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    command = (
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-binary", book.PACKAGE, "--require-hashes", "-r", str(wanted), "-d", str(folder),
    )  # fmt: skip
    if await run(command, lines.append) == 0:
        return
    text = "\n".join(lines)
    if "No module named pip" in text:
        raise RefusedError(
            "the source is fetched by pip, which is not in this environment",
            hint=f"`python -m ensurepip`, or fetch {book.ARCHIVE} yourself and name it with --source",
            code="no_pip",
        )
    if "DO NOT MATCH THE HASHES" in text:
        raise RefusedError(
            f"the package index has another {book.ARCHIVE} than the one Bercail knows (SHA-256 {pinned.sha256})",
            hint="somebody may have changed it: look at where pip fetches from",
            code="wrong_hash",
        )
    told = [line for line in lines if line.startswith("ERROR")] or list(lines)[-1:]
    raise EngineError(
        f"the source cannot be fetched: {' '.join(told)[:300]}",
        hint=f"fetch {book.ARCHIVE} on another machine and name it with --source",
        code="no_source",
        log_tail=tuple(lines)[-40:],
    )


async def unpacked(archive: Path, pinned: Pinned, work: Path, tell: Tell) -> Path:
    """The folder of llama.cpp's own source below `work`, unpacked and amended unless it was before.

    Raises:
        EngineError: it is not the source that the amendments are for.
    """
    source = work / "source"
    if not source.is_dir():
        tell(Progress(stage="unpacking", fraction=0.0))
        draft = work / "source.part"
        await asyncio.to_thread(_unpack, archive, draft)
        await asyncio.to_thread(_amend, draft / book.SOURCE, pinned.amendments)
        draft.rename(source)
    return source / book.SOURCE


def _unpack(archive: Path, folder: Path) -> None:
    """The engine's part of the archive; nothing of it can leave `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as file:
        members = (member for member in file if member.name.startswith(book.SOURCE))
        file.extractall(folder, members=members, filter="data")


def _amend(source: Path, amendments: Sequence[Amendment]) -> None:
    texts = {one.file: (source / one.file).read_text(encoding="utf-8") for one in amendments}
    for name, text in amended(texts, amendments).items():
        (source / name).write_text(text, encoding="utf-8")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
