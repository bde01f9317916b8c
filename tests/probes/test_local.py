from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from bercail.core.machine import Cpu, Machine, MemoryPool
from bercail.core.units import GIB, MIB
from bercail.ports import Prober
from bercail.probes import LocalProber
from bercail.probes.local import reading_threads, taken, usable_cpus
from bercail.probes.procfs import CpuTimes, parse_stat

CPUINFO = "processor : 0\nmodel name : Test CPU\nflags : avx2\n\nprocessor : 1\nmodel name : Test CPU\nflags : avx2\n"
MEMINFO = f"MemTotal: {8 * GIB // 1024} kB\nMemAvailable: {6 * GIB // 1024} kB\nSwapTotal: 1024 kB\n"
MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"


def build(root: Path, files: Mapping[str, str]) -> LocalProber:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return LocalProber(fsroot=root, affinity=lambda: None, system="Linux", architecture="x86_64")


def some_cpu() -> Cpu:
    return Cpu(
        model_name="Test CPU", architecture="x86_64", logical_cpus=(0, 1, 2, 3), physical_cores=2,
        performance_cores=None, quota_cpus=None, instruction_sets=(), l3_bytes=None, numa_nodes=None,
    )  # fmt: skip


def some_machine(*, available_bytes: int = 4 * GIB) -> Machine:
    memory = MemoryPool(total_bytes=8 * GIB, available_bytes=available_bytes)
    return Machine(system="Linux", cpu=some_cpu(), memory=memory)


def test_the_prober_has_the_shape_of_its_port() -> None:
    prober: Prober = LocalProber()
    assert callable(prober.probe)


def test_a_small_machine_is_told_as_it_is(tmp_path: Path) -> None:
    machine = build(tmp_path, {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO}).probe()
    assert machine.cpu.model_name == "Test CPU"
    assert machine.cpu.logical_cpus == (0, 1)
    assert machine.cpu.physical_cores is None
    assert machine.cpu.l3_bytes is None
    assert machine.memory == MemoryPool(total_bytes=8 * GIB, available_bytes=6 * GIB, swap_bytes=MIB)
    assert machine.notes == ()


def test_cores_come_from_cpuinfo_where_sysfs_hides_them(tmp_path: Path) -> None:
    one_core = CPUINFO.replace("flags", "physical id : 0\ncore id : 0\nflags")
    assert build(tmp_path, {"proc/cpuinfo": one_core}).probe().cpu.physical_cores == 1


def test_swap_never_counts_as_room(tmp_path: Path) -> None:
    swap = MEMINFO.replace("SwapTotal: 1024", f"SwapTotal: {64 * GIB // 1024}")
    memory = build(tmp_path, {"proc/meminfo": swap}).probe().memory
    assert memory.available_bytes == 6 * GIB
    assert memory.swap_bytes == 64 * GIB


def test_a_control_group_lowers_memory_and_is_named(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": MEMINFO,
        "proc/self/mountinfo": MOUNT,
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/job/memory.current": f"{GIB}\n",
    }
    memory = build(tmp_path, files).probe().memory
    assert memory.total_bytes == 2 * GIB
    assert memory.available_bytes == GIB
    assert memory.limited_by == "/sys/fs/cgroup/job"


def test_a_roomy_control_group_leaves_the_system_as_the_limit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/mountinfo": MOUNT,
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": f"{7 * GIB}\n",
        "sys/fs/cgroup/job/memory.current": "0\n",
    }
    memory = build(tmp_path, files).probe().memory
    assert (memory.total_bytes, memory.available_bytes, memory.limited_by) == (7 * GIB, 6 * GIB, "system")


def test_an_empty_machine_gives_notes_instead_of_an_exception(tmp_path: Path) -> None:
    machine = build(tmp_path, {}).probe()
    assert machine.memory.available_bytes == 0
    assert machine.cpu.logical_cpus == (0,)
    assert any("/proc/meminfo" in note for note in machine.notes)
    assert any("/proc/cpuinfo" in note for note in machine.notes)


def test_old_kernels_get_an_estimate_and_a_note(tmp_path: Path) -> None:
    old = "MemTotal: 4096 kB\nMemFree: 1024 kB\nCached: 1024 kB\n"
    machine = build(tmp_path, {"proc/cpuinfo": CPUINFO, "proc/meminfo": old}).probe()
    assert machine.memory.available_bytes == 1536 * 1024
    assert any("estimated" in note for note in machine.notes)


@pytest.mark.parametrize(
    ("online", "allowed", "cpuset", "usable"),
    [
        ((0, 1, 2, 3), None, None, (0, 1, 2, 3)),
        ((0, 1, 2, 3), {1, 2, 9}, (2, 3), (2,)),
        ((0, 1), {7}, None, (0, 1)),
        ((), {3, 1}, None, (1, 3)),
        ((), None, None, (0,)),
    ],
)
def test_usable_cpus_are_online_allowed_and_in_the_cpuset(
    online: tuple[int, ...], allowed: set[int] | None, cpuset: tuple[int, ...] | None, usable: tuple[int, ...]
) -> None:
    assert usable_cpus(online, allowed, cpuset) == usable


@pytest.mark.parametrize(("quota", "threads"), [(None, 2), (1.9, 1), (0.5, 1), (64.0, 2)])
def test_a_measurement_takes_a_thread_per_core_that_the_quota_lets_run(quota: float | None, threads: int) -> None:
    assert reading_threads(replace(some_cpu(), quota_cpus=quota)) == threads


@pytest.mark.parametrize("system", ["Darwin", "Windows", "Plan9"])
def test_other_systems_say_what_is_unknown(system: str) -> None:
    machine = LocalProber(system=system, architecture="arm64", affinity=lambda: None).probe()
    assert machine.system == system
    assert machine.cpu.architecture == "aarch64"
    assert machine.cpu.logical_cpus
    assert machine.cpu.physical_cores is None
    assert any("not probed" in note for note in machine.notes)


def test_the_fingerprint_changes_with_what_changes_the_bandwidth() -> None:
    machine = some_machine()
    others = [
        replace(machine, cpu=replace(machine.cpu, model_name="Other")),
        replace(machine, cpu=replace(machine.cpu, logical_cpus=(0,))),
        replace(machine, cpu=replace(machine.cpu, quota_cpus=1.0)),
        replace(machine, memory=replace(machine.memory, total_bytes=GIB)),
    ]
    assert len({LocalProber().fingerprint(one) for one in (machine, *others)}) == 5


def test_the_fingerprint_stays_while_free_memory_changes() -> None:
    prober = LocalProber()
    assert prober.fingerprint(some_machine(available_bytes=GIB)) == prober.fingerprint(some_machine())


def test_bandwidth_is_not_measured_in_little_memory() -> None:
    assert LocalProber().measure_bandwidth(some_machine(available_bytes=GIB - 1)) is None


def test_bandwidth_is_bytes_read_over_time() -> None:
    """The clock goes on by 4 ms at each look, so the work is the same on any machine."""
    ticks = count()
    prober = LocalProber(clock=lambda: next(ticks) * 0.004)
    machine = some_machine()
    one_thread = replace(machine, cpu=replace(machine.cpu, physical_cores=1))
    found = prober.measure_bandwidth(one_thread)
    assert found is not None
    assert found.bytes_per_s == pytest.approx(32 * MIB / 0.004)
    assert found.spread == 0.0


STAT = """cpu  9 9 9 9 9 9 9 9 0 0
cpu0 {0} 0 10 {1} 5 0 0 {2} 0 0
cpu1 0 0 0 100 0 0 0 0 0 0
cpu9 7 0 0 0 0 0 0 0 0 0
intr 1
"""


def test_what_others_take_while_it_is_measured_is_what_is_left_of_busy_time(tmp_path: Path) -> None:
    before = parse_stat(STAT.format(0, 100, 0), (0, 1))
    assert before == CpuTimes(busy=10, stolen=0, total=215)
    after = parse_stat(STAT.format(60, 120, 20), (0, 1))
    assert taken(before, after, 0.1) == pytest.approx((0.5, 0.2))
    assert taken(before, after, 0.9)[0] == 0.0
    assert taken(before, before, 0.0) == taken(None, after, 0.0) == taken(before, None, 0.0) == (None, None)
    assert parse_stat("cpu0 1 2 3\ncpu1 a b c d e f g h\n", (0, 1)) is None
    idle = build(tmp_path, {"proc/stat": STAT.format(0, 100, 0)})
    machine = some_machine()
    found = idle.measure_bandwidth(replace(machine, cpu=replace(machine.cpu, physical_cores=1)))
    assert found is not None
    assert (found.busy, found.withheld) == (None, None), "the recorded clock stands still"


def test_what_could_not_be_filled_beyond_the_caches_is_no_reading_of_memory() -> None:
    ticks = count()
    prober = LocalProber(clock=lambda: next(ticks) * 0.1)  # so slow that only 20 MiB get filled
    machine = some_machine()
    big_cache = replace(machine, cpu=replace(machine.cpu, physical_cores=1, l3_bytes=64 * MIB))
    assert prober.measure_bandwidth(big_cache) is None
