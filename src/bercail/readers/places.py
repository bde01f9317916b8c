"""Where other tools keep their models, and in which layout."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bercail.readers.folders import Folder, Listing, is_file, models_in, search, unusable, walk
from bercail.readers.naming import Candidate

_MAX_MANIFEST_BYTES = 1_048_576
_MAX_MANIFESTS = 2000
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_OLLAMA_PROJECTOR = "application/vnd.ollama.image.projector"


class Place(NamedTuple):
    """A folder of some tool, and how to look through it."""

    source: str
    path: Path
    look: Callable[[Path], Listing]


def known(environment: Mapping[str, str], home: Path, cwd: Path) -> Iterator[Place]:
    """The places of other tools, each folder once."""
    seen: set[str] = set()
    for place in _all(environment, home, cwd):
        real = os.path.realpath(place.path)
        if real not in seen:
            seen.add(real)
            yield place


def _all(environment: Mapping[str, str], home: Path, cwd: Path) -> Iterator[Place]:
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    for path in _hub_caches(environment, cache):
        yield Place("huggingface", path, hub)
    for path in (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"):
        yield Place("lmstudio", path, lambda root: search(root, "lmstudio"))
    own = environment.get("OLLAMA_MODELS")
    for path in (*([Path(own)] if own else []), home / ".ollama" / "models"):
        yield Place("ollama", path, ollama)
    for system in ("/usr/share/ollama/.ollama/models", "/var/lib/ollama/models", "/var/lib/ollama/.ollama/models"):
        yield Place("ollama", Path(system), ollama)
    own = environment.get("LLAMA_CACHE")
    for path in (*([Path(own)] if own else []), cache / "llama.cpp", home / "Library" / "Caches" / "llama.cpp"):
        yield Place("llama.cpp", path, llama_cpp)
    yield Place("./models", cwd / "models", lambda root: search(root, "./models"))


def _hub_caches(environment: Mapping[str, str], cache: Path) -> Iterator[Path]:
    """The Hugging Face cache; the first variable that is set wins, as in ``huggingface_hub``."""
    for key in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(key):
            yield Path(environment[key])
            return
    yield (Path(environment["HF_HOME"]) if environment.get("HF_HOME") else cache / "huggingface") / "hub"


def llama_cpp(root: Path) -> Listing:
    """llama.cpp's own cache: flat, names prefixed by repository; newer builds keep the hub's layout there."""
    listing = search(root, "llama.cpp", flat_cache=True)
    if any(root.glob("models--*")):
        listing = hub(root, "llama.cpp")
        flat = [folder for folder in _only(root, listing) if folder.path == root]
        for folder in flat:
            listing.models.extend(models_in(folder, "llama.cpp", listing.problems, flat_cache=True))
        listing.verdict = ""
    return listing if listing.verdict else listing.conclude()


def _only(root: Path, listing: Listing) -> Iterator[Folder]:
    """The folder itself, without those below."""
    for folder in walk(root, listing.problems):
        yield folder
        return


def hub(root: Path, source: str = "huggingface") -> Listing:
    """A Hugging Face cache: ``models--ORG--NAME/snapshots/REVISION/FILE``, links to blobs."""
    listing = Listing(verdict=unusable(root))
    if listing.verdict:
        return listing
    try:
        repositories = sorted(path for path in root.iterdir() if path.name.startswith("models--"))
    except OSError as error:
        listing.verdict = error.strerror or str(error)
        return listing
    for repository in repositories:
        listing.models.extend(_repository(repository, source, listing.problems))
    return listing.conclude()


def _repository(repository: Path, source: str, problems: list[str]) -> Iterator[Candidate]:
    """Models of one repository; a file that several revisions hold counts once, in the newest."""
    owner = repository.name.removeprefix("models--").replace("--", "/")
    seen: set[str] = set()
    for snapshot in _snapshots(repository):
        top: Folder | None = None
        for folder in walk(snapshot, problems):
            top = folder if folder.path == snapshot else top
            for model in models_in(folder, source, problems, owner=owner, above=top):
                name = str(Path(model.path).relative_to(snapshot))
                if name not in seen:
                    seen.add(name)
                    yield model


def _snapshots(repository: Path) -> list[Path]:
    """Revisions: the one that ``refs/main`` names first, then the newest."""
    try:
        main = (repository / "refs" / "main").read_text(encoding="utf-8", errors="replace")[:100].strip()
    except OSError:
        main = ""
    dated: list[tuple[bool, float, str, Path]] = []
    try:
        dated.extend(
            (path.name != main, -path.stat().st_mtime, path.name, path) for path in (repository / "snapshots").iterdir()
        )
    except OSError:
        return []
    return [entry[3] for entry in sorted(dated)]


def ollama(root: Path) -> Listing:
    """Ollama's store: ``manifests/REGISTRY/NAMESPACE/NAME/TAG`` name blobs."""
    listing = Listing(verdict=unusable(root))
    if listing.verdict:
        return listing
    for number, manifest in enumerate(_manifests(root / "manifests")):
        if number >= _MAX_MANIFESTS:
            listing.problems.append(f"{root}: more than {_MAX_MANIFESTS:,} manifests; the rest was not looked at")
            break
        model = _from_manifest(root, manifest, listing.problems)
        if model is not None:
            listing.models.append(model)
    return listing.conclude()


def _manifests(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.glob("*/*/*/*") if is_file(path))
    except OSError:
        return []


def _from_manifest(root: Path, manifest: Path, problems: list[str]) -> Candidate | None:
    namespace, name, tag = manifest.parts[-3:]
    short = f"{name}:{tag}" if namespace == "library" else f"{namespace}/{name}:{tag}"
    layers = _layers(manifest)
    if layers is None:
        problems.append(f"{manifest}: not a manifest that Ollama would read")
        return None
    blob = _blob(root, layers, _OLLAMA_MODEL)
    if blob is None:
        # Models that run on Ollama's servers, and those in safetensors, have manifests without a GGUF.
        problems.append(f"{manifest}: {short} has no GGUF file here")
        return None
    projector = _blob(root, layers, _OLLAMA_PROJECTOR)
    try:
        size = blob.stat().st_size
    except OSError:
        problems.append(f"{manifest}: the file of {short} is missing ({blob.name})")
        return None
    return Candidate(
        id=short,
        path=str(blob),
        # Two tags may share one file and still be two models: they are told apart by name.
        real_path=f"{os.path.realpath(blob)}#{short}",
        owner=manifest.parts[-4],
        source="ollama",
        bytes=size,
        projector=str(projector) if projector is not None and is_file(projector) else None,
    )


def _layers(manifest: Path) -> list[object] | None:
    try:
        with manifest.open("rb") as file:
            document = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    layers = document.get("layers") if isinstance(document, dict) else None
    return layers if isinstance(layers, list) else None


def _blob(root: Path, layers: list[object], kind: str) -> Path | None:
    """Where the first layer of this kind lies. Digests are checked: a manifest must not lead elsewhere."""
    for layer in layers:
        if isinstance(layer, dict) and layer.get("mediaType") == kind:
            found = _DIGEST.fullmatch(str(layer.get("digest")))
            if found:
                return root / "blobs" / f"sha256-{found[1]}"
    return None
