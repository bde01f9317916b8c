"""What /proc says about processors and memory."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bercail.core.cpulist import parse_number
from bercail.core.units import KIB, Bytes

# Those that decide which kernels an engine picks (ggml-cpu's variants). x86 names come from the line "flags", Arm
# names from "Features": "sme" is memory encryption on AMD and the matrix extension on Arm.
X86_SETS = frozenset((
    "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
))  # fmt: skip
ARM_SETS = frozenset((
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme", "sme2",
))  # fmt: skip

# MIDR implementer and part of cores that run models; source: Arm's and the makers' technical reference manuals.
_ARM_CORES: Mapping[tuple[int, int], str] = {
    (0x41, 0xD03): "Cortex-A53", (0x41, 0xD05): "Cortex-A55", (0x41, 0xD07): "Cortex-A57", (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76", (0x41, 0xD0C): "Neoverse N1", (0x41, 0xD40): "Neoverse V1",
    (0x41, 0xD49): "Neoverse N2", (0x41, 0xD4F): "Neoverse V2", (0x41, 0xD83): "Neoverse V3AE",
    (0x41, 0xD84): "Neoverse V3", (0x41, 0xD85): "Cortex-X925", (0x41, 0xD87): "Cortex-A725",
    (0x43, 0x0AF): "ThunderX2", (0x46, 0x001): "A64FX", (0x48, 0xD01): "Kunpeng 920",
    (0xC0, 0xAC3): "Ampere-1", (0xC0, 0xAC4): "Ampere-1A",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuInfo:
    """What /proc/cpuinfo tells.

    Attributes:
        model_name: as the kernel names it; on Arm the names of the core types; None if neither is known.
        processors: ids listed, which are those online.
        instruction_sets: the ones that matter and that every processor has, sorted.
        cores: (package, core) of each processor; only of those that tell both.
    """

    model_name: str | None
    processors: tuple[int, ...]
    instruction_sets: tuple[str, ...]
    cores: Mapping[int, tuple[str, str]]


def parse_cpuinfo(text: str) -> CpuInfo:
    """The processors in the text of /proc/cpuinfo; what is missing there is empty or None."""
    blocks = list(_blocks(text))
    processors: set[int] = set()
    cores: dict[int, tuple[str, str]] = {}
    for block in blocks:
        number = parse_number(block.get("processor", ""))
        if number is None:
            continue
        processors.add(number)
        if "physical id" in block and "core id" in block:
            cores[number] = (block["physical id"], block["core id"])
    return CpuInfo(
        model_name=_model_name(blocks),
        processors=tuple(sorted(processors)),
        instruction_sets=_instruction_sets(blocks),
        cores=cores,
    )


def parse_meminfo(text: str) -> dict[str, Bytes]:
    """Fields of /proc/meminfo (or of a node's meminfo) that are sizes, in bytes."""
    found: dict[str, Bytes] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        number = parse_number(words[0]) if len(words) == 2 and words[1] == "kB" else None
        if number is not None and name.split():
            found[name.split()[-1]] = number * KIB
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """What CPUs did since the start, in ticks of the system's clock, all of them together."""

    busy: int
    stolen: int
    total: int


def parse_cpu_times(text: str) -> dict[int, CpuTimes]:
    """The times of each CPU in the text of /proc/stat (proc_stat(5))."""
    found: dict[int, CpuTimes] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        number = parse_number(name.removeprefix("cpu")) if name.startswith("cpu") else None
        numbers = [parse_number(word) for word in rest.split()]
        if number is None or len(numbers) < 8 or None in numbers:
            continue
        user, nice, system, idle, wait, hard, soft, steal = (ticks or 0 for ticks in numbers[:8])
        busy = user + nice + system + hard + soft
        found[number] = CpuTimes(busy=busy, stolen=steal, total=busy + idle + wait + steal)
    return found


def parse_stat(text: str, cpus: Collection[int]) -> CpuTimes | None:
    """The times of ``cpus`` together in the text of /proc/stat; None if it tells none of them."""
    rows = [times for cpu, times in parse_cpu_times(text).items() if cpu in cpus]
    busy, stolen, total = (sum(getattr(row, name) for row in rows) for name in ("busy", "stolen", "total"))
    return CpuTimes(busy=busy, stolen=stolen, total=total) if total else None


def parse_loadavg(text: str) -> tuple[float, ...]:
    """The three loads in the text of /proc/loadavg; empty if they are not there."""
    words = text.split()[:3]
    try:
        return tuple(float(word) for word in words) if len(words) == 3 else ()
    except ValueError:
        return ()


def parse_net_dev(text: str) -> dict[str, tuple[Bytes, Bytes]]:
    """Bytes received and sent by each interface in the text of /proc/net/dev, but for the loopback."""
    found: dict[str, tuple[Bytes, Bytes]] = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        words = rest.split()
        received, sent = (parse_number(words[index]) for index in (0, 8)) if len(words) > 8 else (None, None)
        if colon and received is not None and sent is not None and name.strip() != "lo":
            found[name.strip()] = received, sent
    return found


def _blocks(text: str) -> Iterator[dict[str, str]]:
    block: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not line.strip():
            if block:
                yield block
            block = {}
        elif colon:
            block.setdefault(key.strip(), value.strip())
    if block:
        yield block


def _instruction_sets(blocks: list[dict[str, str]]) -> tuple[str, ...]:
    common: frozenset[str] | None = None
    for block in blocks:
        if "flags" in block:
            own = X86_SETS.intersection(block["flags"].split())
        elif "Features" in block:
            own = ARM_SETS.intersection(block["Features"].split())
        else:
            continue
        common = own if common is None else common & own
    return tuple(sorted(common or ()))


def _model_name(blocks: list[dict[str, str]]) -> str | None:
    names: dict[str, None] = {}
    for block in blocks:
        name = block.get("model name") or block.get("cpu") or _arm_core(block)
        if name:
            names[name] = None
    if not names:
        names = {block["Hardware"]: None for block in blocks if block.get("Hardware")}
    return " + ".join(names) or None


def _arm_core(block: dict[str, str]) -> str | None:
    implementer, part = _hexadecimal(block.get("CPU implementer", "")), _hexadecimal(block.get("CPU part", ""))
    return None if implementer is None or part is None else _ARM_CORES.get((implementer, part))


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16) if len(text) <= 6 else None
    except ValueError:
        return None
