import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bercail.core.server import Server
from bercail.ports import Register
from bercail.store import Process, Scope, ServerRegister, look, read_scope

HERE = Scope(host="box", boot="b1", namespace="n1")
OWNER = Process(pid=100, start_ticks=5, argv0="bercail")
ASKS = Process(pid=400, start_ticks=99, argv0="bercail")
SERVED = Server(pid=100, url="http://127.0.0.1:8701", config="/c.yaml", record="/activity.db")


def seen(*processes: Process) -> Callable[[int], Process | None]:
    return {process.pid: process for process in processes}.get


def register(
    folder: Path,
    *,
    owner: Process | None = ASKS,
    alive: tuple[Process, ...] = (OWNER, ASKS),
    scope: Scope = HERE,
    warned: list[str] | None = None,
) -> ServerRegister:
    warn = pytest.fail if warned is None else warned.append
    return ServerRegister(folder, owner=owner, scope=scope, look=seen(*alive), warn=warn)


def announced(folder: Path, *, owner: Process = OWNER, scope: Scope = HERE) -> Path:
    register(folder, owner=owner, scope=scope).announce(SERVED.url, SERVED.config, SERVED.record)
    return folder / f"{owner.pid}-{owner.start_ticks}.json"


def test_a_server_is_found_while_it_serves(tmp_path: Path) -> None:
    port: Register = register(tmp_path / "servers", owner=OWNER)
    assert port.servers() == ()
    port.announce(SERVED.url, SERVED.config, SERVED.record)
    announced(tmp_path / "servers", owner=ASKS)
    others = register(tmp_path / "servers")
    assert others.servers() == (SERVED, replace(SERVED, pid=400))
    port.withdraw()
    port.withdraw()
    assert others.servers() == (replace(SERVED, pid=400),)


@pytest.mark.parametrize("alive", [(ASKS,), (replace(OWNER, start_ticks=6), ASKS)], ids=["gone", "number used again"])
def test_what_a_killed_server_left_is_recognised_and_removed(tmp_path: Path, alive: tuple[Process, ...]) -> None:
    path = announced(tmp_path)
    assert register(tmp_path, alive=alive).servers() == ()
    assert not path.exists()


def test_what_was_left_before_the_machine_started_anew_is_removed(tmp_path: Path) -> None:
    path = announced(tmp_path, scope=replace(HERE, boot="b0"))
    assert register(tmp_path).servers() == ()
    assert not path.exists()


@pytest.mark.parametrize("scope", [replace(HERE, host="other"), replace(HERE, namespace="n2")])
def test_of_processes_that_cannot_be_seen_nothing_is_said_and_nothing_removed(tmp_path: Path, scope: Scope) -> None:
    path = announced(tmp_path, scope=scope)
    assert register(tmp_path).servers() == ()
    assert path.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "bercail.server/9"}, {"url": "nowhere"}, {"url": 3}, {"config": None}, {"owner": {}}, {"scope": {}},
        {"scope": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_that_this_version_does_not_know_is_no_server_and_left_alone(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = announced(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert register(tmp_path).servers() == ()
    path.write_text("{")
    assert register(tmp_path).servers() == ()
    assert path.exists()


def test_a_server_of_an_earlier_version_tells_no_record(tmp_path: Path) -> None:
    path = announced(tmp_path)
    told = json.loads(path.read_text())
    del told["record"]
    path.write_text(json.dumps(told))
    assert register(tmp_path).servers() == (replace(SERVED, record=""),)


def test_a_process_that_cannot_be_told_from_later_ones_writes_nothing(tmp_path: Path) -> None:
    nameless = register(tmp_path, owner=None)
    nameless.announce(SERVED.url, "", "")
    nameless.withdraw()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_used_is_told_and_stops_nothing(tmp_path: Path) -> None:
    warned: list[str] = []
    (tmp_path / "servers").write_text("")
    one = register(tmp_path / "servers", owner=OWNER, warned=warned)
    one.announce(SERVED.url, "", "")
    one.withdraw()
    assert len(warned) == 2
    assert "with --port alone" in warned[0]
    assert one.servers() == ()


def test_this_very_process_is_found(tmp_path: Path) -> None:
    me = ServerRegister(tmp_path, owner=look(os.getpid()), scope=read_scope(), look=look, warn=pytest.fail)
    me.announce("http://127.0.0.1:1", "", "")
    assert me.servers() == (Server(pid=os.getpid(), url="http://127.0.0.1:1"),)
    assert asdict(me.servers()[0])["config"] == ""
