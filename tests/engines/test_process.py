"""Children: spawned, tailed, stopped, reaped."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import Exit
from bercail.engines import process
from bercail.engines.leash import ORPHAN, PARENT_VARIABLE
from bercail.engines.process import ChildProcess, Command, parse_smaps_rollup, parse_status

STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    sys.stdin.readline()
    signal.pause()
"""
POLITE = 'import sys; print("up", flush=True); sys.exit(0 if sys.stdin.readline() == "bye\\n" else 9)'
DEAF = 'import signal; print("up", flush=True); signal.pause()'


def command(code: str, **more: object) -> Command:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return Command(argv=(sys.executable, "-c", code), environment=environment, farewell=b"bye\n", **more)  # type: ignore[arg-type]


async def spawn_up(code: str, **more: object) -> ChildProcess:
    up = asyncio.Event()
    child = await ChildProcess.spawn(command(code, **more), lambda line: up.set())
    await asyncio.wait_for(up.wait(), 60)
    return child


@pytest.mark.parametrize(
    ("code", "grace_s", "expected"),
    [(POLITE, 120, 0), (DEAF, 6, -signal.SIGTERM), (STUBBORN, 0.4, -signal.SIGKILL)],
    ids=["by its farewell", "by SIGTERM", "by SIGKILL"],
)
def test_stop_ends_every_child_one_way_or_another(code: str, grace_s: float, expected: int) -> None:
    async def story() -> Exit:
        child = await spawn_up(code)
        return await child.stop(grace_s)

    assert asyncio.run(story()).code == expected


def test_kill_takes_the_whole_group() -> None:
    code = (
        "import subprocess, sys, signal\n"
        "sub = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(sub.pid, flush=True); signal.pause()"
    )

    async def story() -> int:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        child = await ChildProcess.spawn(command(code), said.set_result)
        grandchild = int(await asyncio.wait_for(said, 60))
        watch = os.pidfd_open(grandchild)
        child.kill()
        await child.wait()
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(watch, gone.set)
        await asyncio.wait_for(gone.wait(), 60)
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)
        return child.pid

    pid = asyncio.run(story())
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_orphaned_grandchild_does_not_hide_the_end() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"

    async def story() -> Exit:
        child = await ChildProcess.spawn(command(code), lambda line: None)
        return await asyncio.wait_for(child.wait(), 60)

    assert asyncio.run(story()).code == 0


def test_log_tail_keeps_the_last_lines_cleans_them_and_bounds_each() -> None:
    code = (
        "import sys\n"
        "for i in range(300): print('line', i, file=sys.stderr)\n"
        "sys.stderr.write('\\x1b[31mred\\x07\\n' + 'x' * 100000 + '\\nno newline at the end')"
    )

    async def story() -> Exit:
        child = await ChildProcess.spawn(command(code), lambda line: None)
        return await child.wait()

    tail = asyncio.run(story()).log_tail
    assert tail[-1] == "no newline at the end"
    assert set(tail[-2]) == {"x"}
    assert len(tail[-2]) <= 4096
    assert tail[-3] == "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"
    assert tail[-4] == "line 299"
    assert len(tail) == 40


def test_log_file_is_appended_to_private_and_bounded(tmp_path: Path) -> None:
    log = process._LogFile(tmp_path / "engine.log", limit_bytes=100)
    for _ in range(4):
        log.write(b"x" * 60)
    log.close()
    assert (tmp_path / "engine.log").stat().st_size == 120
    assert (tmp_path / "engine.log.1").stat().st_size == 120
    assert (tmp_path / "engine.log").stat().st_mode & 0o777 == 0o600


def test_log_file_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    async def story() -> Exit:
        code = "import sys; sys.stderr.write('word\\n')"
        child = await ChildProcess.spawn(command(code, log_path=tmp_path / "none" / "x.log"), lambda line: None)
        return await child.wait()

    assert asyncio.run(story()) == Exit(code=0, log_tail=("word",))


def test_program_that_does_not_exist_is_an_error_that_names_it() -> None:
    nothing = Command(argv=("/nonexistent/program",), environment={})
    with pytest.raises(EngineError, match="/nonexistent/program"):
        asyncio.run(ChildProcess.spawn(nothing, lambda line: None))


def test_child_learns_whose_child_it_is_and_leads_a_session_of_its_own() -> None:
    code = f"import os; print(os.environ['{PARENT_VARIABLE}'], os.getsid(0) == os.getpid(), flush=True)"

    async def story() -> str:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        child = await ChildProcess.spawn(command(code), said.set_result)
        await child.wait()
        return said.result()

    assert asyncio.run(story()) == f"{os.getpid()} True"


def test_resident_bytes_of_a_running_child_and_none_of_a_dead_one() -> None:
    async def story() -> tuple[int | None, int | None]:
        child = await spawn_up(DEAF)
        alive = child.resident_bytes()
        await child.stop(0.2)
        return alive, child.resident_bytes()

    alive, dead = asyncio.run(story())
    assert alive is not None
    assert 1 << 20 < alive < 1 << 30
    assert dead is None


ROLLUP = """558ad95fd000-7ffd1b3f9000 ---p 00000000 00:00 0                          [rollup]
Rss:               36364 kB
Pss:               35519 kB
Pss_Dirty:         28160 kB
"""


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_smaps_rollup, ROLLUP, 35519 * 1024),
        (parse_smaps_rollup, "", None),
        (parse_smaps_rollup, "Pss:  many kB\n", None),
        (parse_status, "Name:\tpython\nVmHWM:\t   50000 kB\nVmRSS:\t   36364 kB\n", 36364 * 1024),
        (parse_status, "Name:\tVmRSS:\n", None),
    ],
)
def test_memory_is_read_from_the_kernels_words_or_unknown(parse: object, text: str, expected: int | None) -> None:
    assert callable(parse)
    assert parse(text) == expected


def test_memory_falls_back_to_the_resident_set(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("VmRSS:\t 12 kB\n")
    assert process.read_resident_bytes(7, tmp_path) == 12 * 1024
    assert process.read_resident_bytes(8, tmp_path) is None


def test_child_whose_parent_has_gone_already_ends_itself() -> None:
    code = f"import os; os.environ['{PARENT_VARIABLE}'] = '1'; from bercail.engines import leash; leash.tie_to_parent()"

    async def story() -> Exit:
        child = await ChildProcess.spawn(command(code), lambda line: None)
        return await child.wait()

    assert asyncio.run(story()).code == ORPHAN


def test_each_line_of_a_log_is_heard_without_what_drives_terminals() -> None:
    heard: list[str] = []
    code = "import sys; print('a\\x1b[2Jb\\nc', file=sys.stderr); print('up', flush=True)"

    async def story() -> None:
        await (await spawn_up(code, hear=heard.append)).wait()

    asyncio.run(story())
    assert heard == ["a\N{REPLACEMENT CHARACTER}[2Jb", "c"]
