"""A machine as its document describes it: what ``bercail machine --json`` wrote elsewhere, read back and checked."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, TypeVar

from bercail.core.errors import UsageError
from bercail.core.link import Link
from bercail.core.machine import Backend, Cpu, Gpu, Machine, MemoryPool, NumaNode

SCHEMA = "bercail.machine/1"
_HINT = "make one with: bercail machine --json > machine.json"

T = TypeVar("T")


def machine_of(document: object) -> Machine:
    """The machine that a ``bercail.machine/1`` document describes.

    Keys that this version does not know are ignored and named in the machine's notes.

    Raises:
        UsageError: it is no such document, or a value is missing, of the wrong kind or out of range.
    """
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise UsageError(f"not a {SCHEMA} document", hint=_HINT)
    unknown: list[str] = []
    machine = _record(Machine, document, "", unknown)
    _in_range(machine)
    more = (f"the capture holds what this version does not know: {', '.join(unknown)}",) if unknown else ()
    return replace(machine, notes=(*machine.notes, *more))


def _in_range(machine: Machine) -> None:
    """Refuse what no machine has.

    Raises:
        UsageError: more is available than there is, there is no CPU, or cores are more than those or none.
    """
    pools: list[tuple[str, MemoryPool | Gpu]] = [("memory", machine.memory)]
    pools += [(f"gpus[{index}]", gpu) for index, gpu in enumerate(machine.gpus)]
    for where, pool in pools:
        if not 0 <= pool.available_bytes <= pool.total_bytes:
            raise _wrong(f"{where}.available_bytes", f"{pool.available_bytes:,} of {pool.total_bytes:,} bytes")
    if not machine.cpu.logical_cpus:
        raise _wrong("cpu.logical_cpus", "there is none")
    for name in ("physical_cores", "performance_cores"):
        cores = getattr(machine.cpu, name)
        if cores is not None and not 1 <= cores <= len(machine.cpu.logical_cpus):
            raise _wrong(f"cpu.{name}", f"{cores} of {len(machine.cpu.logical_cpus)} usable CPUs")


def _wrong(where: str, what: str) -> UsageError:
    return UsageError(f"the capture is wrong at {where}: {what}", hint=_HINT)


def _record(kind: type[T], raw: object, where: str, unknown: list[str]) -> T:
    """A value of the data class ``kind``; unknown keys are added to ``unknown``."""
    if not isinstance(raw, Mapping):
        raise _wrong(where.rstrip("."), "an object is wanted")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # T is one of our data classes
    unknown += [f"{where}{key}" for key in raw if key not in known and key != "schema"]
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            values[name] = _READERS[f"{kind.__name__}.{name}"](raw[name], f"{where}{name}", unknown)
        elif item.default is MISSING:
            raise _wrong(f"{where}{name}", "it is missing")
    return kind(**values)


_Reader = Callable[[object, str, list[str]], object]


def _plain(kind: type, word: str) -> _Reader:
    """Reads a value of one kind; a whole number is a number, too, and no number is a truth value."""

    def read(raw: object, where: str, _: list[str]) -> object:
        wanted = (int, float) if kind is float else (kind,)
        if not isinstance(raw, wanted) or isinstance(raw, bool):
            raise _wrong(where, f"{word} is wanted, not {raw!r}")
        if not isinstance(raw, str) and not 0 <= raw < 1e18:  # type: ignore[operator]  # a number, then
            raise _wrong(where, f"{raw!r} is out of range")
        return raw

    return read


def _or_none(inner: _Reader) -> _Reader:
    return lambda raw, where, unknown: None if raw is None else inner(raw, where, unknown)


def _several(inner: _Reader) -> _Reader:
    def read(raw: object, where: str, unknown: list[str]) -> object:
        if not isinstance(raw, list):
            raise _wrong(where, f"a list is wanted, not {raw!r}")
        return tuple(inner(part, f"{where}[{index}]", unknown) for index, part in enumerate(raw))

    return read


def _one_of(kind: type) -> _Reader:
    return lambda raw, where, unknown: _record(kind, raw, f"{where}.", unknown)


def _backend(raw: object, where: str, _: list[str]) -> object:
    if raw not in tuple(Backend):
        raise _wrong(where, f"{raw!r} is none of {', '.join(Backend)}")
    return Backend(str(raw))


def _flag(raw: object, where: str, _: list[str]) -> object:
    if not isinstance(raw, bool):
        raise _wrong(where, f"true or false is wanted, not {raw!r}")
    return raw


_TEXT, _COUNT, _NUMBER = _plain(str, "text"), _plain(int, "a whole number"), _plain(float, "a number")
_READERS: Mapping[str, _Reader] = {
    "Machine.system": _TEXT,
    "Machine.cpu": _one_of(Cpu),
    "Machine.memory": _one_of(MemoryPool),
    "Machine.gpus": _several(_one_of(Gpu)),
    "Machine.notes": _several(_TEXT),
    "Machine.links": _several(_one_of(Link)),
    "Link.address": _TEXT,
    "Link.maker": _TEXT,
    "Link.lanes": _COUNT,
    "Link.max_lanes": _or_none(_COUNT),
    "Link.max_gt_per_s": _or_none(_NUMBER),
    "Cpu.model_name": _or_none(_TEXT),
    "Cpu.architecture": _TEXT,
    "Cpu.logical_cpus": _several(_COUNT),
    "Cpu.physical_cores": _or_none(_COUNT),
    "Cpu.performance_cores": _or_none(_COUNT),
    "Cpu.quota_cpus": _or_none(_NUMBER),
    "Cpu.instruction_sets": _several(_TEXT),
    "Cpu.l3_bytes": _or_none(_COUNT),
    "Cpu.numa_nodes": _or_none(_COUNT),
    "Cpu.cores": _several(_several(_COUNT)),
    "Cpu.nodes": _several(_one_of(NumaNode)),
    "Cpu.l3_groups": _several(_several(_COUNT)),
    "Cpu.fast_cpus": _several(_COUNT),
    "NumaNode.id": _COUNT,
    "NumaNode.cpus": _several(_COUNT),
    "NumaNode.available_bytes": _or_none(_COUNT),
    "MemoryPool.total_bytes": _COUNT,
    "MemoryPool.available_bytes": _COUNT,
    "MemoryPool.limited_by": _TEXT,
    "MemoryPool.swap_bytes": _COUNT,
    "MemoryPool.bandwidth_bytes_per_s": _or_none(_NUMBER),
    "MemoryPool.bandwidth_doubt": _TEXT,
    "Gpu.name": _TEXT,
    "Gpu.backend": _backend,
    "Gpu.total_bytes": _COUNT,
    "Gpu.available_bytes": _COUNT,
    "Gpu.bandwidth_bytes_per_s": _or_none(_NUMBER),
    "Gpu.device": _TEXT,
    "Gpu.capability": _or_none(_TEXT),
    "Gpu.shared": _flag,
    "Gpu.card": _TEXT,
}
