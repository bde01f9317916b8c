"""Engines and orders of weights that benchmarks try, and prompts for them."""

from collections.abc import Iterator
from pathlib import Path

from bercail.core.choice import compared
from bercail.core.engine import Make
from bercail.core.model import Model
from bercail.flows import glance
from bercail.flows.prepare import Prepared
from bercail.ports import House
from tools.synth.__main__ import write_random
from tools.synth.mix import quantized
from tools.synth.shapes import husk

WARM, STOP_S = 32, 10.0


class Nowhere:
    """A cache that keeps nothing but the machine's reading speed."""

    def __init__(self, house: House) -> None:
        self._kept = house.cache

    def get(self, kind: str, key: str) -> dict[str, object] | None:
        """What was kept of the machine."""
        return self._kept.get(kind, key) if kind in ("bandwidth", "template") else None

    def put(self, kind: str, key: str, value: dict[str, object]) -> None:
        """Nothing is kept."""


def variants(house: House) -> Iterator[tuple[str, bool]]:
    for offer in compared([engine.offer for engine in house.engines], glance(house)):
        if offer.make is not Make.LIBRARY:  # it has an order of its own, and takes few of the files
            yield offer.id, True
            yield offer.id, False


def write_husk(model: Model, path: Path) -> None:
    """A model whose saved slots `model` takes, at `path`: a fast way to a full context, whose text does not matter."""
    shape = model.shape
    known = husk(shape.layers, shape.kv_heads[0], shape.key_length, shape.vocabulary)
    write_random(path, known.metadata, quantized(known.tensors, "Q8_0", layers=shape.layers))


def words(prepared: Prepared, turn: int, count: int) -> list[int]:
    """Token ids of a turn's own."""
    return [(turn * 7919 + index * 31 + 300) % prepared.model.shape.vocabulary for index in range(count)]
