"""What a declared model needs to be there before it can start: a program, files."""

from collections.abc import Iterator
from posixpath import basename

from bercail.core.command import CommandSpec
from bercail.core.declared import Declared, ModelFile
from bercail.core.quotes import in_quotes

SERVERS = ("llama-server", "bercail-llama-server")
_FILES = (
    "-m", "--model", "-mm", "--mmproj", "-md", "--model-draft", "--spec-draft-model",
)  # fmt: skip
_CONTAINERS = ("docker", "podman", "nerdctl", "apptainer", "singularity")
"""What they start sees files under other paths than ours."""


def program_of(model: Declared) -> str:
    """The program that is started for it; empty where none is, or where it is ours."""
    source = model.source
    return source.argv[0] if isinstance(source, CommandSpec) and source.argv else ""


def files_of(model: Declared) -> tuple[str, ...]:
    """The files of this machine that it names, as far as that can be told, each once."""
    if isinstance(model.source, ModelFile):
        path = model.source.path
        return (path,) if "/" in path or path.endswith(".gguf") or in_quotes(path) else ()
    named = _arguments(model.source.argv)
    return tuple(dict.fromkeys(path for path in named if path.startswith("/") or in_quotes(path)))


def _arguments(argv: tuple[str, ...]) -> Iterator[str]:
    """What a command line gives llama-server's options that name files; relative ones depend on where it is started."""
    names = [basename(word) for word in argv]
    server = next((index for index, name in enumerate(names) if name in SERVERS), None)
    if server is None or any(name in _CONTAINERS for name in names[:server]):
        return
    words = argv[server + 1 :]
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in _FILES and equals:
            yield value
        elif word in _FILES and index + 1 < len(words):
            yield words[index + 1]
