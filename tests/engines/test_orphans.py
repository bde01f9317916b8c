import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bercail.engines import end_orphan

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def is_there(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is None


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_left_behind_is_killed_with_its_group(tmp_path: Path) -> None:
    script = f"import subprocess,time; p=subprocess.Popen({SLEEPER!r}); print(p.pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        member = int(leader.stdout.readline())
        assert end_orphan(leader.pid, (), lambda: is_there(leader))
        assert leader.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 60.0
    while is_running(member) and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel ends a group one after the other
    assert not is_running(member)


def test_one_that_leads_no_group_is_killed_alone() -> None:
    with subprocess.Popen(SLEEPER) as process:
        assert os.getpgid(process.pid) != process.pid
        assert end_orphan(process.pid, (), lambda: is_there(process))
        assert process.wait() == -signal.SIGKILL


def test_its_own_stop_command_runs_first_and_must_succeed(tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    with subprocess.Popen(SLEEPER) as process:
        failing = (sys.executable, "-c", "raise SystemExit(1)")
        assert not end_orphan(process.pid, failing, lambda: is_there(process))
        assert not end_orphan(process.pid, ("no-such-program-here",), lambda: is_there(process))
        assert is_there(process)
        gone = (sys.executable, "-c", "import sys; sys.exit('Error response from daemon: No such container: x')")
        assert end_orphan(process.pid, gone, lambda: is_there(process))
        assert process.wait() == -signal.SIGKILL
    with subprocess.Popen(SLEEPER) as process:
        stopping = (sys.executable, "-c", f"open({str(mark)!r}, 'w').close()")
        assert end_orphan(process.pid, stopping, lambda: is_there(process))
        assert mark.exists()


def test_another_process_that_has_its_number_now_is_let_live() -> None:
    with subprocess.Popen(SLEEPER) as process:
        assert end_orphan(process.pid, ("true",), lambda: False)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()


def test_one_that_is_gone_already_counts_as_ended() -> None:
    with subprocess.Popen(SLEEPER) as process:
        process.kill()
        process.wait()
    assert end_orphan(process.pid, (), lambda: False)
