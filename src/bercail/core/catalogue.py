"""Machines one does not have, by name: ``4x rtx-3060-12gb + epyc-7302 + 64gib``, ``m4-max-64gb``."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bercail.core.alike import alike
from bercail.core.cards import CARDS, CHIPS, PROCESSORS, Card, Processor
from bercail.core.errors import UsageError
from bercail.core.machine import Backend, Cpu, Gpu, Machine, MemoryPool
from bercail.core.units import GIB, MIB, Bytes, format_bandwidth, format_bytes, parse_bytes

HOST_BYTES: Bytes = 64 * GIB
"""Main memory of a machine that is named without it."""
HOST_CORES = 8
SYSTEM_BYTES: Bytes = 2 * GIB
"""What the system and its services keep for themselves."""
READ_SHARE = 0.8
"""How much of the reading speed of its data sheet main memory reaches when all cores of a socket read."""
_MOST_GPUS = 16
_MOST_SOCKETS = 2

_SEVERAL = re.compile(r"(\d+)\s*x\s*(.+)")
_MEMORY = re.compile(r"(\d[\d.,_]*\s*[kmgt]i?b?)(?:\s*@\s*(\d+(?:\.\d+)?)\s*gb(?:/s|ps|s)?)?")
_CHIP = re.compile(r"(m\d(?:-(?:pro|max|ultra))?)-(\d+)gb")
_HINT = "write it like '4x rtx-3060-12gb + epyc-7302 + 64gib', '256gib@80gb/s' or 'm4-max-64gb'"


@dataclass(slots=True, kw_only=True)
class _Named:
    """What the parts of a text have named so far."""

    gpus: list[Gpu] = field(default_factory=list)
    memory: Bytes | None = None
    speed: float | None = None
    processor: Processor | None = None
    name: str | None = None
    sockets: int = 1


def machine_named(text: str) -> Machine:
    """The machine that ``text`` describes: cards, a processor and main memory joined by ``+``, or a chip of Apple's.

    Raises:
        UsageError: a part is not in the tables and no size of memory, is named twice, or there is too much of it.
    """
    if chip := _CHIP.fullmatch(text.strip().lower()):
        return _apple(text, chip[1], int(chip[2]) * GIB)
    named = _Named()
    for part in (found.strip().lower() for found in text.split("+")):
        if size := _MEMORY.fullmatch(part):
            _take_memory(named, text, part, size)
        else:
            _take_device(named, text, part)
    _check_cards(named.gpus, text)
    return _machine(named)


def with_cards(machine: Machine, text: str) -> Machine:
    """``machine`` with the cards that ``text`` names as well.

    Raises:
        UsageError: it names no card, or something else too, or cards of another maker than those that are there.
    """
    named = _Named(gpus=list(machine.gpus))
    for part in (found.strip().lower() for found in text.split("+")):
        if _MEMORY.fullmatch(part):
            raise UsageError(f"{part!r}: the machine has its own main memory; only cards can be added", hint=_HINT)
        _take_device(named, text, part)
    if named.processor is not None:
        raise UsageError(f"{text!r}: the machine has its own processor; only cards can be added", hint=_HINT)
    _check_cards(named.gpus, text)
    return replace(machine, gpus=tuple(named.gpus))


def _check_cards(gpus: Sequence[Gpu], text: str) -> None:
    if len({gpu.backend for gpu in gpus}) > 1:
        raise UsageError(f"{text!r} mixes cards of different makers; one engine cannot share a model between them")
    if len(gpus) > _MOST_GPUS:
        raise UsageError(f"{text!r} has {len(gpus)} GPUs; at most {_MOST_GPUS} are planned for")


def _take_memory(named: _Named, text: str, part: str, size: re.Match[str]) -> None:
    if named.memory is not None:
        raise UsageError(f"{text!r} names main memory twice", hint=_HINT)
    named.memory = parse_bytes(size[1])
    named.speed = float(size[2]) * 1e9 if size[2] else None
    if named.memory < SYSTEM_BYTES:
        raise UsageError(f"{part!r} is less than the {format_bytes(SYSTEM_BYTES)} of the system", hint=_HINT)


def _take_device(named: _Named, text: str, part: str) -> None:
    """Take cards or processors."""
    several = _SEVERAL.fullmatch(part)
    count, name = (int(several[1]), several[2].strip()) if several else (1, part)
    found = _look_up(name)
    if found in CARDS:
        if not 1 <= count <= _MOST_GPUS:
            raise UsageError(f"{part!r}: 1 to {_MOST_GPUS} cards are planned for", hint=_HINT)
        named.gpus += [_gpu(found, CARDS[found])] * count
        return
    if named.processor is not None:
        raise UsageError(f"{text!r} names two processors; a second socket is written 2x", hint=_HINT)
    if not 1 <= count <= _MOST_SOCKETS:
        raise UsageError(f"{part!r}: 1 or {_MOST_SOCKETS} sockets are planned for", hint=_HINT)
    named.processor, named.name, named.sockets = PROCESSORS[found], found, count


def _look_up(name: str) -> str:
    """The name in the tables that ``name`` means: but for spaces and hyphens the same, or the only one with it.

    Raises:
        UsageError: none, or several.
    """
    plain = {_plain(known): known for known in (*CARDS, *PROCESSORS)}
    wanted = _plain(name)
    if wanted in plain:
        return plain[wanted]
    holding = [known for key, known in plain.items() if len(wanted) >= 2 and wanted in key]
    ending = [known for known in holding if _plain(known).endswith(wanted)]
    for some in (holding, ending):
        if len(some) == 1:
            return some[0]
    if holding:
        raise UsageError(f"{name!r} could be {_listed(holding)}", hint=_HINT)
    near = [plain[key] for key in alike(wanted, plain, most=3)]
    meant = f"did you mean {_listed(near)}?" if near else f"known: {', '.join(plain.values())}"
    raise UsageError(f"no card or processor {name!r} in the tables; {meant}", hint=_HINT)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name)


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)


def _gpu(name: str, card: Card) -> Gpu:
    return Gpu(
        name=name,
        backend=card.backend,
        total_bytes=card.memory_mib * MIB,
        available_bytes=card.memory_mib * MIB,
        bandwidth_bytes_per_s=card.bandwidth_bytes_per_s,
    )


def _machine(named: _Named) -> Machine:
    """The machine of what was named, and what is assumed beside it."""
    host = named.memory or HOST_BYTES
    processor, notes = named.processor, []
    speed = named.speed
    if processor is None:
        notes.append(f"{HOST_CORES} cores with AVX2 are assumed")
    elif speed is None:
        speed = READ_SHARE * processor.bandwidth_bytes_per_s
        one = " of one socket, for an engine gains little from the other" if named.sockets > 1 else ""
        notes.append(
            f"main memory is assumed to read {format_bandwidth(speed)}, {READ_SHARE:.0%} of its data sheet{one}"
        )
    if named.memory is None:
        notes.insert(0, f"main memory was not named: {format_bytes(HOST_BYTES)} are assumed")
    notes.append(f"{format_bytes(SYSTEM_BYTES)} are left to the system")
    cores = processor.cores * named.sockets if processor else HOST_CORES
    memory = MemoryPool(total_bytes=host, available_bytes=host - SYSTEM_BYTES, bandwidth_bytes_per_s=speed)
    cpu = _cpu(named.name, "x86_64", cores, ("avx2",))
    return Machine(system="Linux", cpu=cpu, memory=memory, gpus=tuple(named.gpus), notes=tuple(notes))


def _apple(text: str, chip: str, memory: Bytes) -> Machine:
    """A machine whose GPU works in main memory, on the part of it that its system grants."""
    if chip not in CHIPS:
        raise UsageError(f"no chip {chip!r} in the table; known: {', '.join(CHIPS)}", hint=_HINT)
    cores, gb_per_s = CHIPS[chip]
    granted = memory * (3 if memory > 36 * GIB else 2) // (4 if memory > 36 * GIB else 3)
    rest = memory - granted - SYSTEM_BYTES
    if rest <= 0:
        raise UsageError(f"{text!r} has too little memory to plan for", hint=_HINT)
    gpu = Gpu(
        name=chip, backend=Backend.METAL, total_bytes=memory, available_bytes=granted,
        bandwidth_bytes_per_s=gb_per_s * 1e9,
    )  # fmt: skip
    notes = (
        f"the GPU is assumed to be granted {format_bytes(granted)}, as macOS does by itself",
        f"{format_bytes(SYSTEM_BYTES)} are left to the system",
    )
    pool = MemoryPool(total_bytes=memory, available_bytes=rest, bandwidth_bytes_per_s=gb_per_s * 1e9)
    cpu = _cpu(chip, "aarch64", cores, ("asimddp", "i8mm"))
    return Machine(system="Darwin", cpu=cpu, memory=pool, gpus=(gpu,), notes=notes)


def _cpu(name: str | None, architecture: str, cores: int, sets: Iterable[str]) -> Cpu:
    return Cpu(
        model_name=name,
        architecture=architecture,
        logical_cpus=tuple(range(cores)),
        physical_cores=cores,
        performance_cores=None,
        quota_cpus=None,
        instruction_sets=tuple(sets),
        l3_bytes=None,
        numa_nodes=None,
    )
