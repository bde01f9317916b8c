"""The life of a worker: it loads a library and serves it over HTTP until its parent has had enough.

On standard input comes one line of JSON with the parameters; after that the line ``exit`` ends the process, and so does
the end of the stream.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import uvicorn

from bercail.core.units import Seconds
from bercail.engines.interface import Interface, Library
from bercail.engines.leash import keep_to_place, settle, tie_to_parent
from bercail.engines.words import render_listening, render_progress

FAREWELL = b"exit\n"
MISSING_LIBRARY = 78
"""Exit status when the library cannot be imported (EX_CONFIG of sysexits.h)."""
_BACKLOG = 512
_TURN_S: Seconds = 0.0005
"""How long a thread that generates may keep others from running: libraries hold Python's lock while they compute, and
by default a token would wait 5 ms to be sent."""


def live(load: Callable[[Mapping[str, Any]], Library]) -> NoReturn:
    """The life of the child; ``load`` makes the library of its parameters, ``model_id`` and ``listen`` among them."""
    tie_to_parent()
    keep_to_place()
    commands = os.fdopen(os.dup(0), "rb")
    values: Mapping[str, Any] = json.loads(commands.readline())
    settle(None)
    sys.setswitchinterval(_TURN_S)
    words = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is log
    os.write(words, (render_progress("weights", 0.0) + "\n").encode())
    try:
        library = load(values)
    except ImportError as error:
        _end(MISSING_LIBRARY, f"the library cannot be imported: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the log and the status tell the parent
        _end(1, str(error))
    os.write(words, (render_progress("weights", 1.0) + "\n").encode())
    serve(library, str(values["model_id"]), str(values["listen"]), commands, FAREWELL, words)
    os._exit(0)


def keep_working(work: Callable[[], None], name: str) -> None:
    """Run ``work``, which does not return, in a thread of its own.

    If it breaks, nothing more is generated: it takes the process with it, so that clients hear of it at once.
    """

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the log and the status tell the parent
            _end(1, f"{name} broke: {error}")

    threading.Thread(target=guarded, daemon=True, name=name).start()


def _end(status: int, why: str) -> NoReturn:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(status)


def serve(library: Library, model_id: str, listen: str, commands: BinaryIO, farewell: bytes, words: int) -> None:
    """Serve at ``listen``, a path of a unix socket or a host; never returns.

    Args:
        library: what generates.
        model_id: the name clients use.
        listen: where; of a host any free port is taken.
        commands: standard input; ``farewell`` on it, or its end, ends the process.
        farewell: the line that ends the process.
        words: descriptor on which is told where it listens.
    """
    plug, address = _bound(listen)
    server = uvicorn.Server(
        uvicorn.Config(Interface(library, model_id), log_level="warning", lifespan="off", access_log=False)
    )
    threading.Thread(target=_wait, args=(commands, farewell), daemon=True).start()
    sys.stderr.write(f"{library.name}: {model_id} is loaded, listening at {address}\n")
    sys.stderr.flush()
    os.write(words, (render_listening(address) + "\n").encode())
    server.run(sockets=[plug])
    os._exit(0)


def _bound(listen: str) -> tuple[socket.socket, str]:
    if listen.startswith("/"):
        plug = socket.socket(socket.AF_UNIX)
        plug.bind(listen)
        Path(listen).chmod(0o600)
        address = f"unix://{listen}"
    else:
        plug = socket.socket()
        plug.bind((listen, 0))
        address = f"http://{listen}:{plug.getsockname()[1]}"
    plug.listen(_BACKLOG)
    return plug, address


def _wait(commands: BinaryIO, farewell: bytes) -> None:
    while commands.readline() not in (b"", farewell):
        pass
    # At once: libraries take their time to take themselves apart; the kernel frees memory better.
    os._exit(0)
