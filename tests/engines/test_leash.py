"""Where a child runs, told by its parent: seen in a real child, also after it has become another program."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from bercail.engines.leash import UNBOUND, later, place_of

ALLOWED = sorted(os.sched_getaffinity(0))
SAY = "import os; print(sorted(os.sched_getaffinity(0)))"
LEASHED = (sys.executable, "-m", "bercail.engines.leashed")


def run(argv: Sequence[str], cpus: Sequence[int], node: int | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **place_of(cpus, node)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=240)


def test_a_program_is_kept_to_its_cpus() -> None:
    done = run((*LEASHED, sys.executable, "-c", SAY), ALLOWED[-1:])
    assert (done.returncode, done.stdout) == (0, f"{ALLOWED[-1:]}\n")
    assert run((*LEASHED, sys.executable, "-c", SAY), ()).stdout == f"{ALLOWED}\n"


def test_its_memory_comes_from_the_node() -> None:
    say = "print(open('/proc/self/numa_maps').read().count('bind:0'))"
    done = run((*LEASHED, sys.executable, "-c", say), ALLOWED, 0)
    if done.returncode == UNBOUND:
        pytest.skip(f"this kernel binds no memory: {done.stderr.strip()}")
    if "No such file" in done.stderr:
        pytest.skip("this kernel does not tell where memory comes from")
    assert int(done.stdout) > 0


@pytest.mark.parametrize(("cpus", "node"), [((99_999,), None), (ALLOWED, 1000)])
def test_what_cannot_be_kept_to_ends_with_words(cpus: Sequence[int], node: int | None) -> None:
    done = run((*LEASHED, sys.executable, "-c", SAY), cpus, node)
    assert done.returncode == UNBOUND
    assert "cannot be kept to CPUs" in done.stderr


def test_no_program_is_told() -> None:
    done = run((*LEASHED, "/none/such"), ())
    assert (done.returncode, done.stderr) == (127, "/none/such: No such file or directory\n")


def test_variables_reach_the_program_and_not_what_becomes_it() -> None:
    added = {"PYTHONHOME": "/nowhere", "ODD": "\udcff = \n\N{EURO SIGN}"}
    argv = (*LEASHED, "/bin/sh", "-c", 'printf "%s|%s|%s" "$PYTHONHOME" "$ODD" "$BERCAIL_LATER"')
    done = subprocess.run(argv, env={**os.environ, **later(added)}, capture_output=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == os.fsencode(f"/nowhere|{added['ODD']}|")
    assert later({}) == {}


def test_a_program_finds_its_signals_as_it_expects_them() -> None:
    """Bits of SIGINT (2), SIGPIPE (13) and SIGXFSZ (25), which our interpreter ignores or handles."""
    done = run((*LEASHED, "/bin/sh", "-c", "grep SigIgn /proc/self/status"), ())
    assert int(done.stdout.split()[1], 16) & (1 << 1 | 1 << 12 | 1 << 24) == 0
