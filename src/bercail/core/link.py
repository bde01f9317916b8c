"""How a graphics card is tied to the machine: lanes and speed of its slot, and which of it tells of something wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

FEW_LANES = 4
"""Of an old generation that is 4 GB/s; what is split in slices sends each layer's results over them for every token."""
_GENERATIONS = {2.5: "1.0", 5.0: "2.0", 8.0: "3.0", 16.0: "4.0", 32.0: "5.0", 64.0: "6.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The link between a card and the port it is plugged into. Unknown is None.

    Attributes:
        address: of the card on the PCI bus.
        maker: who makes it, or its vendor's number.
        lanes: in use now.
        max_lanes: that both ends could use.
        max_gt_per_s: transfers per second and lane, in thousands of millions, that both ends could do. What they do now
            says nothing: idle cards slow their link down.
    """

    address: str
    maker: str
    lanes: int
    max_lanes: int | None = None
    max_gt_per_s: float | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether it uses fewer lanes than both ends could."""
        return self.max_lanes is not None and self.lanes < self.max_lanes

    @property
    def text(self) -> str:
        """It in words, with what is wrong with it."""
        generation = _GENERATIONS.get(self.max_gt_per_s or 0.0)
        kind = f"PCIe {generation}" if generation else "PCIe"
        if not self.is_narrowed:
            return f"{self.maker} card at {self.address}: {kind} x{self.lanes}"
        return (
            f"{self.maker} card at {self.address}: {kind}, ONLY {self.lanes} OF {self.max_lanes} LANES in use: "
            "see how it sits in its slot, its riser, and what shares its lanes"
        )


def too_slow_for_slices(links: Sequence[Link]) -> str:
    """Why a split in slices may be slower than one in whole layers here, in words; empty if nothing says so."""
    slow = [link for link in links if link.is_narrowed or link.lanes <= FEW_LANES]
    cards = ", ".join(f"{link.address} (x{link.lanes})" for link in slow)
    return f"every layer's results go over the links of all cards, and some are narrow: {cards}" if slow else ""
