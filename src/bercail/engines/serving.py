"""Serving a library over HTTP from a worker, until its parent has had enough."""

import os
import socket
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import uvicorn

from bercail.engines.interface import Interface, Library
from bercail.engines.words import render_listening

_BACKLOG = 512


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
