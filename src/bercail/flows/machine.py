"""The machine, and how fast its memory is read."""

from collections.abc import Callable
from dataclasses import replace

from bercail.core import news
from bercail.core.errors import StoreError
from bercail.core.machine import Machine
from bercail.ports import House


def glance(house: House) -> Machine:
    """The machine, with the reading speed of its memory if it was measured before."""
    machine = house.prober.probe()
    kept = house.cache.get("bandwidth", house.prober.fingerprint(machine))
    measured = kept.get("bytes_per_s") if kept else None
    return _reading(machine, float(measured)) if isinstance(measured, int | float) else machine


def look(house: House, tell: Callable[[news.News], None]) -> Machine:
    """The machine with the reading speed of its memory, measured once and kept."""
    machine = glance(house)
    if machine.memory.bandwidth_bytes_per_s is not None:
        return machine
    measured = house.prober.measure_bandwidth(machine)
    if measured is None:
        tell(news.Warned(text="memory bandwidth was not measured: too little memory is free"))
        return machine
    try:
        house.cache.put("bandwidth", house.prober.fingerprint(machine), {"bytes_per_s": measured})
    except StoreError as error:
        tell(news.Warned(text=str(error)))
    return _reading(machine, measured)


def _reading(machine: Machine, bytes_per_s: float) -> Machine:
    return replace(machine, memory=replace(machine.memory, bandwidth_bytes_per_s=bytes_per_s))
