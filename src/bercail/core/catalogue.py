"""Machines one does not have, by name: ``4x rtx-3060-12gb + 64gib``.

Memory and bus are those of the makers' data sheets; the reading speed follows from them (width in bits times the data
rate of a pin, by eight), so every row can be checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from bercail.core.errors import UsageError
from bercail.core.machine import Backend, Cpu, Gpu, Machine, MemoryPool
from bercail.core.units import GIB, MIB, Bytes, format_bytes, parse_bytes

HOST_BYTES: Bytes = 64 * GIB
"""Main memory of a machine that is named without it."""
HOST_CORES = 8
SYSTEM_BYTES: Bytes = 2 * GIB
"""What the system and its services keep for themselves."""
_MOST_GPUS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A graphics card.

    Attributes:
        memory_mib: as the driver counts it.
        bus_bits: width of the memory bus.
        gbit_per_pin: data rate of the memory, Gbit/s.
    """

    backend: Backend
    memory_mib: int
    bus_bits: int
    gbit_per_pin: float

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Reading speed of its memory by the data sheet."""
        return self.bus_bits * self.gbit_per_pin * 1e9 / 8


def _card(backend: Backend, memory_gib: float, bus_bits: int, gbit_per_pin: float) -> Card:
    return Card(backend=backend, memory_mib=int(memory_gib * 1024), bus_bits=bus_bits, gbit_per_pin=gbit_per_pin)


CARDS: Mapping[str, Card] = {
    "rtx-2080-super": _card(Backend.CUDA, 8, 256, 15.5),
    "rtx-3060-8gb": _card(Backend.CUDA, 8, 128, 15),
    "rtx-3060-12gb": _card(Backend.CUDA, 12, 192, 15),
    "rtx-3080-10gb": _card(Backend.CUDA, 10, 320, 19),
    "rtx-3080-12gb": _card(Backend.CUDA, 12, 384, 19),
    "rtx-3090": _card(Backend.CUDA, 24, 384, 19.5),
    "rtx-4080-super": _card(Backend.CUDA, 16, 256, 23),
    "rtx-4090": _card(Backend.CUDA, 24, 384, 21),
    "rtx-5090": _card(Backend.CUDA, 32, 512, 28),
    "h100": _card(Backend.CUDA, 79.6, 5120, 5.24),
    "h200": _card(Backend.CUDA, 140.4, 6144, 6.4),
    "rx-7900-xt": _card(Backend.ROCM, 20, 320, 20),
    "rx-7900-xtx": _card(Backend.ROCM, 24, 384, 20),
    "rx-9070-xt": _card(Backend.ROCM, 16, 256, 20),
    "arc-b580": _card(Backend.SYCL, 12, 192, 19),
    "arc-pro-b60": _card(Backend.SYCL, 24, 192, 19),
    "arc-pro-b70": _card(Backend.SYCL, 32, 256, 19),
}

_SEVERAL = re.compile(r"(\d+)\s*x\s*(.+)")


def machine_named(text: str) -> Machine:
    """The machine that ``text`` describes: cards, and main memory if it is named, joined by ``+``.

    Raises:
        UsageError: a part is neither a card of the table nor a size of memory, or there are too many cards.
    """
    gpus: list[Gpu] = []
    host: Bytes | None = None
    for part in (found.strip().lower() for found in text.split("+")):
        if part[:1].isdigit() and not _SEVERAL.fullmatch(part):
            if host is not None:
                raise UsageError(f"{text!r} names main memory twice", hint=_HINT)
            host = parse_bytes(part)
            if host < SYSTEM_BYTES:
                raise UsageError(f"{part!r} is less than the {format_bytes(SYSTEM_BYTES)} of the system", hint=_HINT)
            continue
        gpus += _gpus(part)
    if len({gpu.backend for gpu in gpus}) > 1:
        raise UsageError(f"{text!r} mixes cards of different makers; one engine cannot share a model between them")
    if len(gpus) > _MOST_GPUS:
        raise UsageError(f"{text!r} has {len(gpus)} GPUs; at most {_MOST_GPUS} are planned for")
    notes = () if host else (f"main memory was not named: {format_bytes(HOST_BYTES)} are assumed",)
    return _machine(tuple(gpus), host or HOST_BYTES, notes)


_HINT = "write it like '4x rtx-3060-12gb + 64gib'"


def _gpus(part: str) -> list[Gpu]:
    several = _SEVERAL.fullmatch(part)
    count, name = (int(several[1]), several[2].strip()) if several else (1, part)
    card = CARDS.get(name)
    if card is None:
        near = get_close_matches(name, CARDS, n=1)
        meant = f"did you mean {near[0]}?" if near else "known: " + ", ".join(CARDS)
        raise UsageError(f"no card {name!r} in the table; {meant}", hint=_HINT)
    if not 1 <= count <= _MOST_GPUS:
        raise UsageError(f"{part!r}: 1 to {_MOST_GPUS} cards are planned for", hint=_HINT)
    one = Gpu(
        name=name,
        backend=card.backend,
        total_bytes=card.memory_mib * MIB,
        available_bytes=card.memory_mib * MIB,
        bandwidth_bytes_per_s=card.bandwidth_bytes_per_s,
    )
    return [one] * count


def _machine(gpus: tuple[Gpu, ...], host: Bytes, notes: tuple[str, ...]) -> Machine:
    cpu = Cpu(
        model_name=None,
        architecture="x86_64",
        logical_cpus=tuple(range(HOST_CORES)),
        physical_cores=HOST_CORES,
        performance_cores=None,
        quota_cpus=None,
        instruction_sets=(),
        l3_bytes=None,
        numa_nodes=None,
    )
    memory = MemoryPool(total_bytes=host, available_bytes=max(0, host - SYSTEM_BYTES))
    assumed = f"{HOST_CORES} cores are assumed, and {format_bytes(SYSTEM_BYTES)} for the system"
    return Machine(system="Linux", cpu=cpu, memory=memory, gpus=gpus, notes=(*notes, assumed))
