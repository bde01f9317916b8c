"""The link that counts is that of the slot, whatever lies behind the edge of the card."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bercail.core.link import Link
from bercail.probes.pci import read_links
from bercail.probes.tree import Tree

NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"
VEGA = Link(address="0000:03:00.0", maker="AMD", lanes=16, max_lanes=16, max_gt_per_s=8.0)
GPU, BRIDGE = "0x030000", "0x060400"


def hop(
    vendor: str, kind: str, lanes: str, most: str, speed: str = "16.0 GT/s PCIe", device: str = "0x1"
) -> dict[str, str]:
    return {
        "vendor": vendor, "device": device, "class": kind, "current_link_width": lanes, "max_link_width": most,
        "current_link_speed": "2.5 GT/s PCIe", "max_link_speed": speed,
    }  # fmt: skip


def machine(root: Path, *way: Mapping[str, str]) -> Tree:
    """One way through the bus, from the root port to the card."""
    place, names = root / "sys/devices/pci0000:00", root / "sys/bus/pci/devices"
    names.mkdir(parents=True)
    for number, facts in enumerate(way):
        address = f"0000:0{number}:00.0"
        place /= address
        place.mkdir(parents=True)
        for name, text in facts.items():
            (place / name).write_text(text + "\n")
        (names / address).symlink_to(place)
    return Tree(root)


def test_a_riser_is_told_by_the_lanes_in_use_and_an_idle_card_is_not(tmp_path: Path) -> None:
    tree = machine(tmp_path, hop(INTEL, BRIDGE, "1", "16", "8.0 GT/s PCIe"), hop(NVIDIA, GPU, "1", "16"))
    assert read_links(tree) == (
        Link(address="0000:01:00.0", maker="NVIDIA", lanes=1, max_lanes=16, max_gt_per_s=8.0),
    )  # fmt: skip


def test_a_slot_that_is_wired_for_less_is_no_fault_of_the_link(tmp_path: Path) -> None:
    (link,) = read_links(machine(tmp_path, hop(INTEL, BRIDGE, "8", "8"), hop(NVIDIA, GPU, "8", "16")))
    assert not link.is_narrowed
    assert (link.lanes, link.max_lanes) == (8, 8)


def test_behind_bridges_of_amds_cards_the_edge_counts(tmp_path: Path) -> None:
    way = (
        hop(INTEL, BRIDGE, "8", "16"), hop(AMD, BRIDGE, "8", "16", device="0x1478"),
        hop(AMD, BRIDGE, "16", "16", "32.0 GT/s PCIe", "0x1479"), hop(AMD, GPU, "16", "16", "32.0 GT/s PCIe"),
    )  # fmt: skip
    (link,) = read_links(machine(tmp_path, *way))
    assert (link.lanes, link.max_lanes, link.max_gt_per_s) == (8, 16, 16.0)


def test_what_intels_cards_say_of_themselves_is_not_believed(tmp_path: Path) -> None:
    lie = hop(INTEL, GPU, "1", "1", "2.5 GT/s PCIe")
    way = (hop(INTEL, BRIDGE, "8", "16"), hop(INTEL, BRIDGE, "8", "8"), hop(INTEL, BRIDGE, "1", "1"), lie)
    (link,) = read_links(machine(tmp_path / "whole", *way))
    assert (link.lanes, link.max_lanes) == (8, 8)
    assert read_links(machine(tmp_path / "bare", hop(INTEL, BRIDGE, "8", "16"), lie)) == (), "the root port is no edge"


@pytest.mark.parametrize("facts", [hop(NVIDIA, "0x010802", "4", "4"), hop(AMD, GPU, "0", "0"), hop(AMD, GPU, "", "")])
def test_other_devices_and_parts_of_processors_have_no_link(tmp_path: Path, facts: dict[str, str]) -> None:
    assert read_links(machine(tmp_path, facts)) == ()
    assert read_links(Tree(tmp_path / "nothing")) == ()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("amd/vega56/card0/device", VEGA),
        ("intel/b580/card1/device", None),
        ("intel/tigerlake/card0/device", None),
    ],
)  # fmt: skip
def test_recorded_cards_are_read_as_they_were(shared: Path, tmp_path: Path, place: str, expected: Link | None) -> None:
    names = tmp_path / "sys/bus/pci/devices"
    names.mkdir(parents=True)
    folder = shared / "fixtures/machines/lact" / place
    (names / "0000:03:00.0").symlink_to(folder)
    assert read_links(Tree(tmp_path)) == ((expected,) if expected else ())
