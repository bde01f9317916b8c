"""The machine at one moment, from /proc; its graphics cards from /sys, and NVIDIA's by asking their own program."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bercail.core.cpulist import parse_number
from bercail.core.sample import CardSample, Sample, Traffic
from bercail.core.units import Bytes, Seconds
from bercail.probes.local import read_memory
from bercail.probes.nvidia import Told
from bercail.probes.procfs import CpuTimes, parse_cpu_times, parse_loadavg, parse_meminfo, parse_net_dev
from bercail.probes.tree import Tree

_DRM = "/sys/class/drm"
_NVIDIA, _INTEL = "0x10de", "0x8086"
"""Vendors as PCI numbers them."""
_INTEL_UNREAD = "Intel's drivers tell neither load nor memory of a card in /sys"


class SystemSampler:
    """Implements ``ports.Sampler``; each sample tells what CPUs did since the one before.

    Args:
        fsroot: where ``/proc`` and ``/sys`` are found.
        wall: unix seconds.
        nvidia: tells of NVIDIA's cards; None asks nobody.
    """

    def __init__(
        self,
        fsroot: str | Path = "/",
        wall: Callable[[], Seconds] = time.time,
        nvidia: Callable[[], Told] | None = None,
    ) -> None:
        self._fsroot = fsroot
        self._wall = wall
        self._nvidia = nvidia
        self._energy: dict[int, tuple[Seconds, int]] = {}
        self._before: Mapping[int, CpuTimes] = {}

    def take(self) -> Sample:
        """The machine now."""
        tree = Tree(self._fsroot)
        times = parse_cpu_times(tree.read("/proc/stat") or "")
        busy = tuple(_busy(self._before[cpu], now) for cpu, now in times.items() if cpu in self._before)
        self._before = times
        fields = parse_meminfo(tree.read("/proc/meminfo") or "")
        memory, _ = read_memory(tree, ())
        at_s = self._wall()
        cards, unread = self._cards(tree, at_s)
        return Sample(
            at_s=at_s,
            busy=busy,
            memory_bytes=memory.total_bytes,
            available_bytes=memory.available_bytes,
            swap_bytes=memory.swap_bytes,
            swap_free_bytes=fields.get("SwapFree", 0),
            load=parse_loadavg(tree.read("/proc/loadavg") or ""),
            traffic=tuple(
                Traffic(name=name, received_bytes=received, sent_bytes=sent)
                for name, (received, sent) in parse_net_dev(tree.read("/proc/net/dev") or "").items()
            ),
            cards=cards,
            unread=unread,
        )

    def _cards(self, tree: Tree, at_s: Seconds) -> tuple[tuple[CardSample, ...], tuple[str, ...]]:
        """All graphics cards, and what is not known of them; NVIDIA's are numbered after the others."""
        numbered = _numbered(tree)
        vendors = {number: (tree.read(f"{place}/vendor") or "").strip() for number, place in numbered.items()}
        found = list(_cards_of_amd(tree, numbered))
        intel = {number: place for number, place in numbered.items() if vendors[number] == _INTEL}
        found += [self._card_of_intel(tree, place, number, at_s) for number, place in intel.items()]
        told = Told() if self._nvidia is None else self._nvidia()
        after = max((card.number + 1 for card in found), default=0)
        found += [replace(card, number=card.number + after) for card in told.cards]
        there = _NVIDIA in vendors.values() or tree.has_folder("/proc/driver/nvidia")
        unread = (*((_INTEL_UNREAD,) if intel else ()), *((told.unread,) if told.unread and there else ()))
        return tuple(found), unread

    def _card_of_intel(self, tree: Tree, place: str, number: int, at_s: Seconds) -> CardSample:
        """Its temperature, and the power since the sample before; cards in a processor have neither of their own."""
        watcher = _watcher(tree, place)
        degrees = _first(tree, watcher, "temp1_input", "temp2_input")
        energy = _first(tree, watcher, "energy1_input", "energy2_input")
        power = None
        if energy is not None:
            since_s, before = self._energy.get(number, (at_s, energy))
            power = (energy - before) / (at_s - since_s) / 1_000_000 if at_s > since_s and energy > before else None
            self._energy[number] = (at_s, energy)
        return CardSample(
            number=number, name="Intel", busy=None, used_bytes=None, total_bytes=None,
            celsius=None if degrees is None else degrees / 1000, power_w=power,
        )  # fmt: skip


def _busy(before: CpuTimes, now: CpuTimes) -> float:
    ticks = now.total - before.total
    return min(1.0, max(0.0, (now.busy - before.busy) / ticks)) if ticks > 0 else 0.0


def _numbered(tree: Tree) -> dict[int, str]:
    """Graphics cards by their number: the folders of their devices."""
    numbers = {name: parse_number(name.removeprefix("card")) for name in tree.names(_DRM) if name.startswith("card")}
    return {number: f"{_DRM}/{name}/device" for name, number in numbers.items() if number is not None}


def _cards_of_amd(tree: Tree, numbered: Mapping[int, str]) -> Iterator[CardSample]:
    for number, place in numbered.items():
        total = _number(tree, f"{place}/mem_info_vram_total")
        if total is not None:
            yield _card(tree, place, number, total)


def _watcher(tree: Tree, place: str) -> str:
    """Where the sensors of a device are."""
    return next((f"{place}/hwmon/{name}" for name in tree.names(f"{place}/hwmon")), f"{place}/hwmon")


def _first(tree: Tree, folder: str, *names: str) -> int | None:
    """The first that tells more than 0: the energy of a card may stand still at 0 while that of its chip counts."""
    return next(filter(None, (_number(tree, f"{folder}/{name}") for name in names)), None)


def _card(tree: Tree, place: str, number: int, total: Bytes) -> CardSample:
    busy = _number(tree, f"{place}/gpu_busy_percent")
    watcher = _watcher(tree, place)
    degrees, power = _number(tree, f"{watcher}/temp1_input"), _number(tree, f"{watcher}/power1_average")
    return CardSample(
        number=number,
        name=(tree.read(f"{place}/product_name") or "").strip() or "AMD",
        busy=None if busy is None else busy / 100,
        used_bytes=_number(tree, f"{place}/mem_info_vram_used"),
        total_bytes=total,
        celsius=None if degrees is None else degrees / 1000,
        power_w=None if power is None else power / 1_000_000,
    )


def _number(tree: Tree, path: str) -> int | None:
    return parse_number((tree.read(path) or "").strip())
