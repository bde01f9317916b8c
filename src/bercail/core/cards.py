"""Data sheets: graphics cards, processors and Apple's chips, by the names people use.

Memory and its bus are those of the makers; the reading speed follows from them (width in bits times data rate, by
eight), so that every row can be checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bercail.core.machine import Backend


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A processor with all of its memory channels filled.

    Attributes:
        cores: physical ones of one socket.
        channels: of 64 bits.
        mega_transfers: of each channel, per second.
    """

    cores: int
    channels: int
    mega_transfers: int

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Reading speed of the memory of one socket by the data sheet."""
        return self.channels * 8 * self.mega_transfers * 1e6


def _card(backend: Backend, memory_gib: float, bus_bits: int, gbit_per_pin: float) -> Card:
    return Card(backend=backend, memory_mib=int(memory_gib * 1024), bus_bits=bus_bits, gbit_per_pin=gbit_per_pin)


def _processor(cores: int, channels: int, mega_transfers: int) -> Processor:
    return Processor(cores=cores, channels=channels, mega_transfers=mega_transfers)


CARDS: Mapping[str, Card] = {
    "gtx-1080-ti": _card(Backend.CUDA, 11, 352, 11),
    "rtx-2080-super": _card(Backend.CUDA, 8, 256, 15.5),
    "rtx-2080-ti": _card(Backend.CUDA, 11, 352, 14),
    "rtx-3060-8gb": _card(Backend.CUDA, 8, 128, 15),
    "rtx-3060-12gb": _card(Backend.CUDA, 12, 192, 15),
    "rtx-3070": _card(Backend.CUDA, 8, 256, 14),
    "rtx-3080-10gb": _card(Backend.CUDA, 10, 320, 19),
    "rtx-3080-12gb": _card(Backend.CUDA, 12, 384, 19),
    "rtx-3090": _card(Backend.CUDA, 24, 384, 19.5),
    "rtx-3090-ti": _card(Backend.CUDA, 24, 384, 21),
    "rtx-4060": _card(Backend.CUDA, 8, 128, 17),
    "rtx-4060-ti-8gb": _card(Backend.CUDA, 8, 128, 18),
    "rtx-4060-ti-16gb": _card(Backend.CUDA, 16, 128, 18),
    "rtx-4070": _card(Backend.CUDA, 12, 192, 21),
    "rtx-4070-ti-super": _card(Backend.CUDA, 16, 256, 21),
    "rtx-4080": _card(Backend.CUDA, 16, 256, 22.4),
    "rtx-4080-super": _card(Backend.CUDA, 16, 256, 23),
    "rtx-4090": _card(Backend.CUDA, 24, 384, 21),
    "rtx-5060-ti-16gb": _card(Backend.CUDA, 16, 128, 28),
    "rtx-5070": _card(Backend.CUDA, 12, 192, 28),
    "rtx-5070-ti": _card(Backend.CUDA, 16, 256, 28),
    "rtx-5080": _card(Backend.CUDA, 16, 256, 30),
    "rtx-5090": _card(Backend.CUDA, 32, 512, 28),
    "rtx-a6000": _card(Backend.CUDA, 48, 384, 16),
    "rtx-6000-ada": _card(Backend.CUDA, 48, 384, 20),
    "rtx-pro-6000": _card(Backend.CUDA, 96, 512, 28),
    "tesla-p40": _card(Backend.CUDA, 24, 384, 7.2),
    "tesla-t4": _card(Backend.CUDA, 15, 256, 10),
    "l4": _card(Backend.CUDA, 22.5, 192, 12.5),
    "l40s": _card(Backend.CUDA, 45, 384, 18),
    "a100-40gb": _card(Backend.CUDA, 40, 5120, 2.43),
    "a100-80gb": _card(Backend.CUDA, 80, 5120, 3.19),
    "h100": _card(Backend.CUDA, 79.6, 5120, 5.24),
    "h200": _card(Backend.CUDA, 140.4, 6144, 6.4),
    "rx-7900-xt": _card(Backend.ROCM, 20, 320, 20),
    "rx-7900-xtx": _card(Backend.ROCM, 24, 384, 20),
    "rx-9070-xt": _card(Backend.ROCM, 16, 256, 20),
    "arc-b580": _card(Backend.SYCL, 12, 192, 19),
    "arc-pro-b60": _card(Backend.SYCL, 24, 192, 19),
    "arc-pro-b70": _card(Backend.SYCL, 32, 256, 19),
}

PROCESSORS: Mapping[str, Processor] = {
    "n100": _processor(4, 1, 4800),
    "ryzen-5600": _processor(6, 2, 3200),
    "ryzen-5800x": _processor(8, 2, 3200),
    "ryzen-7950x": _processor(16, 2, 5200),
    "ryzen-9950x": _processor(16, 2, 5600),
    "ryzen-ai-max-395": _processor(16, 4, 8000),
    "threadripper-7980x": _processor(64, 4, 5200),
    "epyc-7302": _processor(16, 8, 3200),
    "epyc-7763": _processor(64, 8, 3200),
    "epyc-9354": _processor(32, 12, 4800),
    "epyc-9654": _processor(96, 12, 4800),
    "epyc-9755": _processor(128, 12, 6000),
    "xeon-e5-2690-v4": _processor(14, 4, 2400),
    "xeon-gold-6248": _processor(20, 6, 2933),
    "xeon-platinum-8380": _processor(40, 8, 3200),
    "xeon-platinum-8480": _processor(56, 8, 4800),
    "xeon-6980p": _processor(128, 12, 6400),
}

CHIPS: Mapping[str, tuple[int, float]] = {
    "m1": (8, 68.25), "m1-pro": (10, 204.8), "m1-max": (10, 409.6), "m1-ultra": (20, 819.2),
    "m2": (8, 102.4), "m2-pro": (12, 204.8), "m2-max": (12, 409.6), "m2-ultra": (24, 819.2),
    "m3": (8, 102.4), "m3-pro": (12, 153.6), "m3-max": (16, 409.6), "m3-ultra": (32, 819.2),
    "m4": (10, 120.0), "m4-pro": (14, 273.1), "m4-max": (16, 546.1),
}  # fmt: skip
"""Cores and the reading speed of the memory in GB/s, of the largest variant of each of Apple's chips."""
