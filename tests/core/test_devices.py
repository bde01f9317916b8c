"""Devices as drivers name them: whose, which data sheet, which may be used, and what of the main memory is theirs."""

from dataclasses import replace

import pytest

from bercail.core.cards import CARDS
from bercail.core.devices import (
    Maker,
    beside,
    data_sheet_speed,
    emptiest_first,
    is_software,
    maker_of,
    makers,
    one_card_each,
    shares_memory,
    usable,
)
from bercail.core.errors import UsageError
from bercail.core.machine import Backend, Gpu
from bercail.core.units import GIB, MIB
from fakes.models import a_gpu, a_machine


@pytest.mark.parametrize(
    ("name", "mib", "card"),
    [
        ("NVIDIA GeForce RTX 3090", 24135, "rtx-3090"),
        ("NVIDIA GeForce RTX 3090 Ti", 24138, "rtx-3090-ti"),
        ("NVIDIA GeForce RTX 3060", 11909, "rtx-3060-12gb"),
        ("NVIDIA GeForce RTX 3060", 7972, "rtx-3060-8gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 15946, "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 4080 SUPER", 16001, "rtx-4080-super"),
        ("NVIDIA GeForce GTX 1080 Ti", 11165, "gtx-1080-ti"),
        ("Tesla T4", 14930, "tesla-t4"),
        ("NVIDIA A100-SXM4-80GB", 81153, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 81090, "h100"),
        ("NVIDIA RTX 6000 Ada Generation", 48510, "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97249, "rtx-pro-6000"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 24560, "rx-7900-xtx"),
        ("AMD Radeon RX 7900 XT", 20464, "rx-7900-xt"),
        ("Intel(R) Arc(TM) B580 Graphics (BMG G21)", 12216, "arc-b580"),
        ("Intel(R) Arc(TM) Pro B60 Graphics", 24480, "arc-pro-b60"),
    ],
)
def test_a_card_is_known_by_its_name_and_its_memory(name: str, mib: int, card: str) -> None:
    assert data_sheet_speed(name, mib * MIB) == CARDS[card].bandwidth_bytes_per_s


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376), ("NVIDIA GeForce RTX 3090", 12000), ("NVIDIA H100 PCIe", 81090),
        ("AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)", 24000), ("Apple M9 Max", 64000), ("M4 Max", 64000),
        ("llvmpipe (LLVM 15.0.6, 256 bits)", 24000), ("", 24000),
    ],
)  # fmt: skip
def test_what_is_no_card_of_the_tables_has_no_speed(name: str, mib: int) -> None:
    assert data_sheet_speed(name, mib * MIB) is None


def test_apples_chips_are_in_a_table_of_their_own() -> None:
    assert data_sheet_speed("Apple M2 Max", 48 * GIB) == 409.6e9


@pytest.mark.parametrize(
    ("name", "maker", "shared"),
    [
        ("NVIDIA GeForce RTX 3090", Maker.NVIDIA, False), ("NVIDIA GB10", Maker.NVIDIA, True),
        ("AMD Radeon RX 6800 (RADV NAVI21)", Maker.AMD, False), ("AMD Radeon 780M Graphics", Maker.AMD, True),
        ("AMD Radeon Graphics (RADV GFX1151)", Maker.AMD, True), ("AMD Instinct MI100", Maker.AMD, False),
        ("AMD Radeon(TM) 8060S Graphics", Maker.AMD, True),
        ("Intel(R) Arc(TM) B580 Graphics", Maker.INTEL, False), ("Intel(R) UHD Graphics 770", Maker.INTEL, True),
        ("Intel(R) Arc(TM) 140V GPU (16GB)", Maker.INTEL, True), ("Intel(R) Graphics [0x7d55]", Maker.INTEL, True),
        ("Apple M3", Maker.APPLE, True), ("llvmpipe (LLVM 15.0.6, 256 bits)", None, True), ("Mali-G610", None, False),
    ],
)  # fmt: skip
def test_whose_it_is_and_whose_memory_it_works_in(name: str, maker: Maker | None, *, shared: bool) -> None:
    assert (maker_of(name), shares_memory(name)) == (maker, shared)


OWN, OTHER = a_gpu("CUDA0"), a_gpu("CUDA1")
INSIDE = a_gpu("Vulkan2", name="AMD Radeon Graphics", shared=True)
PLAYED = a_gpu("Vulkan0", name="llvmpipe (LLVM 15.0.6)", shared=True)


def test_cards_come_before_what_shares_the_main_memory() -> None:
    assert usable((INSIDE, OWN, OTHER), None, forced=False) == (OWN, OTHER)
    assert usable((INSIDE,), None, forced=False) == (INSIDE,)


def test_a_processor_that_plays_a_gpu_is_taken_only_where_it_is_asked_for() -> None:
    assert is_software(PLAYED.name)
    assert usable((PLAYED,), None, forced=False) == ()
    assert usable((PLAYED,), None, forced=True) == (PLAYED,)
    assert usable((PLAYED, OWN), "Vulkan0", forced=False) == (PLAYED,)


def test_gpus_are_asked_for_by_number_or_name_in_any_order() -> None:
    assert usable((OWN, OTHER), "1, cuda0", forced=False) == (OTHER, OWN)
    assert usable((OWN, OTHER), "none", forced=False) == ()


@pytest.mark.parametrize(("asked", "seen", "there"), [("2", (OWN,), "CUDA0 (card)"), ("Vulkan0", (), "none")])
def test_a_gpu_that_is_not_there_is_an_error_that_names_those_that_are(
    asked: str, seen: tuple[Gpu, ...], there: str
) -> None:
    with pytest.raises(UsageError, match=f"no GPU '{asked}'") as caught:
        usable(seen, asked, forced=False)
    assert caught.value.hint == f"this engine sees: {there}"


def test_cards_leave_the_main_memory_alone() -> None:
    machine = a_machine(8 * GIB)
    assert beside(machine, (OWN,)) == replace(machine, gpus=(OWN,))


def test_memory_that_is_shared_is_counted_once() -> None:
    machine = a_machine(8 * GIB)
    found = beside(machine, (replace(INSIDE, available_bytes=20 * GIB),))
    assert found.gpus[0].available_bytes == 6 * GIB
    assert found.memory.available_bytes == 2 * GIB
    assert "works in main memory" in found.notes[-1]
    small = beside(machine, (replace(INSIDE, available_bytes=GIB), OWN))
    assert (small.gpus[0].available_bytes, small.gpus[1]) == (GIB, OWN)
    assert small.memory.available_bytes == 7 * GIB


def test_a_card_is_one_card_for_all_engines_that_see_it() -> None:
    seen = tuple(a_gpu(f"CUDA{number}", name="NVIDIA GeForce RTX 3090") for number in range(2))
    by_vulkan = (
        a_gpu("Vulkan0", name="NVIDIA GeForce RTX 3090", backend=Backend.VULKAN),
        a_gpu("Vulkan1", name="AMD Radeon RX 7900 XTX (RADV NAVI31)", backend=Backend.VULKAN),
        a_gpu("Vulkan2", name="NVIDIA GeForce RTX 3090", backend=Backend.VULKAN),
        INSIDE,
    )
    found = one_card_each((seen, (), by_vulkan))
    assert [[gpu.card for gpu in gpus] for gpus in found] == [
        ["cuda0", "cuda1"], [], ["cuda0", "vulkan1", "cuda1", "cpu"]
    ]  # fmt: skip


def test_makers_are_named_once() -> None:
    assert makers((OWN, a_gpu("X0", name="Tesla T4"), a_gpu("X1", name="Quadro"), INSIDE)) == (Maker.NVIDIA, Maker.AMD)


def test_of_cards_that_are_alike_the_one_that_is_promised_least_comes_first() -> None:
    first, second, third = (a_gpu(f"CUDA{number}", card=f"cuda{number}") for number in range(3))
    assert emptiest_first((first, second, third), {"cuda0": 9, "cpu": 5}) == (second, third, first)
