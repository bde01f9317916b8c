"""Programs by the name a command line gives them."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bercail.core.alike import alike
from bercail.core.errors import EngineError
from bercail.engines.command.diagnosis import CONTAINER_PROGRAMS


def find_program(name: str, search_path: str) -> str:
    """The file that ``name`` means.

    Args:
        name: a path, or a name that is looked up.
        search_path: the folders it is looked up in, as in ``PATH``.

    Raises:
        EngineError: there is none, or it may not be run; says what there is instead.
    """
    found = shutil.which(name, path=search_path)
    if found is not None:
        return found
    file = Path(name)
    if os.sep in name and file.is_dir():
        raise _none(f"{name} is a folder, not a program", "name the program in it")
    if os.sep in name and file.exists():
        raise _none(f"{name} may not be run", f"make it executable: chmod +x {name}")
    if file.name in CONTAINER_PROGRAMS:
        others = [other for other in CONTAINER_PROGRAMS if shutil.which(other, path=search_path)]
        hint = f"there is {others[0]}, which takes the same words" if others else "is it installed, and on PATH?"
        raise _none(f"there is no program {name}", hint)
    raise _none(f"there is no program {name}", _nearest(file, name, search_path))


def _none(what: str, hint: str) -> EngineError:
    return EngineError(what, hint=hint, code="no_such_program")


def _nearest(file: Path, name: str, search_path: str) -> str:
    folders = [str(file.parent)] if os.sep in name else search_path.split(os.pathsep)
    if file.name == "llama-server":
        return "install it, or write bercail-llama-server, which takes the same words and comes with Bercail"
    near = alike(file.name, _programs(folders, file.name[:1]))
    if near:
        return f"did you mean {file.parent / near[0] if os.sep in name else near[0]}?"
    return "check its path" if os.sep in name else "install it, or name it by its whole path"


def _programs(folders: list[str], initial: str) -> Iterator[str]:
    """Names of the programs in ``folders`` that begin with ``initial``."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder or "."):
                if entry.name.startswith(initial) and os.access(entry.path, os.X_OK) and not entry.is_dir():
                    yield entry.name
