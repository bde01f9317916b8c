"""The model reader: finds model files and reads them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bercail.core.errors import ReadError
from bercail.core.model import DEMO_ID, Findings, Format, FoundModel, Model, on_the_web
from bercail.core.quotes import told
from bercail.readers import exported, places, remote
from bercail.readers.folders import Folder, Listing, is_folder, models_in, search, unusable, walk
from bercail.readers.gguf import describe, source, vocabulary
from bercail.readers.gguf.split import part_of, part_path
from bercail.readers.naming import Candidate, unique


class Readers:
    """Reads models from files, folders and the stores of other tools; implements ``ports.ModelReader``."""

    def __init__(
        self,
        environment: Mapping[str, str],
        home: Path,
        cwd: Path,
        demo: Path | None = None,
        headers: Path | None = None,
    ) -> None:
        """Look around from here.

        Args:
            environment: variables that move other tools' stores: ``HF_HUB_CACHE``, ``HF_HOME``, ``OLLAMA_MODELS``,
                ``LLAMA_CACHE``, ``XDG_CACHE_HOME``.
            home: the user's home folder.
            cwd: what relative paths are relative to.
            demo: the model in the box, found where nothing else is, or None.
            headers: where headers of models on the web are kept; below ``home``, if None.
        """
        self._environment = environment
        self._home = home
        self._cwd = cwd
        self._demo = demo
        self._headers = headers or home / ".cache" / "bercail" / "headers"
        self._audited: set[tuple[object, ...]] = set()

    def find(self, paths: Sequence[str], folders: Sequence[str]) -> Findings:
        """Models at ``paths``; else in ``folders``, else where other tools keep theirs; if none is there, the demo."""
        if paths:
            return _findings((path, self._named(path)) for path in paths)
        if folders:
            places_looked = [(folder, self._below(folder)) for folder in folders]
        else:
            known = places.known(self._environment, self._home, self._cwd)
            places_looked = [(str(place.path), place.look(place.path)) for place in known]
        if self._demo is not None and not any(listing.models for _, listing in places_looked):
            places_looked.append(("demo", _in_the_box(self._demo)))
        return _findings(places_looked)

    def read(self, path: str, *, projector: str | None = None) -> Model:
        """The model at ``path``, checked for everything that would harm an engine short of reading token arrays.

        Raises:
            ReadError: it cannot be read or must not be loaded.
        """
        if on_the_web(path):
            raise _not_here(path)
        if exported.format_of(self._absolute(path)) is not None:
            return exported.read(self._absolute(path))
        beside = str(self._absolute(projector)) if projector is not None else None
        return describe.read_model(str(self._absolute(path)), beside)

    def read_remote(self, url: str) -> Model:
        """The model at ``url``, as far as its header tells: nothing else is fetched, and the file cannot be loaded.

        Raises:
            ReadError: it cannot be fetched, or is no model.
        """
        return remote.read_remote(url, self._headers)

    def audit_vocabulary(self, model: Model) -> None:
        """Read the token arrays and check what an engine would not survive (about 0.1 s for 150,000 tokens).

        A big-endian file, which can be read but not loaded, is refused here, too. A file that has not changed since it
        passed is not read again.

        Raises:
            ReadError: the vocabulary would abort an engine, or the file changed since it was read.
        """
        if model.format is not Format.GGUF:  # of others the engine reads the vocabulary itself
            return
        seen = _seen(model)
        if seen not in self._audited:  # a model that comes back into memory is as sound as it was
            vocabulary.audit(model)
            self._audited.add(seen)

    def _absolute(self, path: str) -> Path:
        if path == "~" or path.startswith("~/"):
            return self._home / path[2:]
        # No resolving: a link in a snapshot keeps the name that says what it is.
        return Path(os.path.normpath(self._cwd / path)) if path else self._cwd

    def _below(self, folder: str) -> Listing:
        """What is in a folder of the settings; one that cannot be searched is a problem, since somebody named it."""
        listing = search(self._absolute(folder), "settings")
        if why := unusable(self._absolute(folder)):
            hint = told(folder)
            listing.problems.append(f"{folder}: {why}: {hint}" if hint else f"{folder}: {why}")
        return listing

    def _named(self, path: str) -> Listing:
        """What an argument names: something on disk, or the demo by its id."""
        if on_the_web(path):
            listing = Listing(problems=[str(_not_here(path))])
            listing.verdict = "is not on this machine"
            return listing
        if self._demo is not None and path == DEMO_ID and not self._absolute(path).exists():
            return _in_the_box(self._demo)
        return self._at(path)

    def _at(self, path: str) -> Listing:
        """What an argument names: a file, or a folder to search."""
        place = self._absolute(path)
        if is_folder(place):
            return search(place, "argument")
        listing = Listing()
        named = part_of(place.name)
        if named is not None and named.number > 1:
            place = Path(part_path(str(place), 1))
        try:
            size = source.file_bytes(str(place))
        except ReadError as error:
            listing.problems.append(str(error))
            listing.verdict = "cannot be used"
            return listing
        listing.models.extend(_alone(place, size, listing.problems))
        return listing.conclude()


def _not_here(url: str) -> ReadError:
    """What to do with an address where a file is wanted."""
    hint = "fetch it (curl -LO ADDRESS) and name the file; plan and inspect take the address and read its header"
    return ReadError("Bercail does not download models", path=url, hint=hint)


def _in_the_box(demo: Path) -> Listing:
    """The demo, as a place of its own."""
    listing = Listing()
    size = source.file_bytes(str(demo))
    listing.models.append(
        Candidate(
            id=DEMO_ID, path=str(demo), real_path=os.path.realpath(demo), owner="bercail", source="demo", bytes=size
        )
    )
    return listing.conclude()


def _alone(place: Path, size: int, problems: list[str]) -> Iterator[Candidate]:
    """The one model of a folder that the argument names, with its projector."""
    folder = next(walk(place.parent, []), None) if place.name.lower().endswith(".gguf") else None
    if folder is None or folder.path != place.parent or place.name not in folder.files:
        folder = Folder(path=place.parent, files={place.name: size})
    told: list[str] = []
    found = [model for model in models_in(folder, "argument", told) if Path(model.path).name == place.name]
    problems.extend(word for word in told if place.name in word)
    if not found and not problems:
        # A projector or importance matrix by name; reading it says what it is.
        found = [
            Candidate(
                id=describe.identity(str(place)), path=str(place), real_path=os.path.realpath(place),
                owner=place.parent.name, source="argument", bytes=size,
            )
        ]  # fmt: skip
    yield from found


def _findings(listings: Iterable[tuple[str, Listing]]) -> Findings:
    """One result of all places: each file once, every id once."""
    candidates: list[Candidate] = []
    looked: list[str] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for name, listing in listings:
        again = 0
        for model in listing.models:
            if model.real_path in seen:
                again += 1
                continue
            seen[model.real_path] = name
            candidates.append(model)
        looked.append(f"{name}: {listing.verdict}" + (f" ({again} of them seen before)" if again else ""))
        problems.extend(listing.problems)
    models, words = unique(candidates)
    return Findings(
        models=tuple(
            FoundModel(
                id=m.id,
                path=m.path,
                source=m.source,
                bytes=m.bytes,
                projector=m.projector,
                modified_s=_modified_s(m.path),
            )
            for m in models
        ),
        looked=(*looked, *words),
        problems=tuple(problems),
    )


def _seen(model: Model) -> tuple[object, ...]:
    """What a file and the model that was read from it have in common, as long as neither changes."""
    try:
        found = Path(model.path).stat()
    except OSError:
        return (object(),)  # the audit says what is wrong
    return model.path, model.file_bytes, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _modified_s(path: str) -> int:
    """When a file was last changed, unix seconds; 0 if it has just vanished."""
    try:
        return int(Path(path).stat().st_mtime)
    except OSError:
        return 0
