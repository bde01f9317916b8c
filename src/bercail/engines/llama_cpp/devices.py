"""What ``llama-server --list-devices`` says -> GPUs. Pure.

Its lines are ``  CUDA0: NVIDIA GeForce RTX 3090 (24135 MiB, 23871 MiB free)``; what backends log before them tells
which kernels a card can run, and whether its memory is the machine's.
"""

import re
from collections.abc import Mapping

from bercail.core.build import Target
from bercail.core.devices import data_sheet_speed, is_software, shares_memory
from bercail.core.machine import Backend, Gpu
from bercail.core.units import MIB

_LISTED = re.compile(r"\s+(CUDA|ROCm|SYCL|Vulkan|MTL|Metal)(\d*): (.+) \((\d+) MiB, (\d+) MiB free\)\s*$")
_BACKENDS = {
    "CUDA": Backend.CUDA, "ROCm": Backend.ROCM, "SYCL": Backend.SYCL, "Vulkan": Backend.VULKAN, "MTL": Backend.METAL,
    "Metal": Backend.METAL,
}  # fmt: skip
_CAPABILITY = re.compile(r"\bDevice (\d+): .+?, (?:compute capability ([\d.]+)|(gfx\w+))")
_UNIFIED = re.compile(r"ggml_vulkan: (\d+) = .*\| uma: (\d)")
_HEADING = "Available devices:"
DEVICE_VERBOSITY = "5"
"""At which Vulkan tells whose memory it is, before the list."""
HINTS: Mapping[str, str] = {
    Target.CPU: "", Target.CUDA: "`nvidia-smi` tells of the driver", Target.ROCM: "may /dev/kfd be opened?",
    Target.SYCL: "`sycl-ls` tells of the driver", Target.VULKAN: "`vulkaninfo --summary` tells of the driver",
    Target.METAL: "",
}  # fmt: skip
"""Where to look when a build sees nothing."""


def parse_devices(text: str) -> tuple[Gpu, ...] | None:
    """The GPUs that a build lists, in its order; None if this is no list. Those that tell of no memory are left out."""
    if _HEADING not in text:
        return None
    lines = text.splitlines()
    kernels = {found[1]: found[2] or found[3] for line in lines if (found := _CAPABILITY.search(line))}
    unified = {found[1]: found[2] == "1" for line in lines if (found := _UNIFIED.search(line))}
    return tuple(_gpu(found, kernels, unified) for line in lines if (found := _LISTED.match(line)) and int(found[4]))


def silent_devices(text: str) -> tuple[str, ...]:
    """Names of devices that are listed and tell of no memory: nothing can be planned for them."""
    return tuple(
        f"{found[1]}{found[2]} ({found[3]})"
        for line in text.splitlines()
        if (found := _LISTED.match(line)) and not int(found[4])
    )


def _gpu(found: re.Match[str], kernels: dict[str, str], unified: dict[str, bool]) -> Gpu:
    prefix, number, name = found[1], found[2], found[3].strip()
    total, free = int(found[4]) * MIB, int(found[5]) * MIB
    own_word = unified.get(number) if prefix == "Vulkan" else None
    return Gpu(
        name=name,
        backend=_BACKENDS[prefix],
        total_bytes=total,
        available_bytes=min(free, total),
        bandwidth_bytes_per_s=data_sheet_speed(name, total),
        device=f"{prefix}{number}",
        capability=kernels.get(number) if prefix in ("CUDA", "ROCm") else None,
        shared=shares_memory(name) if own_word is None else own_word or is_software(name),
    )
