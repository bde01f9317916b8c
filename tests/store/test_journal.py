import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.ports import Journal
from bercail.store import Child, ChildJournal, Process, Scope, look, read_scope
from bercail.store.files import write_json
from bercail.store.journal import Entry, parse_entry, sort_entry
from bercail.store.processes import parse_start_ticks

HERE = Scope(host="box", boot="b1", namespace="n1")
OWNER = Process(pid=100, start_ticks=5, argv0="bercail")
ENGINE = Process(pid=200, start_ticks=6, argv0="engine")
CONTAINER = Child(process=replace(ENGINE, pid=300), stop_argv=("docker", "stop", "x"))
NEXT = Process(pid=400, start_ticks=99, argv0="bercail")


def seen(*processes: Process) -> Callable[[int], Process | None]:
    return {process.pid: process for process in processes}.get


def journal(
    folder: Path,
    *,
    owner: Process | None = OWNER,
    alive: tuple[Process, ...] = (OWNER, ENGINE, NEXT),
    ended: list[Child] | None = None,
    warned: list[str] | None = None,
    can_end: bool = True,
    scope: Scope = HERE,
) -> ChildJournal:
    def end(child: Child) -> bool:
        assert ended is not None
        ended.append(child)
        return can_end

    warn = pytest.fail if warned is None else warned.append
    return ChildJournal(folder, owner=owner, scope=scope, look=seen(*alive), end=end, warn=warn)


ENTRY = Entry(scope=HERE, owner=OWNER, children=(Child(process=ENGINE),))


@pytest.mark.parametrize(
    ("entry", "alive", "orphans", "stale"),
    [
        (ENTRY, (OWNER, ENGINE), (), False),  # the server lives
        (ENTRY, (ENGINE,), (Child(process=ENGINE),), True),  # it was killed, its engine was not
        (ENTRY, (), (), True),  # both are gone
        (ENTRY, (replace(OWNER, start_ticks=7), ENGINE), (Child(process=ENGINE),), True),  # its number is used again
        (ENTRY, (replace(ENGINE, start_ticks=7),), (), True),  # the engine's number is used again: leave it alone
        (replace(ENTRY, scope=replace(HERE, boot="b0")), (ENGINE,), (), True),  # numbers of another boot
        (replace(ENTRY, scope=replace(HERE, namespace="n2")), (ENGINE,), (), False),  # another container's numbers
        (replace(ENTRY, scope=replace(HERE, host="other")), (ENGINE,), (), False),  # a home folder on the network
        (replace(ENTRY, children=(CONTAINER,)), (), (CONTAINER,), True),  # a command knows better than a number
        (replace(ENTRY, children=(CONTAINER,), scope=replace(HERE, boot="b0")), (), (CONTAINER,), True),
    ],
)
def test_orphans_are_the_living_children_of_dead_servers(
    entry: Entry, alive: tuple[Process, ...], orphans: tuple[Child, ...], stale: bool
) -> None:
    verdict = sort_entry(entry, HERE, seen(*alive))
    assert (verdict.orphans, verdict.stale) == (orphans, stale)


def test_the_journal_has_the_shape_of_its_port(tmp_path: Path) -> None:
    port: Journal = journal(tmp_path)
    assert callable(port.record)


def test_what_outlived_a_killed_server_is_ended_once(tmp_path: Path) -> None:
    journal(tmp_path).record(ENGINE.pid)
    ended: list[Child] = []
    later = journal(tmp_path, owner=NEXT, alive=(ENGINE, NEXT), ended=ended)
    words = later.reconcile()
    assert ended == [Child(process=ENGINE)]
    assert len(words) == 1
    assert "engine (pid 200)" in words[0]
    assert later.reconcile() == ()
    assert list(tmp_path.iterdir()) == []


def test_a_stop_command_is_kept(tmp_path: Path) -> None:
    journal(tmp_path).record(ENGINE.pid, stop_argv=("docker", "stop", "x"))
    ended: list[Child] = []
    journal(tmp_path, owner=NEXT, alive=(NEXT,), ended=ended).reconcile()
    assert [child.stop_argv for child in ended] == [("docker", "stop", "x")]


def test_children_of_a_living_server_are_left_alone(tmp_path: Path) -> None:
    journal(tmp_path).record(ENGINE.pid)
    assert journal(tmp_path, owner=NEXT).reconcile() == ()
    assert len(list(tmp_path.iterdir())) == 1


def test_our_own_children_are_never_orphans(tmp_path: Path) -> None:
    own = journal(tmp_path, alive=(ENGINE,))
    own.record(ENGINE.pid)
    assert own.reconcile() == ()


def test_a_child_that_ended_is_forgotten_and_the_last_takes_the_file(tmp_path: Path) -> None:
    own = journal(tmp_path)
    own.record(ENGINE.pid)
    own.record(NEXT.pid)
    own.forget(ENGINE.pid)
    assert len(list(tmp_path.iterdir())) == 1
    own.forget(NEXT.pid)
    own.forget(NEXT.pid)
    assert list(tmp_path.iterdir()) == []


def test_an_orphan_that_would_not_end_is_told_and_tried_again(tmp_path: Path) -> None:
    journal(tmp_path).record(ENGINE.pid)
    ended: list[Child] = []
    warned: list[str] = []
    later = journal(tmp_path, owner=NEXT, alive=(ENGINE, NEXT), ended=ended, warned=warned, can_end=False)
    assert later.reconcile() == ()
    assert later.reconcile() == ()
    assert len(ended) == len(warned) == 2


def test_a_child_that_is_gone_or_an_owner_without_identity_writes_nothing(tmp_path: Path) -> None:
    journal(tmp_path).record(999)
    journal(tmp_path, owner=None).record(ENGINE.pid)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_unknown_files_are_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "1-1.json").write_text("{")
    (tmp_path / "2-2.json").write_text('{"schema": "bercail.children/9"}')
    warned: list[str] = []
    assert journal(tmp_path, warned=warned).reconcile() == ()
    assert len(warned) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_a_warning_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warned: list[str] = []
    own = journal(tmp_path / "file", warned=warned)
    own.record(ENGINE.pid)
    assert len(warned) == 1
    assert own.reconcile() == ()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"schema": st.just("bercail.children/1")}, optional={"scope": _JSON, "owner": _JSON, "children": _JSON}
    )
)
def test_no_file_breaks_the_journal(value: Mapping[str, object]) -> None:
    entry = parse_entry(dict(value))
    assert entry is None or all(child.process.pid > 1 for child in entry.children)


@pytest.mark.parametrize("pid", [0, 1, -1, True, "7"])
def test_an_entry_never_names_the_first_process_or_a_group(tmp_path: Path, pid: object) -> None:
    journal(tmp_path).record(ENGINE.pid)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("200", '"7"' if pid == "7" else str(pid).lower()))
    warned: list[str] = []
    assert journal(tmp_path, owner=NEXT, alive=(NEXT,), ended=[], warned=warned).reconcile() == ()
    assert len(warned) == 1


def test_two_journals_do_not_touch_each_others_files(tmp_path: Path) -> None:
    journal(tmp_path).record(ENGINE.pid)
    other = journal(tmp_path, owner=NEXT)
    other.record(ENGINE.pid)
    other.forget(ENGINE.pid)
    assert [file.name for file in tmp_path.iterdir()] == ["100-5.json"]


STAT = "200 (a ) b) S 1 2 2 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 1 1"


@pytest.mark.parametrize(
    ("text", "ticks"), [(STAT, 12345), (STAT.replace(") S", ") Z"), None), ("", None), ("1 (x) S 2", None)]
)
def test_the_moment_of_start_is_behind_the_name(text: str, ticks: int | None) -> None:
    assert parse_start_ticks(text) == ticks


@given(st.text())
def test_no_text_breaks_the_reading_of_a_process(text: str) -> None:
    ticks = parse_start_ticks(text)
    assert ticks is None or ticks >= 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_this_very_process_is_known_and_stays_the_same() -> None:
    mine = look(os.getpid())
    assert mine is not None
    assert mine == look(os.getpid())
    assert read_scope().boot
    assert look(2**22 + 1) is None


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert look(1, fsroot=tmp_path) is None
    scope = read_scope(fsroot=tmp_path)
    assert (scope.boot, scope.namespace) == ("", "")


def test_a_journal_from_an_older_file_format_stays_readable(tmp_path: Path) -> None:
    """The file itself is a contract between versions: this is how version 1 looks."""
    scope = {"host": "box", "boot": "b1", "namespace": "n1"}
    owner = {"pid": 100, "start_ticks": 5, "argv0": "bercail"}
    child = {"process": {"pid": 200, "start_ticks": 6, "argv0": "engine"}, "stop_argv": []}
    write_json(
        tmp_path / "100-5.json",
        {"schema": "bercail.children/1", "scope": scope, "owner": owner, "children": [child]},
    )
    ended: list[Child] = []
    journal(tmp_path, owner=NEXT, alive=(ENGINE, NEXT), ended=ended).reconcile()
    assert ended == [Child(process=ENGINE)]
