"""The machine at one moment, from /proc and, of AMD's cards, from /sys."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bercail.core.cpulist import parse_number
from bercail.core.sample import CardSample, Sample, Traffic
from bercail.core.units import Bytes, Seconds
from bercail.probes.local import read_memory
from bercail.probes.procfs import CpuTimes, parse_cpu_times, parse_loadavg, parse_meminfo, parse_net_dev
from bercail.probes.tree import Tree

_DRM = "/sys/class/drm"


class SystemSampler:
    """Implements ``ports.Sampler``; each sample tells what CPUs did since the one before.

    Args:
        fsroot: where ``/proc`` and ``/sys`` are found.
        wall: unix seconds.
    """

    def __init__(self, fsroot: str | Path = "/", wall: Callable[[], Seconds] = time.time) -> None:
        self._fsroot = fsroot
        self._wall = wall
        self._before: Mapping[int, CpuTimes] = {}

    def take(self) -> Sample:
        """The machine now."""
        tree = Tree(self._fsroot)
        times = parse_cpu_times(tree.read("/proc/stat") or "")
        busy = tuple(_busy(self._before[cpu], now) for cpu, now in times.items() if cpu in self._before)
        self._before = times
        fields = parse_meminfo(tree.read("/proc/meminfo") or "")
        memory, _ = read_memory(tree, ())
        return Sample(
            at_s=self._wall(),
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
            cards=_cards(tree),
        )


def _busy(before: CpuTimes, now: CpuTimes) -> float:
    ticks = now.total - before.total
    return min(1.0, max(0.0, (now.busy - before.busy) / ticks)) if ticks > 0 else 0.0


def _cards(tree: Tree) -> tuple[CardSample, ...]:
    found = []
    for name in tree.names(_DRM):
        number = parse_number(name.removeprefix("card")) if name.startswith("card") else None
        total = _number(tree, f"{_DRM}/{name}/device/mem_info_vram_total")
        if number is not None and total is not None:
            found.append(_card(tree, f"{_DRM}/{name}/device", number, total))
    return tuple(found)


def _card(tree: Tree, place: str, number: int, total: Bytes) -> CardSample:
    busy = _number(tree, f"{place}/gpu_busy_percent")
    watcher = next((f"{place}/hwmon/{name}" for name in tree.names(f"{place}/hwmon")), f"{place}/hwmon")
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
