"""Engines built for this very machine: what is asked for, and what was made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bercail.core.machine import Machine
from bercail.core.units import GIB, Bytes, Seconds

JOB_BYTES: Bytes = 3 * GIB // 2
"""Memory for each compiler that runs at once: the largest of llama.cpp's units took 1.2 GiB."""


class Target(StrEnum):
    """What a build computes on."""

    CPU = "cpu"
    CUDA = "cuda"
    VULKAN = "vulkan"
    ROCM = "rocm"
    SYCL = "sycl"
    METAL = "metal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A build to be.

    Attributes:
        portable: for every processor of this architecture, with the instructions of each chosen when it starts;
            otherwise for this processor alone.
        processor: what a build that is not portable is for: model and instruction sets, in words.
    """

    target: Target
    portable: bool = False
    processor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """An engine that was built here.

    Attributes:
        id: engine, target and kind, and what else it depends on in eight digits.
        release: of the engine: ``b11549``.
        flags: it was configured with.
        amended: what was changed in its source, a sentence each.
        compiler: that made it, in its own words.
        made_s: when, unix seconds.
        took_s: all of it, the download included.
        folder: with its programs, absolute.
        files: name -> SHA-256, in ``folder``.
        bytes: all files together.
    """

    id: str
    release: str
    recipe: Recipe
    flags: tuple[str, ...]
    compiler: str
    made_s: int
    took_s: Seconds
    folder: str
    bytes: Bytes
    files: Mapping[str, str] = field(default_factory=dict)
    amended: tuple[str, ...] = ()


def recipe_for(machine: Machine, target: Target, *, portable: bool) -> Recipe:
    """The recipe of a build on ``machine``, for its processor unless it is portable."""
    cpu = machine.cpu
    processor = "" if portable else f"{cpu.model_name or cpu.architecture}: {' '.join(cpu.instruction_sets)}"
    return Recipe(target=target, portable=portable, processor=processor)


def compilers_at_once(machine: Machine) -> int:
    """As many as there are CPUs, and memory for."""
    cpu = machine.cpu
    cpus = len(cpu.logical_cpus) if cpu.quota_cpus is None else min(len(cpu.logical_cpus), round(cpu.quota_cpus))
    return max(1, min(cpus, machine.memory.available_bytes // JOB_BYTES))


def named(builds: Sequence[Build], name: str) -> Build | None:
    """The build that ``name`` means: its id, the end or a part of it that no other has, or None."""
    exact = [build for build in builds if build.id == name]
    found = exact or [build for build in builds if name and name in build.id]
    return found[0] if len(found) == 1 else None
