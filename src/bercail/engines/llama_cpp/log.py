"""The log of llama.cpp's library in this process.

Python has no words for it, so its C++ functions are called by their symbols. A thread of its own writes the log, behind
what it tells of: whoever ends the process, or reads what was said, has to wait for that thread.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bercail.engines.llama_cpp.library import library_path

_MAIN = "_Z15common_log_mainv"
_FLUSH = "_Z16common_log_flushP10common_log"
_SET_FILE = "_Z19common_log_set_fileP10common_logPKc"
_SET_VERBOSITY = "_Z30common_log_set_verbosity_tholdi"


def speak_less(verbosity: int) -> None:
    """Let the engine log no more than ``verbosity`` asks for; a build without that goes on as it did."""
    try:
        set_threshold = _library()[_SET_VERBOSITY]
    except (AttributeError, OSError):
        sys.stderr.write("this build cannot be told to log less\n")
    else:
        set_threshold(verbosity)


def flush() -> None:
    """Wait until what was logged is written; last words would be lost in an end at once. No harm without a library."""
    try:
        library = _library()
        function = library[_FLUSH]
    except (AttributeError, OSError):
        return
    function.restype, function.argtypes = None, (ctypes.c_void_p,)
    function(_main_log(library))


@contextmanager
def overheard() -> Iterator[Callable[[], list[str]]]:
    """What the log says meanwhile, in lines, for whoever asks."""
    library = _library()
    log, log_to = _main_log(library), library[_SET_FILE]
    log_to.restype, log_to.argtypes = None, (ctypes.c_void_p, ctypes.c_char_p)
    with tempfile.TemporaryDirectory(prefix="bercail-") as folder:
        path = Path(folder) / "log"

        def heard() -> list[str]:
            flush()
            return path.read_text(errors="replace").splitlines()

        log_to(log, os.fsencode(path))
        try:
            yield heard
        finally:
            log_to(log, None)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(library_path()))


def _main_log(library: ctypes.CDLL) -> int:
    function = library[_MAIN]
    function.restype = ctypes.c_void_p
    address: int = function()
    return address
