"""Containers: what the client starts lives on without it, so that only the stop command ends it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bercail.core.command import PORT, CommandSpec
from bercail.core.errors import EngineError
from bercail.engines import Commands, end_orphan
from bercail.engines.command import Program
from bercail.store import Child, ChildJournal, Process, is_alive, look, read_scope
from fakes.docker import runs

FAKES = Path(__file__).parents[2] / "fakes"


class Docker:
    """A place with the stand-in for docker, and its containers."""

    def __init__(self, folder: Path) -> None:
        self.containers = folder / "containers"
        self.containers.mkdir()
        program = folder / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKES / "docker.py"} "$@"\n')
        program.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "DOCKER_CONTAINERS": str(self.containers),
        }
        self.notes: list[str] = []

    def spec(self, *words: str, **more: object) -> CommandSpec:
        plain: dict[str, object] = {
            "model_id": "m", "argv": ("docker", "run", "--name", "x", "image", PORT, *words),
            "stop_argv": ("docker", "stop", "x"), "ready_s": 120.0, "stop_s": 60.0,
        }  # fmt: skip
        return CommandSpec(**{**plain, **more})  # type: ignore[arg-type] # a test names what it changes

    async def start(self, spec: CommandSpec) -> Program:
        process = await Commands(self.environment, note=self.notes.append).start(spec, lambda _: None)
        assert isinstance(process, Program)
        return process

    def container(self) -> int:
        return int((self.containers / "x").read_text())


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    return Docker(tmp_path)


def test_stopping_ends_the_container_and_the_client(docker: Docker) -> None:
    async def story() -> tuple[int, int]:
        process = await docker.start(docker.spec())
        container = docker.container()
        assert process.stop_argv == ("docker", "stop", "x")
        assert runs(container)
        await process.stop(1.0)
        return container, process.pid

    assert not any(map(runs, asyncio.run(story())))
    assert docker.notes == []


def test_a_killed_client_does_not_leave_its_container(docker: Docker) -> None:
    async def story() -> tuple[int, int]:
        process = await docker.start(docker.spec())
        container = docker.container()
        os.kill(process.pid, signal.SIGKILL)
        return container, (await process.wait()).code

    container, code = asyncio.run(story())
    assert code == -signal.SIGKILL
    assert not runs(container)


def test_a_client_that_outlives_its_patience_is_killed_and_its_container_stopped(docker: Docker) -> None:
    async def story() -> tuple[int, int]:
        process = await docker.start(docker.spec(stop_s=0.0))
        container = docker.container()
        return container, (await process.stop(1.0)).code

    container, _ = asyncio.run(story())
    assert not runs(container)


def test_a_cancelled_start_leaves_no_container(docker: Docker) -> None:
    async def story() -> int:
        starting = asyncio.create_task(docker.start(docker.spec("busy=9999")))
        file = docker.containers / "x"
        while not file.exists():  # noqa: ASYNC110 - nobody tells of a container
            await asyncio.sleep(0.01)
        container = docker.container()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return container

    assert not runs(asyncio.run(story()))
    assert docker.notes == []


def test_a_container_of_that_name_is_told_and_stopped(docker: Docker) -> None:
    async def story() -> str:
        first = await docker.start(docker.spec(stop_argv=()))
        with pytest.raises(EngineError) as caught:
            await docker.start(docker.spec())
        await first.stop(5.0)
        return caught.value.code

    assert asyncio.run(story()) == "container_name"
    assert list(docker.containers.iterdir()) == []


PARENT = """
import asyncio, os, sys
from pathlib import Path
from bercail.core.command import CommandSpec
from bercail.engines import Commands
from bercail.store import ChildJournal, look, read_scope

def journal():
    owner = look(os.getpid())
    return ChildJournal(Path(sys.argv[1]), owner=owner, scope=read_scope(), look=look, end=None, warn=print)

async def main():
    argv = ("docker", "run", "--name", "x", "image", "${PORT}")
    spec = CommandSpec(model_id="m", argv=argv, stop_argv=("docker", "stop", "x"))
    process = await Commands(os.environ, journal=journal()).start(spec, lambda _: None)
    print("ready", process.pid, flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@contextmanager
def server(docker: Docker, journal: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server with a container, and the process id of its client."""
    argv = [sys.executable, "-c", PARENT, str(journal)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=docker.environment) as parent:
        assert parent.stdout is not None
        yield parent, int(parent.stdout.readline().removeprefix(b"ready "))


def test_a_container_ends_when_the_server_is_killed(docker: Docker, tmp_path: Path) -> None:
    with server(docker, tmp_path / "journal") as (parent, _):
        container = docker.container()
        parent.kill()
    deadline_s = time.monotonic() + 120.0
    while (runs(container) or list(docker.containers.iterdir())) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not runs(container)
    assert list(docker.containers.iterdir()) == []


def test_the_next_start_stops_what_was_left_when_all_were_killed_at_once(docker: Docker, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with server(docker, folder) as (parent, client):
        parent.send_signal(signal.SIGSTOP)
        os.killpg(client, signal.SIGKILL)
        parent.kill()
    container = docker.container()
    assert runs(container)

    def end(child: Child) -> bool:
        stop = ("env", *(f"{name}={docker.environment[name]}" for name in ("PATH", "DOCKER_CONTAINERS")))
        return end_orphan(
            child.process.pid, (*stop, *child.stop_argv), lambda: is_alive(child.process, look(child.process.pid))
        )

    owner = look(os.getpid())
    assert isinstance(owner, Process)
    journal = ChildJournal(folder, owner=owner, scope=read_scope(), look=look, end=end, warn=docker.notes.append)
    assert len(journal.reconcile()) == 1
    assert not runs(container)
    assert journal.reconcile() == ()
    assert docker.notes == []
