"""Where the library of the embedded engine lies; for those who call its functions by their names."""

import importlib.util
from pathlib import Path


def library_path() -> Path:
    """The shared library that has llama.cpp in it.

    Raises:
        FileNotFoundError: it is not there.
    """
    found = importlib.util.find_spec("xllamacpp")
    paths = [*Path(found.origin).parent.glob("xllamacpp*.so")] if found and found.origin else []
    if not paths:
        raise FileNotFoundError("the library of xllamacpp was not found")
    return paths[0]
