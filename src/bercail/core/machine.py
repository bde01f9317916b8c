"""The machine: what may be used of it, not what is soldered to it. Unknown is None."""

from dataclasses import dataclass
from enum import StrEnum

from bercail.core.link import Link
from bercail.core.units import Bytes


class Backend(StrEnum):
    """What a GPU is driven by."""

    CUDA = "cuda"
    ROCM = "rocm"
    SYCL = "sycl"
    VULKAN = "vulkan"
    METAL = "metal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A graphics processor with memory of its own.

    Attributes:
        name: as people call it.
        total_bytes: its memory.
        available_bytes: of that, what other programs leave.
        bandwidth_bytes_per_s: of its memory, by its data sheet, or None.
        device: what the engine that sees it calls it, such as ``CUDA0``; empty if none was asked.
        capability: which kernels it can run, as its driver words it (``8.6``, ``gfx1100``), or None.
        shared: its memory is the main memory.
        card: the name under which its memory is counted, the same for all engines that see it; empty if that is the
            name of the device.
    """

    name: str
    backend: Backend
    total_bytes: Bytes
    available_bytes: Bytes
    bandwidth_bytes_per_s: float | None = None
    device: str = ""
    capability: str | None = None
    shared: bool = False
    card: str = ""

    @property
    def number(self) -> int:
        """By which the engine tells it from others of its backend; 0 where there is but one."""
        return int("".join(character for character in self.device if character.isdigit()) or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """CPUs and the memory next to them.

    Attributes:
        id: as the system numbers it.
        cpus: of those that this process may use.
        available_bytes: free memory of the node, its file cache counted as free; None if unknown.
    """

    id: int
    cpus: tuple[int, ...]
    available_bytes: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor as this process may use it.

    Attributes:
        model_name: as the system names it, or None.
        architecture: ``x86_64``, ``aarch64`` ...
        logical_cpus: ids this process may run on (affinity, cpusets), ascending.
        physical_cores: distinct cores behind those ids, SMT siblings counted once; None if the topology is hidden.
        performance_cores: of those, the fast ones of a hybrid processor; None where all are alike or unknown.
        quota_cpus: CPU time allowed by control groups, in CPUs (2.5 = 250 %); None is no limit.
        instruction_sets: the ones that matter for inference, as the kernel names them, sorted; on all CPUs alike.
        l3_bytes: all level-3 caches together, or None.
        numa_nodes: nodes with both CPUs and memory this process may use; None if unknown.
        cores: the usable CPUs of each core, SMT siblings together; empty if that is hidden.
        nodes: these nodes; empty if unknown.
        l3_groups: the usable CPUs of each level-3 cache (a CCX or CCD of AMD's); empty if unknown.
        fast_cpus: of the usable ones, those of performance cores; empty where all are alike or it is unknown.
    """

    model_name: str | None
    architecture: str
    logical_cpus: tuple[int, ...]
    physical_cores: int | None
    performance_cores: int | None
    quota_cpus: float | None
    instruction_sets: tuple[str, ...]
    l3_bytes: Bytes | None
    numa_nodes: int | None
    cores: tuple[tuple[int, ...], ...] = ()
    nodes: tuple[NumaNode, ...] = ()
    l3_groups: tuple[tuple[int, ...], ...] = ()
    fast_cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPool:
    """Main memory under the limits this process lives in.

    Attributes:
        total_bytes: installed, or the control group's limit where that is lower.
        available_bytes: what a new process can take without swapping: the lower of what the system can give and
            what the tightest control group has left (its reclaimable file cache counts as free).
        limited_by: what set ``available_bytes``: ``system`` or the path of the control group.
        swap_bytes: configured swap; never counted as room.
        bandwidth_bytes_per_s: measured reading speed with all usable cores, or None if not measured.
        bandwidth_doubt: what disturbed that measurement, in words; empty if nothing did.
    """

    total_bytes: Bytes
    available_bytes: Bytes
    limited_by: str = "system"
    swap_bytes: Bytes = 0
    bandwidth_bytes_per_s: float | None = None
    bandwidth_doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything the plan may rely on.

    Attributes:
        system: ``Linux``, ``Darwin``, ``Windows``.
        gpus: in the order in which engines number them.
        notes: what could not be read or looks wrong, in words.
        links: of the graphics cards to this machine, as far as it tells; by the cards' addresses, for engines name GPUs
            otherwise.
    """

    system: str
    cpu: Cpu
    memory: MemoryPool
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
