"""What sysfs says of the links of graphics cards (Documentation/ABI/testing/sysfs-bus-pci).

A card may hold bridges of its own: then the link that counts is that of the bridge at its edge, for what lies behind
is wired on the board and tells of itself whatever it likes (Intel's Arc claims one lane of the first generation).
"""

import re
from dataclasses import dataclass
from typing import TypeVar

from bercail.core.link import Link
from bercail.probes.tree import Tree

N = TypeVar("N", int, float)
_DEVICES = "/sys/bus/pci/devices"
_GRAPHICS = ("0x0300", "0x0302", "0x0380", "0x1200")
"""Classes: VGA, 3D and other display controllers, processing accelerators."""
_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_AMD_BRIDGES = frozenset(("0x1478", "0x1479"))
_INTEL = "0x8086"
_MOST_BRIDGES = 2
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SPEED = re.compile(r"(\d+(?:\.\d+)?) GT/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """A device on the way from a card to its root port."""

    address: str
    vendor: str
    device: str
    lanes: int | None
    max_lanes: int | None
    max_gt_per_s: float | None


def read_links(tree: Tree) -> tuple[Link, ...]:
    """The links of all graphics cards, by address; what tells nothing, such as a part of a processor, is left out."""
    found = []
    for address in tree.names(_DEVICES):
        if (tree.read(f"{_DEVICES}/{address}/class") or "").strip()[:6] in _GRAPHICS:
            way = _ADDRESS.findall(tree.real(f"{_DEVICES}/{address}")) or [address]
            link = _link([_hop(tree, place) for place in reversed(way)])
            found += [link] if link else []
    return tuple(found)


def _link(way: list[_Hop]) -> Link | None:
    """The slot's link of the card that comes first on its way to the root port."""
    edge = _edge(way)
    if way[0].vendor == _INTEL and edge == 0:
        return None  # what the card itself says is not true
    card, port = way[edge], way[edge + 1] if edge + 1 < len(way) else None
    if not card.lanes:
        return None
    return Link(
        address=way[0].address,
        maker=_MAKERS.get(way[0].vendor, way[0].vendor),
        lanes=card.lanes,
        max_lanes=_least(card.max_lanes, port.max_lanes if port else None),
        max_gt_per_s=_least(card.max_gt_per_s, port.max_gt_per_s if port else None),
    )


def _edge(way: list[_Hop]) -> int:
    """How many steps from the card its own last bridge is; never the root port, which ends the way."""
    edge = 0
    for hop in way[1:-1]:
        own = hop.device in _AMD_BRIDGES if way[0].vendor == "0x1002" else hop.vendor == way[0].vendor == _INTEL
        if not own or edge == _MOST_BRIDGES:
            break
        edge += 1
    return edge


def _hop(tree: Tree, address: str) -> _Hop:
    def text(name: str) -> str:
        return (tree.read(f"{_DEVICES}/{address}/{name}") or "").strip()

    speed = _SPEED.match(text("max_link_speed"))
    return _Hop(
        address=address, vendor=text("vendor"), device=text("device"), lanes=_lanes(text("current_link_width")),
        max_lanes=_lanes(text("max_link_width")), max_gt_per_s=float(speed[1]) if speed else None,
    )  # fmt: skip


def _lanes(text: str) -> int | None:
    """A width; 0 and 255 stand for none that is known."""
    return int(text) if text.isdecimal() and 0 < int(text) <= 32 else None


def _least(one: N | None, other: N | None) -> N | None:
    return min((value for value in (one, other) if value is not None), default=None)
