"""Stands in for ``docker``: ``run --name NAME IMAGE ARGUMENT ...`` and ``stop NAME``.

As with the real one, what it runs is no child of whoever called it: it lives on when the client is killed. Containers
are files with a process id in the folder that the variable DOCKER_CONTAINERS names.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("program.py")
CONTAINER = ("sh", "-c", 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"')
"""Its process id stands in its file, whole, before it can answer anybody."""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def run(name: str, arguments: list[str]) -> None:
    file = Path(os.environ["DOCKER_CONTAINERS"]) / name
    if file.exists():
        sys.stderr.write(
            f'docker: Error response from daemon: Conflict. The container name "/{name}" is already in use by "3f".\n'
        )
        sys.exit(125)
    container = subprocess.Popen(
        [*CONTAINER, file, sys.executable, PROGRAM, *arguments], start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    sys.stderr.write("container runs\n")
    sys.exit(container.wait() and 137)


def stop(name: str) -> None:
    file = Path(os.environ["DOCKER_CONTAINERS"]) / name
    if not file.exists():
        sys.stderr.write(f"Error response from daemon: No such container: {name}\n")
        sys.exit(1)
    pid = int(file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while runs(pid):
        time.sleep(0.01)
    file.unlink()
    sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[3], sys.argv[5:])
    else:
        stop(sys.argv[2])
