"""Whole machines that others recorded, read through the same door as the real one."""

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from bercail.core.cpulist import format_cpulist
from bercail.core.elsewhere import llama_server
from bercail.core.machine import Machine
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.units import MIB
from bercail.probes import LocalProber
from fakes.models import a_model

pytestmark = pytest.mark.shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a recording must give; all numbers are in the recording or in its maker's data sheet."""

    archive: str
    root: str
    cpus: int
    cores: int
    fast: int | None = None
    l3_mib: int | None = None
    nodes: int | None = None
    note: str = ""


MACHINES = (
    Known(archive="hwloc/linux/nvidia-dgx-gb10.tar.bz2", root="nvidia-dgx-gb10", cpus=20, cores=20, fast=10,
          l3_mib=24, nodes=1),
    Known(archive="hwloc/linux/128arm-2pa2n8cluster4co.tar.bz2", root="128arm-2pa2n8cluster4co", cpus=128, cores=128,
          l3_mib=128, nodes=4),
    Known(archive="hwloc/linux/32intel64-2p8co2t+8ve.tar.bz2", root="32intel64-2p8co2t+8ve", cpus=32, cores=16,
          l3_mib=22, nodes=2),
    Known(archive="hwloc/linux/8em64t-2s2ca2c-buggynuma.tar.bz2", root="8em64t-2s2ca2c-buggynuma", cpus=8, cores=8,
          note="one CPU into several NUMA nodes"),
    Known(archive="hwloc/linux/48amd64-4pa2n6c-sparse.tar.bz2", root="48amd64-4d2n6c-sparse", cpus=48, cores=48,
          l3_mib=39, nodes=8),
    Known(archive="hwloc/linux/2i386-2c-nohugepage.tar.bz2", root="2i386-2c-nohugepage", cpus=2, cores=2),
    Known(archive="hwloc/linux/2i386-2t-hugepagesizecount.tar.bz2", root="2i386-2t-hugepagesizecount", cpus=2, cores=1),
    Known(archive="hwloc/linux/32amd64-4s2n4c-cgroup2.tar.bz2", root="32amd64-4s2n4c-cgroup", cpus=6, cores=6,
          l3_mib=9, nodes=2),
    Known(archive="hwloc/linux/16amd64-4n4c-cgroup-distance-merge.tar.bz2", root="16amd64-4n4c-cgroup-distance-merge",
          cpus=4, cores=4, l3_mib=2, note="all memory is far"),
    Known(archive="nri-plugins/sysfs-sample1.tar.xz", root="sample1", cpus=16, cores=12, fast=4, l3_mib=18, nodes=1),
    Known(archive="nri-plugins/sysfs-sample2.tar.xz", root="sample2", cpus=112, cores=56, l3_mib=77, nodes=4),
    Known(archive="nri-plugins/cpuallocator-2socket-4node-40core.tar.bz2", root="sysfs/2-socket-4-node-40-core",
          cpus=80, cores=40, l3_mib=55, nodes=4, note="lists of performance and efficiency cores are ignored"),
    Known(archive="ghw/linux-amd64-415ee03b8c4d1c4f07ae2e9d8b3d3d6d.tar.gz", root="", cpus=16, cores=12, l3_mib=18,
          nodes=1),
    Known(archive="ghw/linux-amd64-61797caf7c0b6bca1725ad7975ed4773.tar.gz", root="", cpus=12, cores=6, l3_mib=16,
          nodes=1),
    Known(archive="ghw/linux-amd64-8581cf3a529e5d8b97ea876eade2f60d.tar.gz", root="", cpus=24, cores=12, l3_mib=24,
          nodes=2),
    Known(archive="ghw/linux-amd64-offlineCPUs.tar.gz", root="", cpus=2, cores=2, l3_mib=32, nodes=1),
    Known(archive="ghw/linux-arm64-c288e0776090cd558ef793b2a4e61939.tar.gz", root="", cpus=1, cores=1, l3_mib=32,
          nodes=1),
)  # fmt: skip


_READ = re.compile(
    r"/proc/|/cgroup|/cpuset|/sys/devices/cpu_|/system/cpu/online|/system/node/(online|has_|node\d+/(cpu|mem))"
    r"|/cpu\d+/(cpu_capacity|topology/.*siblings|topology/core_cpus|topology/physical|cache/index3/(level|size|shared))"
)


def unpack(archive: Path, folder: Path) -> None:
    """Only what the prober reads: these archives hold tens of thousands of files."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and _READ.search(f"/{member.name}"):
                tar.extract(member, folder, filter="data")


def probe(shared: Path, tmp_path: Path, known: Known, allowed: set[int] | None = None) -> Machine:
    unpack(shared / "fixtures/machines" / known.archive, tmp_path)
    prober = LocalProber(fsroot=tmp_path / known.root, affinity=lambda: allowed, system="Linux", architecture="x86_64")
    return prober.probe()


@pytest.mark.parametrize("known", MACHINES, ids=lambda known: Path(known.archive).name.split(".")[0])
def test_a_recorded_machine_is_read_as_it_was(shared: Path, tmp_path: Path, known: Known) -> None:
    machine = probe(shared, tmp_path, known)
    cpu = machine.cpu
    assert len(cpu.logical_cpus) == known.cpus
    assert cpu.physical_cores == known.cores
    assert cpu.performance_cores == known.fast
    assert (None if cpu.l3_bytes is None else cpu.l3_bytes // MIB) == known.l3_mib
    assert cpu.numa_nodes == known.nodes
    assert len(cpu.cores) == (known.cores or 0)
    assert sorted(number for core in cpu.cores for number in core) == list(cpu.logical_cpus if cpu.cores else ())
    assert len(cpu.nodes) == (known.nodes or 0)
    assert known.note in " ".join(machine.notes)


def test_affinity_leaves_the_cores_and_caches_it_allows(shared: Path, tmp_path: Path) -> None:
    machine = probe(shared, tmp_path, MACHINES[2], {0, 16, 1})  # CPUs 0 and 16 are one core of the first processor
    assert machine.cpu.logical_cpus == (0, 1, 16)
    assert machine.cpu.physical_cores == 2
    assert machine.cpu.l3_bytes == 11 * MIB
    assert machine.cpu.numa_nodes == 1


def test_an_engine_can_be_kept_to_a_node_of_a_recorded_machine(shared: Path, tmp_path: Path) -> None:
    """Its command line elsewhere shows how."""
    machine = probe(shared, tmp_path, MACHINES[2])
    node = machine.cpu.nodes[1]
    plan = decide(machine, a_model(), EngineOptions(numa=node.id))
    assert isinstance(plan, Fits)
    assert plan.settings.cores == node.cpus
    assert plan.settings.threads == len(node.cpus) // 2  # two threads a core
    assert node.available_bytes is not None
    assert plan.devices[0].budget_bytes == min(node.available_bytes, machine.memory.available_bytes)
    flags = llama_server("m.gguf", None, plan.settings)
    assert flags[:3] == ("numactl", f"--physcpubind={format_cpulist(node.cpus)}", f"--membind={node.id}")


def test_on_fast_cores_alone_all_cores_are_alike(shared: Path, tmp_path: Path) -> None:
    hybrid = next(known for known in MACHINES if known.root == "sample1")
    machine = probe(shared, tmp_path, hybrid, set(range(8)))
    assert machine.cpu.physical_cores == 4
    assert machine.cpu.performance_cores is None
