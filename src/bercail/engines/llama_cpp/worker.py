"""The child that hosts llama.cpp: reads its parameters from standard input, serves HTTP until told to end.

Nothing else in the package imports ``xllamacpp``. Standard output carries the engine's progress lines, standard error
its log. On standard input comes first one line of JSON with the parameters; after that the line ``exit`` ends the
process, and so does the end of the stream, which means that the parent has gone.
"""

import enum
import json
import os
import sys
from collections.abc import Mapping
from typing import BinaryIO, Protocol

from bercail.engines import words as told
from bercail.engines.leash import keep_to_place, settle, tie_to_parent
from bercail.engines.llama_cpp.flags import SERVING_VERBOSITY
from bercail.engines.llama_cpp.log import flush, speak_less

FAREWELL = b"exit\n"
MISSING_LIBRARY = 78
"""Exit status when ``xllamacpp`` cannot be imported (EX_CONFIG of sysexits.h)."""
MEMORY_LIMIT = "memory_limit_bytes"
"""A parameter for the process instead of the engine: address space it may have."""


class _Server(Protocol):
    listening_address: str


def take_stdin() -> BinaryIO:
    """Standard input for ourselves; the engine gets a pipe in which nothing ever comes.

    In child mode its C++ code reads descriptor 0 itself, and at its end calls ``exit``, which runs destructors under
    the feet of working threads.
    """
    commands = os.fdopen(os.dup(0), "rb")
    reader, _writer = os.pipe()  # the writing end stays open for as long as we live
    os.dup2(reader, 0)
    return commands


def apply(params: object, values: Mapping[str, object]) -> None:
    """Set ``values`` on the library's parameters; dots lead into parts, enumerations go by member name.

    Raises:
        AttributeError: this build has no such parameter.
    """
    for path, value in values.items():
        *parts, name = path.split(".")
        target = params
        for part in parts:
            target = getattr(target, part)
        current = getattr(target, name)
        if isinstance(current, enum.Enum):
            setattr(target, name, type(current)[str(value)])
        elif isinstance(current, list) and current and isinstance(current[0], enum.Enum) and isinstance(value, list):
            setattr(target, name, [type(current[0])[str(member)] for member in value])
        elif isinstance(current, set) and isinstance(value, list):
            setattr(target, name, set(value))
        else:
            setattr(target, name, value)


def serve(values: Mapping[str, object]) -> _Server:
    """Load the model and listen; returns when the engine is ready."""
    try:
        import xllamacpp as library
    except ImportError as error:
        sys.stderr.write(f"xllamacpp cannot be imported: {error}\n")
        os._exit(MISSING_LIBRARY)
    params = library.CommonParams()
    apply(params, values)
    server: _Server = library.Server(params)
    speak_less(SERVING_VERBOSITY)
    return server


def main() -> None:
    """The life of the child."""
    tie_to_parent()
    keep_to_place()
    commands = take_stdin()
    values = json.loads(commands.readline())
    settle(values.pop(MEMORY_LIMIT, None))
    os.environ["LLAMA_SERVER_ROUTER_PORT"] = "1"  # child mode: progress lines; no port is ever opened for it
    words = os.dup(1)  # the engine turns descriptor 1 into its log
    try:
        server = serve(values)
    except Exception as error:  # noqa: BLE001 - whatever it is, the log and the status tell the parent
        flush()
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    os.write(words, (told.render_listening(server.listening_address) + "\n").encode())
    while commands.readline() not in (b"", FAREWELL):
        pass
    # At once: taking the engine apart in order is slow, and has crashed; the kernel frees memory better.
    os._exit(0)


if __name__ == "__main__":
    main()
