"""Whole machines that others recorded, read through the same door as the real one."""

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bercail.core.allotment import AUTO, Allotment, Claim, allot
from bercail.core.cpulist import format_cpulist
from bercail.core.elsewhere import llama_server
from bercail.core.machine import Machine, NumaNode
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.units import MIB
from bercail.probes import LocalProber
from fakes.models import a_machine, a_model

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
    assert len({number for group in cpu.l3_groups for number in group}) == sum(map(len, cpu.l3_groups))
    assert bool(cpu.l3_groups) >= (cpu.l3_bytes is not None)
    assert sum(bool(set(core) & set(cpu.fast_cpus)) for core in cpu.cores) == (known.fast or 0)


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


def mask(text: str) -> tuple[int, ...]:
    """CPUs of a set as lstopo writes it: 32 bits a word, the highest first, none where a word is 0."""
    words = [int(word or "0", 16) for word in text.split(",")]
    return tuple(32 * index + bit for index, word in enumerate(reversed(words)) for bit in range(32) if word >> bit & 1)


def topology(path: Path) -> Machine:
    """A machine by the topology that hwloc expects of a recording."""
    root = ElementTree.parse(path).getroot()

    def sets(kind: str) -> list[tuple[int, ...]]:
        return [mask(item.attrib["cpuset"]) for item in root.iter("object") if item.attrib["type"] == kind]

    kinds = {ElementTree.tostring(kind, "unicode"): mask(kind.attrib["cpuset"]) for kind in root.iter("cpukind")}
    fast = [cpus for text, cpus in kinds.items() if "IntelCore" in text]
    nodes = tuple(NumaNode(id=index, cpus=cpus) for index, cpus in enumerate(sets("NUMANode")) if cpus)
    cores = tuple(sets("Core"))
    return a_machine(
        logical_cpus=tuple(sorted(number for core in cores for number in core)), physical_cores=len(cores),
        cores=cores, nodes=nodes, numa_nodes=len(nodes), l3_groups=tuple(sets("L3Cache")),
        fast_cpus=fast[0] if fast else (), performance_cores=None,
    )  # fmt: skip


def shared_among(machine: Machine, count: int) -> list[Allotment]:
    """The shares of so many models that may all be there at once."""
    claims = [Claim(id=f"m{index:02}", cores=AUTO) for index in range(count)]
    return list(allot(machine.cpu, claims, lambda one, other: True).values())


@pytest.mark.parametrize(
    ("name", "count", "because"),
    [
        ("x86-cpuid/AMD-19h-Zen4-2xEpyc-9654", 24, {"8 cores, all of 1 L3 cache"}),
        ("x86-cpuid/AMD-19h-Zen4-2xEpyc-9654", 10, {"16 cores, all of 2 L3 caches", "24 cores, all of 3 L3 caches"}),
        ("x86-cpuid/AMD-19h-Zen4-2xEpyc-9654", 48, {"4 cores of one L3 cache"}),
        ("x86-cpuid/AMD-17h-Zen-2xEpyc-7451", 16, {"3 cores, all of 1 L3 cache"}),
        ("x86-cpuid/Intel-SapphireRapids-2xXeonMax9460", 2, {"40 cores, all of 1 L3 cache"}),
        ("x86-cpuid/Intel-SapphireRapids-2xXeonMax9460", 8, {"10 cores of one L3 cache"}),
        ("x86-cpuid/Intel-RaptorLake-Corei7-1370P", 2, {"6 performance cores", "8 efficiency cores"}),
        ("x86-cpuid/Intel-RaptorLake-Corei7-1370P", 3, {"3 performance cores", "8 efficiency cores"}),
        ("x86+linux/64amd64-4p2n4ca2co", 8, {f"all of NUMA node {node}" for node in range(8)}),
        ("xml/memorysidecaches", 2, {"all of NUMA nodes 0-1", "all of NUMA nodes 2-3"}),  # nodes within a socket
        ("xml/memorysidecaches", 3, {"all of NUMA node 0", "all of NUMA node 1", "all of NUMA nodes 2-3"}),
        ("xml/96em64t-4n4d3ca2co-pci", 8, {"12 cores, all of 2 L3 caches"}),
    ],
)
def test_models_get_whole_caches_and_nodes_of_a_recorded_machine(
    shared: Path, name: str, count: int, because: set[str]
) -> None:
    machine = topology(shared / "fixtures/machines/hwloc" / f"{name}.xml")
    found = shared_among(machine, count)
    assert {share.because.removeprefix("auto: ").partition(";")[0] for share in found} == because
    used = [number for share in found for number in share.cpus]
    assert sorted(used) == sorted(set(used))
    idle = set(machine.cpu.logical_cpus) - set(used)
    assert not idle


def test_two_models_on_a_recorded_machine_are_bound_to_a_node_each(shared: Path, tmp_path: Path) -> None:
    """Their command lines elsewhere show how; what one node cannot hold takes memory from both."""
    machine = probe(shared, tmp_path, MACHINES[2])
    for share, node in zip(shared_among(machine, 2), machine.cpu.nodes, strict=True):
        plan = decide(machine, a_model(), EngineOptions(cores=AUTO), allotment=share)
        assert isinstance(plan, Fits)
        assert (plan.settings.threads, plan.settings.threads_batch) == (8, 8)  # of two threads each
        assert plan.devices[0].budget_bytes == node.available_bytes
        flags = llama_server("m.gguf", None, plan.settings)
        assert flags[:3] == ("numactl", f"--physcpubind={format_cpulist(node.cpus)}", f"--membind={node.id}")
    first, second = (
        decide(machine, a_model(), EngineOptions(cores=AUTO), allotment=share) for share in shared_among(machine, 4)[:2]
    )
    assert (first.settings.numa, second.settings.numa) == (0, 0)
    assert not set(first.settings.cores) & set(second.settings.cores)


def test_slow_and_fast_cores_of_a_recorded_machine_are_not_mixed(shared: Path, tmp_path: Path) -> None:
    hybrid = probe(shared, tmp_path, next(known for known in MACHINES if known.root == "sample1"))
    fast, slow = shared_among(hybrid, 2)
    assert (format_cpulist(fast.cpus), format_cpulist(slow.cpus)) == ("0-7", "8-15")
    flags = llama_server("m.gguf", None, decide(hybrid, a_model(), EngineOptions(cores=AUTO), allotment=slow).settings)
    assert flags[:3] == ("taskset", "--cpu-list", "8-15")


def test_what_is_kept_to_both_types_decodes_on_the_fast_ones(shared: Path, tmp_path: Path) -> None:
    hybrid = probe(shared, tmp_path, next(known for known in MACHINES if known.root == "sample1"))
    settings = decide(hybrid, a_model(), EngineOptions(cores="0-3,8-11")).settings
    assert (settings.threads, settings.threads_batch) == (2, 6)
