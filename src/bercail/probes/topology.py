"""Cores, caches, core types and NUMA nodes out of sysfs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

from bercail.core.cpulist import parse_cpulist, parse_number
from bercail.core.machine import NumaNode
from bercail.core.units import Bytes
from bercail.probes.lists import parse_cache_size, parse_cpumask
from bercail.probes.procfs import parse_meminfo
from bercail.probes.tree import Tree

_CPU = "/sys/devices/system/cpu"
_NODE = "/sys/devices/system/node"

Siblings = Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class L3:
    """Level-3 caches.

    Attributes:
        bytes: of all together; None if there is none or a size is missing.
        groups: the CPUs of each, of those that were asked for.
    """

    bytes: Bytes | None
    groups: tuple[tuple[int, ...], ...]


# Core types differ by a third or more (GB10: 731 and 997; RK3588: 530 and 1024), cores of one type by their best
# clock alone (GB10: 997, 1017, 1024).
_SMALLEST_GAP = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class FastCpus:
    """The fast CPUs of a hybrid processor.

    Attributes:
        ids: their ids, or None where all are alike or it is unknown.
        note: why the system's own word was not believed, or an empty string.
    """

    ids: frozenset[int] | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNodes:
    """The nodes that have both CPUs and memory that may be used; None if unknown, and why."""

    nodes: tuple[NumaNode, ...] | None
    note: str = ""

    @property
    def count(self) -> int | None:
        """How many, or None."""
        return None if self.nodes is None else len(self.nodes)


def read_online(tree: Tree) -> tuple[int, ...] | None:
    """Ids of the CPUs that are online, or None where the system does not say."""
    return _read_ids(tree, f"{_CPU}/online")


def read_siblings(tree: Tree, ids: Collection[int]) -> Siblings | None:
    """For each CPU the CPUs of its core, itself included; None if that is hidden for any of them."""
    found: dict[int, frozenset[int]] = {}
    for number in ids:
        siblings = _read_core(tree, number)
        if siblings is None or number not in siblings:
            return None
        found[number] = siblings
    return found


def count_cores(siblings: Siblings, ids: Collection[int]) -> int:
    """How many distinct cores the CPUs ``ids`` belong to."""
    return len({siblings[number] for number in ids if number in siblings})


def list_cores(siblings: Siblings, ids: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """The CPUs ``ids`` by core, in the order of the first of each."""
    cores = dict.fromkeys(siblings[number] for number in sorted(ids) if number in siblings)
    return tuple(tuple(sorted(core & set(ids))) for core in cores)


def read_l3(tree: Tree, ids: Collection[int]) -> L3:
    """The level-3 caches that the CPUs ``ids`` use, each once."""
    sizes: dict[frozenset[int], Bytes | None] = {}
    for number in ids:
        for name in tree.names(f"{_CPU}/cpu{number}/cache"):
            folder = f"{_CPU}/cpu{number}/cache/{name}"
            if not name.startswith("index") or (tree.read(f"{folder}/level") or "").strip() != "3":
                continue
            users = _read_ids(tree, f"{folder}/shared_cpu_list") or parse_cpumask(
                tree.read(f"{folder}/shared_cpu_map") or ""
            )
            sizes[frozenset(users or (number,)) & set(ids)] = parse_cache_size(tree.read(f"{folder}/size") or "")
    known = [size for size in sizes.values() if size is not None]
    total = sum(known) if len(known) == len(sizes) else 0
    return L3(bytes=total or None, groups=tuple(sorted(tuple(sorted(users)) for users in sizes)))


def read_fast_cpus(tree: Tree, online: Collection[int], siblings: Siblings | None) -> FastCpus:
    """The fast CPUs: Intel's lists of core types if they can be true, else the capacities Arm kernels give."""
    fast = _read_ids(tree, "/sys/devices/cpu_core/cpus")
    slow = _read_ids(tree, "/sys/devices/cpu_atom/cpus")
    if fast and slow:
        slow += _read_ids(tree, "/sys/devices/cpu_lowpower/cpus") or ()
        doubt = doubt_core_types(fast, slow, online, siblings)
        doubt = doubt or ("the machine has several processors" if _count_packages(tree, online) > 1 else "")
        if not doubt:
            return FastCpus(ids=frozenset(fast))
        return FastCpus(ids=None, note=f"the lists of performance and efficiency cores are ignored: {doubt}")
    capacities = {number: parse_number(tree.read(f"{_CPU}/cpu{number}/cpu_capacity") or "") for number in online}
    known = {number: capacity for number, capacity in capacities.items() if capacity}
    return FastCpus(ids=split_by_capacity(known) if len(known) == len(capacities) else None)


def doubt_core_types(
    fast: Collection[int], slow: Collection[int], online: Collection[int], siblings: Siblings | None
) -> str:
    """Why two lists of core types cannot be true, or an empty string.

    Every online CPU is in exactly one of them, and no efficiency core of Intel's has a second thread.
    """
    if set(fast) & set(slow) or set(fast) | set(slow) != set(online):
        return "they do not share out the online CPUs"
    if siblings and any(len(siblings.get(number, ())) > 1 for number in slow):
        return "efficiency cores have no second thread, these do"
    return ""


def split_by_capacity(capacities: Mapping[int, int]) -> frozenset[int] | None:
    """The CPUs above the widest gap between capacities; None if no gap is wide enough to be another core type."""
    ordered = sorted(set(capacities.values()))
    gaps = [(high / low, high) for low, high in pairwise(ordered) if low > 0]
    widest, border = max(gaps, default=(1.0, 0))
    if widest < _SMALLEST_GAP:
        return None
    return frozenset(number for number, capacity in capacities.items() if capacity >= border)


def read_numa_nodes(tree: Tree, usable: Collection[int], memory_nodes: Collection[int] | None) -> NumaNodes:
    """Nodes with CPUs of ``usable`` and memory, of those in ``memory_nodes`` (None is all).

    Nodes without CPUs are persistent, far or GPU memory, nothing to plan with.
    """
    with_memory = _read_ids(tree, f"{_NODE}/has_memory") or _read_ids(tree, f"{_NODE}/has_normal_memory")
    seen: set[int] = set()
    found: list[NumaNode] = []
    nodes = [number for name in tree.names(_NODE) if (number := parse_number(name.removeprefix("node"))) is not None]
    for node in nodes:
        cpus = _read_ids(tree, f"{_NODE}/node{node}/cpulist")
        if cpus is None:
            cpus = parse_cpumask(tree.read(f"{_NODE}/node{node}/cpumap") or "") or ()
        if seen.intersection(cpus):
            return NumaNodes(nodes=None, note="the firmware puts one CPU into several NUMA nodes; they are ignored")
        seen.update(cpus)
        allowed = memory_nodes is None or node in memory_nodes
        near = tuple(sorted(set(cpus) & set(usable)))
        if allowed and near and _has_memory(tree, node, with_memory):
            found.append(NumaNode(id=node, cpus=near, available_bytes=_available_bytes(tree, node)))
    if nodes and not found:
        return NumaNodes(nodes=None, note="no NUMA node has both CPUs and memory that may be used: all memory is far")
    return NumaNodes(nodes=tuple(sorted(found, key=lambda node: node.id)) or None)


def _available_bytes(tree: Tree, node: int) -> Bytes | None:
    """Free memory of a node, its file cache counted as free, but not what is shared in memory."""
    facts = parse_meminfo(tree.read(f"{_NODE}/node{node}/meminfo") or "")
    if "MemFree" not in facts:
        return None
    return facts["MemFree"] + max(0, facts.get("FilePages", 0) - facts.get("Shmem", 0))


def _has_memory(tree: Tree, node: int, with_memory: Collection[int] | None) -> bool:
    text = tree.read(f"{_NODE}/node{node}/meminfo")
    if text is not None:
        return parse_meminfo(text).get("MemTotal", 0) > 0
    return with_memory is None or node in with_memory


def _read_core(tree: Tree, number: int) -> frozenset[int] | None:
    folder = f"{_CPU}/cpu{number}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):
        found = _read_ids(tree, f"{folder}/{name}")
        if found:
            return frozenset(found)
    mask = parse_cpumask(tree.read(f"{folder}/thread_siblings") or "")
    return frozenset(mask) if mask else None


def _count_packages(tree: Tree, ids: Collection[int]) -> int:
    return len({tree.read(f"{_CPU}/cpu{number}/topology/physical_package_id") for number in ids} - {None})


def _read_ids(tree: Tree, path: str) -> tuple[int, ...] | None:
    text = tree.read(path)
    return None if text is None else parse_cpulist(text)
