"""What builds list as their GPUs, as recorded, and what is made of it."""

import pytest

from bercail.core.machine import Backend
from bercail.core.units import MIB
from bercail.engines.llama_cpp.devices import parse_devices, silent_devices

CUDA = """\
ggml_cuda_init: found 2 CUDA devices (Total VRAM: 36044 MiB):
  Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes, VRAM: 24135 MiB
0.00.100.001 I   Device 1: NVIDIA GeForce GTX 1080 Ti, compute capability 6.1, VMM: yes, VRAM: 11165 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 3090 (24135 MiB, 23871 MiB free)
  CUDA1: NVIDIA GeForce GTX 1080 Ti (11165 MiB, 12000 MiB free)
"""
ROCM = """\
ggml_cuda_init: found 1 ROCm devices (Total VRAM: 24560 MiB):
  Device 0: AMD Radeon RX 7900 XTX, gfx1100 (0x1100), VMM: no, Wave Size: 32, VRAM: 24560 MiB
Available devices:
  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24000 MiB free)
"""
VULKAN = """\
ggml_vulkan: Found 3 Vulkan devices:
ggml_vulkan: 0 = AMD Radeon RX 6800 (RADV NAVI21) (radv) | uma: 0 | fp16: 1 | bf16: 0 | warp size: 32
0.00.109.996 D ggml_vulkan: 1 = Some New Thing (radv) | uma: 1 | fp16: 1 | bf16: 0 | warp size: 64
0.00.109.997 D ggml_vulkan: 2 = llvmpipe (LLVM 15.0.6, 256 bits) (llvmpipe) | uma: 0 | fp16: 1 | warp size: 8
Available devices:
  BLAS: OpenBLAS (0 MiB, 0 MiB free)
  Vulkan0: AMD Radeon RX 6800 (RADV NAVI21) (16368 MiB, 15000 MiB free)
  Vulkan1: Some New Thing (32000 MiB, 20000 MiB free)
  Vulkan2: llvmpipe (LLVM 15.0.6, 256 bits) (2048 MiB, 2048 MiB free)
"""


def test_cards_are_read_with_what_they_can_run() -> None:
    first, second = parse_devices(CUDA) or ()
    assert (first.device, first.number, first.name) == ("CUDA0", 0, "NVIDIA GeForce RTX 3090")
    assert (first.backend, first.capability, first.shared) == (Backend.CUDA, "8.6", False)
    assert (first.total_bytes, first.available_bytes) == (24135 * MIB, 23871 * MIB)
    assert first.bandwidth_bytes_per_s == 936e9
    assert (second.number, second.capability) == (1, "6.1")
    assert second.available_bytes == second.total_bytes  # no more is free than there is


def test_amds_kernels_go_by_their_architecture() -> None:
    (card,) = parse_devices(ROCM) or ()
    assert (card.backend, card.device, card.capability) == (Backend.ROCM, "ROCm0", "gfx1100")


def test_vulkan_tells_whose_memory_it_is_and_what_is_no_gpu_is_left_out() -> None:
    card, inside, played = parse_devices(VULKAN) or ()
    assert (card.device, card.shared, card.capability) == ("Vulkan0", False, None)
    assert (inside.device, inside.shared) == ("Vulkan1", True)
    assert (played.device, played.shared, played.total_bytes) == ("Vulkan2", True, 2048 * MIB)


@pytest.mark.parametrize(
    ("line", "device", "backend", "shared"),
    [
        ("  SYCL0: Intel(R) Arc(TM) B580 Graphics (12216 MiB, 11000 MiB free)", "SYCL0", Backend.SYCL, False),
        ("  MTL0: Apple M3 Max (49152 MiB, 49151 MiB free)", "MTL0", Backend.METAL, True),
        ("  Metal: Apple M1 (10922 MiB, 10922 MiB free)", "Metal", Backend.METAL, True),
        ("  Vulkan0: Intel(R) UHD Graphics 770 (ADL-S GT1) (47957 MiB, 40000 MiB free)", "Vulkan0", Backend.VULKAN,
         True),
    ],
)  # fmt: skip
def test_every_backend_has_its_name(line: str, device: str, backend: Backend, *, shared: bool) -> None:
    (found,) = parse_devices(f"Available devices:\n{line}\n") or ()
    assert (found.device, found.backend, found.shared, found.number) == (device, backend, shared, 0)


def test_a_device_that_tells_of_no_memory_is_told_and_left_out() -> None:
    text = "Available devices:\n  SYCL0: Intel(R) Arc(TM) A770 Graphics (0 MiB, 0 MiB free)\n"
    assert parse_devices(text) == ()
    assert silent_devices(text) == ("SYCL0 (Intel(R) Arc(TM) A770 Graphics)",)


@pytest.mark.parametrize(("text", "found"), [("Available devices:\n  (none)\n", ()), ("error: no such flag\n", None)])
def test_an_empty_list_is_no_failure(text: str, found: tuple[()] | None) -> None:
    assert parse_devices(text) == found
