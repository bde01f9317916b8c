"""Which CPUs, and whose memory, an engine is kept to."""

from dataclasses import dataclass, replace

from bercail.core.allotment import ANY_NODE, AUTO, Allotment, alone
from bercail.core.cpulist import format_cpulist, parse_cpulist
from bercail.core.machine import Cpu, Machine, MemoryPool
from bercail.core.options import EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Where an engine may run.

    Attributes:
        cpus: it is kept to; empty is all that may be used.
        node: NUMA node that all its memory comes from, or None.
        because: why these CPUs.
        memory: why memory of that node, or of any.
        refusal: why that cannot be, or empty.
    """

    cpus: tuple[int, ...] = ()
    node: int | None = None
    because: str = "all usable"
    memory: str = ANY_NODE
    refusal: str = ""


def bound(machine: Machine, wish: EngineOptions, allotment: Allotment | None = None) -> Bound:
    """What the wish says, or why it cannot be had on this machine.

    Args:
        machine: as it may be used.
        wish: what the user set.
        allotment: the share of a model that asks for ``auto``; None is that of the only model there is.
    """
    cpu = machine.cpu
    node = next((node for node in cpu.nodes if node.id == wish.numa), None)
    if wish.numa is not None and node is None:
        known = ", ".join(str(node.id) for node in cpu.nodes) or "none is known"
        return Bound(refusal=f"--numa {wish.numa} is no node with usable CPUs and memory here ({known})")
    if wish.cores == AUTO:
        return _allotted(wish, allotment or alone(cpu, wish.numa))
    cpus = parse_cpulist(wish.cores) if wish.cores is not None else ()
    if refusal := _wrong_list(machine, wish, cpus):
        return Bound(refusal=refusal)
    assert cpus is not None, "a list that is none was refused"
    because = "all usable" if wish.cores is None else "as asked"
    if node is None:
        return Bound(cpus=cpus, because=because)
    if far := sorted(set(cpus) - set(node.cpus)):
        return Bound(
            refusal=f"--cores {wish.cores} and --numa {wish.numa} contradict each other: CPU {format_cpulist(far)} is "
            f"of another node ({format_cpulist(node.cpus)} are of this one)"
        )
    return Bound(
        cpus=cpus or node.cpus, node=node.id, because=because if cpus else "those of the node", memory="as asked"
    )


def _wrong_list(machine: Machine, wish: EngineOptions, cpus: tuple[int, ...] | None) -> str:
    """Why a list of CPUs cannot be kept to, or empty."""
    if cpus is None or (wish.cores is not None and not cpus):
        return f"--cores {wish.cores} is no list of CPUs such as 0-3,8, nor auto"
    usable = machine.cpu.logical_cpus
    if missing := sorted(set(cpus) - set(usable)):
        gone, there = format_cpulist(missing), format_cpulist(usable)
        return f"--cores {wish.cores}: CPU {gone} is none of the usable ones ({there})"
    return ""


def _allotted(wish: EngineOptions, share: Allotment) -> Bound:
    asked = wish.numa is not None
    return Bound(
        cpus=share.cpus,
        node=wish.numa if asked else share.node,
        because=share.because,
        memory="as asked" if asked else share.memory,
        refusal=share.refusal,
    )


def within(machine: Machine, place: Bound) -> Machine:
    """The machine as an engine sees it that is kept to the CPUs of ``place``."""
    return replace(machine, cpu=_cpu(machine.cpu, place), memory=_memory(machine, place))


def _cpu(cpu: Cpu, place: Bound) -> Cpu:
    kept = set(place.cpus)
    cores = tuple(tuple(number for number in core if number in kept) for core in cpu.cores if kept.intersection(core))
    fast = tuple(sorted(kept.intersection(cpu.fast_cpus)))
    return replace(
        cpu,
        logical_cpus=place.cpus,
        physical_cores=len(cores) or None,
        performance_cores=_fast_cores(cores, fast),
        cores=cores,
        l3_groups=tuple(group for l3 in cpu.l3_groups if (group := tuple(sorted(kept.intersection(l3))))),
        fast_cpus=fast if len(fast) < len(kept) else (),
    )


def _fast_cores(cores: tuple[tuple[int, ...], ...], fast: tuple[int, ...]) -> int | None:
    """How many of the cores are fast ones; None where all are alike."""
    count = sum(bool(set(fast).intersection(core)) for core in cores)
    return count if 0 < count < len(cores) else None


def _memory(machine: Machine, place: Bound) -> MemoryPool:
    """Less of the cores read memory more slowly: how fast was not measured."""
    pool = machine.memory
    if set(place.cpus) != set(machine.cpu.logical_cpus):
        pool = replace(pool, bandwidth_bytes_per_s=None, bandwidth_doubt="")
    free = next((node.available_bytes for node in machine.cpu.nodes if node.id == place.node), None)
    if free is None or free >= pool.available_bytes:
        return pool
    return replace(pool, available_bytes=free, limited_by=f"NUMA node {place.node}")
