"""The prober of this machine."""

import os
import platform
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from bercail.core.bandwidth import Reading
from bercail.core.cpulist import format_cpulist
from bercail.core.machine import Cpu, Machine, MemoryPool
from bercail.core.units import GIB, MIB, Bytes, Seconds
from bercail.probes.bandwidth import Effort, measure
from bercail.probes.container import Limits, MemoryLimit, read_limits
from bercail.probes.elsewhere import count_usable_cpus, read_memory_elsewhere
from bercail.probes.pci import read_links
from bercail.probes.procfs import CpuInfo, CpuTimes, parse_cpuinfo, parse_meminfo, parse_stat
from bercail.probes.topology import (
    Siblings,
    count_cores,
    list_cores,
    read_fast_cpus,
    read_l3,
    read_numa_nodes,
    read_online,
    read_siblings,
)
from bercail.probes.tree import Tree

# Below this a measurement might push out what others need, and its buffers would be too small to mean anything.
_LEAST_AVAILABLE: Bytes = GIB
_LEAST_BUFFER: Bytes = 256 * MIB
_CACHE_MULTIPLE = 4  # a buffer of this many times the caches leaves them little to help with
_LEAST_CACHE_MULTIPLE = 2  # if filling was slow; less is not a reading of main memory

_ARCHITECTURES = {"AMD64": "x86_64", "arm64": "aarch64"}


def allowed_cpus() -> Collection[int] | None:
    """CPUs the scheduler may put this process on, or None where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProber:
    """Looks at the machine it runs on, or at a recorded one.

    Attributes:
        fsroot: where ``/proc`` and ``/sys`` are found.
        affinity: gives the CPUs this process may run on; None is no word on it.
        system: ``Linux``, ``Darwin``, ``Windows``.
        architecture: as ``platform.machine()`` names it.
        clock: seconds that never go back, for measuring.
        own_time: seconds of CPU time that this process has used.
    """

    fsroot: str | Path = "/"
    affinity: Callable[[], Collection[int] | None] = allowed_cpus
    system: str = platform.system()
    architecture: str = platform.machine()
    clock: Callable[[], Seconds] = time.perf_counter
    own_time: Callable[[], Seconds] = time.process_time

    def probe(self) -> Machine:
        """What may be used of the machine right now; the bandwidth is not measured."""
        return self._probe_linux() if self.system == "Linux" else self._probe_elsewhere()

    def fingerprint(self, machine: Machine) -> str:
        """A word for everything a measured bandwidth depends on, to keep it under: another word, measure again."""
        cpu = machine.cpu
        parts = (
            machine.system,
            cpu.architecture,
            cpu.model_name or "unknown processor",
            f"cpus {format_cpulist(cpu.logical_cpus)}",
            f"cores {cpu.physical_cores}",
            f"quota {cpu.quota_cpus}",
            f"memory {machine.memory.total_bytes}",
        )
        return "; ".join(parts)

    def measure_bandwidth(self, machine: Machine) -> Reading | None:
        """Reading speed of main memory with all usable cores: the best of four windows of 0.12 s.

        None with less than 1 GiB available, or where the buffers cannot be had or filled in time.
        """
        cpu, available = machine.cpu, machine.memory.available_bytes
        if available < _LEAST_AVAILABLE:
            return None
        cache = cpu.l3_bytes or 0
        wished = max(_LEAST_BUFFER, _CACHE_MULTIPLE * cache)
        effort = Effort(threads=reading_threads(cpu), buffer_bytes=min(wished, available // 4))
        before, own_s, began_s = self._times(cpu), self.own_time(), self.clock()
        try:
            result = measure(effort, self.clock)
        except (MemoryError, OSError, AttributeError, RuntimeError):
            return None
        if result.filled_bytes < _LEAST_CACHE_MULTIPLE * cache:
            return None
        own = (self.own_time() - own_s) / max(self.clock() - began_s, 1e-9) / max(len(cpu.logical_cpus), 1)
        busy, withheld = taken(before, self._times(cpu), own)
        best = max(result.windows, key=lambda window: window.bytes_per_s)
        like = [window.bytes_per_s for window in result.windows if window.method == best.method]
        return Reading(
            bytes_per_s=best.bytes_per_s, busy=busy, withheld=withheld, spread=1 - min(like) / best.bytes_per_s
        )

    def _times(self, cpu: Cpu) -> CpuTimes | None:
        return parse_stat(Tree(self.fsroot).read("/proc/stat") or "", cpu.logical_cpus)

    def _probe_linux(self) -> Machine:
        tree = Tree(self.fsroot)
        limits = read_limits(tree)
        cpu, cpu_notes = self._read_cpu(tree, limits)
        memory, memory_notes = read_memory(tree, limits.memory)
        denied = tuple(f"no permission to read {path}" for path in dict.fromkeys(tree.denied))
        notes = (*limits.notes, *cpu_notes, *memory_notes, *denied)
        return Machine(system=self.system, cpu=cpu, memory=memory, notes=notes, links=read_links(tree))

    def _read_cpu(self, tree: Tree, limits: Limits) -> tuple[Cpu, tuple[str, ...]]:
        info = parse_cpuinfo(tree.read("/proc/cpuinfo") or "")
        online = read_online(tree) or info.processors
        allowed = self.affinity()
        usable = usable_cpus(online, allowed, limits.cpus)
        siblings = read_siblings(tree, online) or read_siblings(tree, usable) or _siblings_from(info, usable)
        types = read_fast_cpus(tree, online, siblings)
        fast = fast_among(usable, types.ids)
        nodes = read_numa_nodes(tree, usable, limits.memory_nodes)
        l3 = read_l3(tree, usable)
        cpu = Cpu(
            model_name=info.model_name,
            architecture=_ARCHITECTURES.get(self.architecture, self.architecture),
            logical_cpus=usable,
            physical_cores=None if siblings is None else count_cores(siblings, usable),
            performance_cores=(count_cores(siblings, fast) or None) if siblings else None,
            quota_cpus=limits.quota_cpus,
            instruction_sets=info.instruction_sets,
            l3_bytes=l3.bytes,
            numa_nodes=nodes.count,
            cores=() if siblings is None else list_cores(siblings, usable),
            nodes=nodes.nodes or (),
            l3_groups=l3.groups,
            fast_cpus=fast,
        )
        return cpu, tuple(note for note in (_cpu_note(usable, online, allowed), types.note, nodes.note) if note)

    def _probe_elsewhere(self) -> Machine:
        memory, notes = read_memory_elsewhere(self.system)
        usable = tuple(sorted(self.affinity() or ())) or tuple(range(count_usable_cpus()))
        cpu = Cpu(
            model_name=platform.processor() or None,
            architecture=_ARCHITECTURES.get(self.architecture, self.architecture),
            logical_cpus=usable,
            physical_cores=None,
            performance_cores=None,
            quota_cpus=None,
            instruction_sets=(),
            l3_bytes=None,
            numa_nodes=None,
        )
        unknown = f"on {self.system} physical cores, core types, instruction sets, caches and NUMA nodes are not probed"
        return Machine(system=self.system, cpu=cpu, memory=memory, notes=(unknown, *notes))


def taken(before: CpuTimes | None, after: CpuTimes | None, own: float) -> tuple[float | None, float | None]:
    """Shares of the CPUs that others and the hypervisor took between two looks, ``own`` being ours; None if unknown."""
    if before is None or after is None or after.total <= before.total:
        return None, None
    ticks = after.total - before.total
    return max(0.0, (after.busy - before.busy) / ticks - own), max(0.0, (after.stolen - before.stolen) / ticks)


def usable_cpus(
    online: Collection[int], allowed: Collection[int] | None, cpuset: Collection[int] | None
) -> tuple[int, ...]:
    """CPUs that are online, allowed by the scheduler and in our cpuset; what leaves none over is not heeded."""
    usable = set(online) or set(allowed or ()) or set(cpuset or ()) or {0}
    for limit in (allowed, cpuset):
        if limit is not None:
            usable = usable & set(limit) or usable
    return tuple(sorted(usable))


def fast_among(usable: Collection[int], fast: Collection[int] | None) -> tuple[int, ...]:
    """The fast CPUs among the usable ones; none where those are all of one type, or it is unknown."""
    chosen = set(usable) & set(fast or ())
    return tuple(sorted(chosen)) if chosen != set(usable) else ()


def reading_threads(cpu: Cpu) -> int:
    """Threads for a measurement: one per physical core, and no more than the quota lets run at once."""
    cores = cpu.physical_cores or len(cpu.logical_cpus) or 1
    return max(1, cores if cpu.quota_cpus is None else min(cores, int(cpu.quota_cpus)))


def read_memory(tree: Tree, limits: Collection[MemoryLimit]) -> tuple[MemoryPool, tuple[str, ...]]:
    """Memory of the system under the limits of control groups, and what was unclear about it."""
    fields = parse_meminfo(tree.read("/proc/meminfo") or "")
    notes: tuple[str, ...] = ()
    if "MemTotal" not in fields:
        notes = ("/proc/meminfo cannot be read: how much memory there is stays unknown and counts as none",)
    elif "MemAvailable" not in fields:
        notes = ("this kernel does not tell available memory: it is estimated from free memory and caches",)
    total = fields.get("MemTotal", 0)
    available, limited_by = min(fields.get("MemAvailable", _estimate_available(fields)), total), "system"
    for limit in limits:
        total = min(total, limit.limit_bytes)
        if limit.room_bytes < available:
            available, limited_by = limit.room_bytes, limit.group
    pool = MemoryPool(
        total_bytes=total, available_bytes=available, limited_by=limited_by, swap_bytes=fields.get("SwapTotal", 0)
    )
    return pool, notes


def _estimate_available(fields: dict[str, Bytes]) -> Bytes:
    """As the kernel did before 3.14 had ``MemAvailable``: free memory and half of the file cache."""
    cache = fields.get("Active(file)", 0) + fields.get("Inactive(file)", 0)
    if not cache:
        cache = max(0, fields.get("Cached", 0) - fields.get("Shmem", 0))
    return fields.get("MemFree", 0) + cache // 2


def _siblings_from(info: CpuInfo, usable: Collection[int]) -> Siblings | None:
    """Cores from /proc/cpuinfo, where sysfs hides them."""
    if not usable or any(number not in info.cores for number in usable):
        return None
    return {
        number: frozenset(other for other, core in info.cores.items() if core == info.cores[number])
        for number in usable
    }


def _cpu_note(usable: Collection[int], online: Collection[int], allowed: Collection[int] | None) -> str:
    if not online:
        return f"neither /proc/cpuinfo nor /sys lists the CPUs: {format_cpulist(usable)} assumed"
    if allowed is not None and not set(usable) <= set(allowed):
        return f"affinity ({format_cpulist(allowed)}) names no CPU that is online; it is not heeded"
    return ""
