"""Stands in for ``llama-server`` where only the wheel is installed: ``python -m ...stand_in ARGUMENT ...``.

The command line is read by llama.cpp's own parser, which the wheel's library exports: every flag and every variable
means what it means to ``llama-server``, and a wrong one gets its words. Python has no name for that function, so it is
called by its symbol, on the parameters inside the Python object.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from types import ModuleType
from typing import Any

from bercail.engines.llama_cpp.flags import BUILD, RELEASE
from bercail.engines.llama_cpp.library import library_path
from bercail.engines.llama_cpp.log import overheard
from bercail.engines.llama_cpp.output import diagnose

_PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
_SERVER = 12
"""``LLAMA_EXAMPLE_SERVER``."""
_OBJECT_HEAD = 2 * ctypes.sizeof(ctypes.c_void_p)
"""A Python object's count and type; the parameters follow."""
_DEFAULT_PORT = 9931
WRONG_ARGUMENTS = 1
"""Exit status of ``llama-server`` for them."""


def parse(arguments: Sequence[str], parameters: object) -> bool:
    """Let llama.cpp read ``arguments`` into ``parameters``; False if they are wrong, which it has then said.

    Does not return for ``--help`` and the like, which it answers.
    """
    function = ctypes.CDLL(str(library_path()))[_PARSE]
    function.restype = ctypes.c_bool
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    words = [b"llama-server", *map(os.fsencode, arguments)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    return bool(function(len(words), argv, id(parameters) + _OBJECT_HEAD, _SERVER, None))


def why_not(log: Sequence[str], complaint: str) -> str:
    """Why the server did not start, in words: its own complaint is the same for all reasons."""
    found = diagnose(log, None)
    if found.code == "engine_failed":
        return f"error: {complaint}"
    return f"error: the server did not start: {found.sentence}\n  {found.hint}"


def print_version() -> int:
    """Say what ``llama-server --version`` would say; the exit status."""
    sys.stdout.write(f"version: {BUILD.removeprefix('b')} ({BUILD}), in {RELEASE} of xllamacpp\n")
    return 0


def started(library: ModuleType, parameters: object, arguments: Sequence[str]) -> Any:
    """The server that listens; does not return if there is none."""
    complaint = ""
    named = "--log-file" in arguments or "LLAMA_ARG_LOG_FILE" in os.environ  # there is one, and it is the user's
    with nullcontext(list[str]) if named else overheard() as heard:
        try:
            return library.Server(parameters)
        except Exception as error:  # noqa: BLE001 - whatever it is, the log says more
            complaint = why_not(heard(), str(error))
    sys.stderr.write(f"{complaint}\n")
    sys.stderr.flush()
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end, as ``llama-server`` does."""
    try:
        import xllamacpp as library
    except ImportError as error:
        sys.exit(f"xllamacpp cannot be imported: {error}")
    if (release := version("xllamacpp")) != RELEASE:
        sys.exit(f"xllamacpp is {release}; the command line of llama.cpp is known for {RELEASE} only")
    if "--version" in arguments:  # the wheel was built without knowing its number
        sys.exit(print_version())
    parameters = library.CommonParams()
    parameters.port = _DEFAULT_PORT
    if not parse(arguments, parameters):
        sys.exit(WRONG_ARGUMENTS)
    if not parameters.model.path:
        sys.exit("a model file must be named (--model FILE): the wheel neither fetches models nor routes among them")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = started(library, parameters, arguments)
    sys.stderr.write(f"listening on {server.listening_address}\n")
    stop.wait()
    # At once: taking the engine apart in order is slow, and has crashed.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
