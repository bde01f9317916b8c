"""Which CPUs, and whose memory, an engine is kept to."""

from dataclasses import dataclass, replace

from bercail.core.cpulist import format_cpulist, parse_cpulist
from bercail.core.machine import Cpu, Machine, MemoryPool
from bercail.core.options import EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Where an engine may run.

    Attributes:
        cpus: it is kept to; empty is all that may be used.
        node: NUMA node that all its memory comes from, or None.
        refusal: why that cannot be, or empty.
    """

    cpus: tuple[int, ...] = ()
    node: int | None = None
    refusal: str = ""


def bound(machine: Machine, wish: EngineOptions) -> Bound:
    """What the wish says, or why it cannot be had on this machine."""
    cpu = machine.cpu
    usable = format_cpulist(cpu.logical_cpus)
    cpus = parse_cpulist(wish.cores) if wish.cores is not None else ()
    if cpus is None or (wish.cores is not None and not cpus):
        return Bound(refusal=f"--cores {wish.cores} is no list of CPUs such as 0-3,8")
    if missing := sorted(set(cpus) - set(cpu.logical_cpus)):
        return Bound(
            refusal=f"--cores {wish.cores}: CPU {format_cpulist(missing)} is none of the usable ones ({usable})"
        )
    if wish.numa is None:
        return Bound(cpus=cpus)
    node = next((node for node in cpu.nodes if node.id == wish.numa), None)
    if node is None:
        known = ", ".join(str(node.id) for node in cpu.nodes) or "none is known"
        return Bound(refusal=f"--numa {wish.numa} is no node with usable CPUs and memory here ({known})")
    if far := sorted(set(cpus) - set(node.cpus)):
        return Bound(
            refusal=f"--cores {wish.cores} and --numa {wish.numa} contradict each other: CPU {format_cpulist(far)} is "
            f"of another node ({format_cpulist(node.cpus)} are of this one)"
        )
    return Bound(cpus=cpus or node.cpus, node=node.id)


def within(machine: Machine, place: Bound) -> Machine:
    """The machine as an engine sees it that is kept to the CPUs of ``place``."""
    return replace(machine, cpu=_cpu(machine.cpu, place), memory=_memory(machine, place))


def _cpu(cpu: Cpu, place: Bound) -> Cpu:
    kept = set(place.cpus)
    cores = tuple(tuple(number for number in core if number in kept) for core in cpu.cores if kept.intersection(core))
    return replace(
        cpu,
        logical_cpus=place.cpus,
        physical_cores=len(cores) or None,
        performance_cores=None,
        cores=cores,
    )


def _memory(machine: Machine, place: Bound) -> MemoryPool:
    """Less of the cores read memory more slowly: how fast was not measured."""
    pool = machine.memory
    if set(place.cpus) != set(machine.cpu.logical_cpus):
        pool = replace(pool, bandwidth_bytes_per_s=None)
    free = next((node.available_bytes for node in machine.cpu.nodes if node.id == place.node), None)
    if free is None or free >= pool.available_bytes:
        return pool
    return replace(pool, available_bytes=free, limited_by=f"NUMA node {place.node}")
