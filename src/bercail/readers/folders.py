"""Looking through folders for models: bounded in depth and number, safe with links, silent about nothing."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bercail.readers.exported import SIGNS, weigh
from bercail.readers.gguf.split import part_of, part_path
from bercail.readers.naming import Candidate, choose_projector, is_imatrix, is_projector, model_id

MAX_DEPTH = 8
MAX_ENTRIES = 100_000
_UNFINISHED = (".part", ".incomplete", ".downloadinprogress", ".aria2", ".crdownload", ".download", ".tmp")


@dataclass(slots=True)
class Listing:
    """What came of one place.

    Attributes:
        models: found there, in order of their paths.
        problems: files and folders that could not be used, in words.
        verdict: what came of it, in words.
    """

    models: list[Candidate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    verdict: str = ""

    def conclude(self) -> "Listing":
        """With the verdict that the number of models gives, unless there is one."""
        count = len(self.models)
        self.verdict = self.verdict or (f"{count} model{'' if count == 1 else 's'}" if count else "no models")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The GGUF files of one folder, by name.

    Attributes:
        files: sizes in bytes.
        exported: the folder itself is a model, for ONNX Runtime GenAI or OpenVINO.
    """

    path: Path
    files: dict[str, int]
    exported: bool = False


def search(root: Path, source: str, *, flat_cache: bool = False) -> Listing:
    """Models anywhere below ``root``.

    Args:
        root: a folder; it may be hidden or a link itself.
        source: who keeps models there.
        flat_cache: files of many repositories lie side by side: projectors go only with files of their own prefix.
    """
    listing = Listing()
    verdict = unusable(root)
    if verdict:
        listing.verdict = verdict
        return listing
    for folder in walk(root, listing.problems):
        listing.models.extend(models_in(folder, source, listing.problems, flat_cache=flat_cache))
    return listing.conclude()


def unusable(root: Path) -> str:
    """Why a folder cannot be searched, or an empty string."""
    try:
        mode = root.stat().st_mode
    except PermissionError:
        return "no permission"
    except (OSError, ValueError):
        return "not there"
    if not stat.S_ISDIR(mode):
        return "not a folder"
    return "" if os.access(root, os.R_OK | os.X_OK) else "no permission"


def walk(root: Path, problems: list[str]) -> Iterator[Folder]:
    """Every folder with models below ``root``, parents first; hidden ones below it are left out."""
    pending: list[tuple[Path, int]] = [(root, 0)]
    seen: set[tuple[int, int]] = set()
    budget = MAX_ENTRIES
    while pending:
        place, depth = pending.pop()
        names = _entries(place, seen, problems)
        budget -= len(names)
        if budget < 0:
            problems.append(f"{root}: more than {MAX_ENTRIES:,} entries; the rest was not looked at")
            return
        folder, below = _sorted(place, names, problems)
        if folder.files or folder.exported:
            yield folder
        if depth < MAX_DEPTH:
            pending.extend((path, depth + 1) for path in reversed(below))
        elif below:
            problems.append(f"{place}: more than {MAX_DEPTH} folders deep; what is below was not looked at")


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; False where that cannot be seen."""
    return stat.S_ISDIR(_look(path)[0])


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file; False where that cannot be seen."""
    return stat.S_ISREG(_look(path)[0])


def _sorted(place: Path, names: list[str], problems: list[str]) -> tuple[Folder, list[Path]]:
    """The GGUF files among the names in a folder, and the folders that are not hidden."""
    files: dict[str, int] = {}
    below: list[Path] = []
    for name in names:
        path = place / name
        mode, size = _look(path)
        lower = name.lower()
        if stat.S_ISDIR(mode):
            if not name.startswith("."):
                below.append(path)
        elif lower.endswith(".gguf"):
            _sort_file(path, mode, size, files, problems)
        elif ".gguf" in lower and lower.endswith(_UNFINISHED):
            problems.append(f"{path}: an unfinished download")
    return Folder(path=place, files=files, exported=any(sign in names for sign in SIGNS)), below


def models_in(
    folder: Folder,
    source: str,
    problems: list[str],
    *,
    flat_cache: bool = False,
    owner: str = "",
    above: Folder | None = None,
) -> Iterator[Candidate]:
    """The models of one folder, with their projectors (from ``above`` if the folder has none)."""
    if folder.exported:
        yield _export(folder, source, owner, above)
    models = [name for name in sorted(folder.files) if not is_projector(name) and not is_imatrix(name)]
    home = folder if any(is_projector(name) for name in folder.files) or above is None else above
    projectors = [name for name in sorted(home.files) if is_projector(name)]
    for name in models:
        size = _whole_size(folder, name, problems)
        if size is None:
            continue
        path = folder.path / name
        offered = [p for p in projectors if not flat_cache or _same_prefix(p, name)]
        projector = choose_projector(name, offered, models)
        yield Candidate(
            id=model_id(name),
            path=str(path),
            real_path=os.path.realpath(path),
            owner=owner or folder.path.name,
            source=source,
            bytes=size,
            projector=str(home.path / projector) if projector else None,
        )


def _export(folder: Folder, source: str, owner: str, above: Folder | None) -> Candidate:
    """A folder that is a model; in a repository it is named after that, for its own name may be a digest."""
    path = folder.path
    below = "" if above is None or above.path == path else f"-{path.name}"
    return Candidate(
        id=owner.rpartition("/")[2] + below if owner else path.name,
        path=str(path),
        real_path=os.path.realpath(path),
        owner=owner or path.parent.name,
        source=source,
        bytes=weigh(path),
    )


def _whole_size(folder: Folder, name: str, problems: list[str]) -> int | None:
    """Bytes of the model that begins with this file; None if it is a later part, or parts are missing (told once)."""
    part = part_of(name)
    if part is None:
        return folder.files[name]
    names = [Path(part_path(str(folder.path / name), number)).name for number in range(1, min(part.total, 1024) + 1)]
    here = [other for other in names if other in folder.files]
    if len(here) < part.total:
        if name == min(here):
            lost = next(other for other in names if other not in folder.files)
            problems.append(
                f"{folder.path / name}: {part.total - len(here)} of {part.total} parts are missing, the first is {lost}"
            )
        return None
    return sum(folder.files[other] for other in names) if part.number == 1 else None


def _same_prefix(projector: str, model: str) -> bool:
    """Whether what stands before ``mmproj`` begins the model's name, too."""
    prefix = projector[: projector.lower().index("mmproj")]
    return bool(prefix) and model.startswith(prefix)


def _entries(place: Path, seen: set[tuple[int, int]], problems: list[str]) -> list[str]:
    """Sorted names in a folder that has not been seen yet."""
    try:
        status = place.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            return []
        seen.add(identity)
        return sorted(path.name for path in place.iterdir())
    except PermissionError:
        problems.append(f"{place}: no permission")
    except OSError as error:
        problems.append(f"{place}: {error.strerror or error}")
    return []


def _look(path: Path) -> tuple[int, int]:
    """Mode and size of what a name leads to; zeros if it leads nowhere."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return status.st_mode, status.st_size


def _sort_file(path: Path, mode: int, size: int, files: dict[str, int], problems: list[str]) -> None:
    if stat.S_ISREG(mode):
        files[path.name] = size
    elif path.is_symlink():
        problems.append(f"{path}: a symbolic link that leads nowhere")
    else:
        problems.append(f"{path}: not a regular file")
