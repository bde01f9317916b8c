from dataclasses import replace

import pytest

from bercail.core.cards import CARDS, CHIPS, PROCESSORS
from bercail.core.catalogue import HOST_BYTES, READ_SHARE, SYSTEM_BYTES, machine_named, with_cards
from bercail.core.errors import UsageError
from bercail.core.machine import Backend
from bercail.core.units import GIB

PUBLISHED_GB_PER_S = {
    "gtx-1080-ti": 484, "rtx-2080-ti": 616, "rtx-3060-12gb": 360, "rtx-3070": 448, "rtx-3090": 936, "rtx-3090-ti": 1008,
    "rtx-4060": 272, "rtx-4060-ti-16gb": 288, "rtx-4070": 504, "rtx-4070-ti-super": 672, "rtx-4080": 717,
    "rtx-4090": 1008, "rtx-5060-ti-16gb": 448, "rtx-5070": 672, "rtx-5070-ti": 896, "rtx-5080": 960, "rtx-5090": 1792,
    "rtx-a6000": 768, "rtx-6000-ada": 960, "rtx-pro-6000": 1792, "tesla-p40": 346, "tesla-t4": 320, "l4": 300,
    "l40s": 864, "a100-40gb": 1555, "a100-80gb": 2039, "rx-7900-xtx": 960, "arc-pro-b60": 456, "arc-pro-b70": 608,
    "h100": 3352, "h200": 4917,
}  # fmt: skip


@pytest.mark.parametrize(("name", "speed"), PUBLISHED_GB_PER_S.items())
def test_bus_and_rate_give_the_published_speed(name: str, speed: float) -> None:
    assert CARDS[name].bandwidth_bytes_per_s / 1e9 == pytest.approx(speed, rel=0.002)


@pytest.mark.parametrize(
    ("name", "speed"),
    [
        ("n100", 38.4), ("ryzen-5800x", 51.2), ("ryzen-ai-max-395", 256), ("epyc-7302", 204.8), ("epyc-9654", 460.8),
        ("epyc-9755", 576), ("xeon-gold-6248", 140.8), ("xeon-platinum-8480", 307.2), ("xeon-e5-2690-v4", 76.8),
    ],
)  # fmt: skip
def test_channels_and_rate_give_the_published_speed(name: str, speed: float) -> None:
    assert PROCESSORS[name].bandwidth_bytes_per_s / 1e9 == pytest.approx(speed, rel=0.002)


def test_cards_and_memory_are_named_in_one_line() -> None:
    machine = machine_named("4x RTX-3060-12GB + 128 GiB")
    assert [gpu.name for gpu in machine.gpus] == ["rtx-3060-12gb"] * 4
    assert {gpu.available_bytes for gpu in machine.gpus} == {12 * GIB}
    assert machine.gpus[0].backend is Backend.CUDA
    assert machine.memory.available_bytes == 128 * GIB - SYSTEM_BYTES
    assert machine.memory.bandwidth_bytes_per_s is None


@pytest.mark.parametrize("text", ["rtx-3090", "RTX 3090", "rtx3090", "rtx_3090", "1xrtx3090", "1 x rtx 3090"])
def test_spaces_and_hyphens_do_not_matter(text: str) -> None:
    assert [gpu.name for gpu in machine_named(text).gpus] == ["rtx-3090"]


@pytest.mark.parametrize(
    ("text", "name"), [("p40", "tesla-p40"), ("5090", "rtx-5090"), ("3090", "rtx-3090"), ("b60", "arc-pro-b60")]
)
def test_a_part_of_one_name_only_is_enough(text: str, name: str) -> None:
    assert [gpu.name for gpu in machine_named(text).gpus] == [name]


def test_a_machine_may_have_no_card_and_different_ones_of_a_maker() -> None:
    assert machine_named("256gib").gpus == ()
    assert [gpu.name for gpu in machine_named("rtx-3090+rtx-3060-12gb").gpus] == ["rtx-3090", "rtx-3060-12gb"]


def test_memory_may_be_named_with_its_speed() -> None:
    machine = machine_named("rtx-3090 + 64gib@80gb/s")
    assert machine.memory.bandwidth_bytes_per_s == 80e9
    assert machine_named("64 gib @ 51.2gb").memory.bandwidth_bytes_per_s == 51.2e9


def test_a_processor_brings_cores_and_the_speed_of_its_channels() -> None:
    machine = machine_named("epyc-7302 + 256gib")
    assert machine.cpu.physical_cores == 16
    assert machine.memory.bandwidth_bytes_per_s == pytest.approx(READ_SHARE * 204.8e9)
    assert any("80% of its data sheet" in note for note in machine.notes)
    own = machine_named("epyc-7302 + 256gib@100gb/s")
    assert own.memory.bandwidth_bytes_per_s == 100e9
    assert not any("data sheet" in note for note in own.notes)


def test_a_second_socket_brings_cores_and_no_speed() -> None:
    two = machine_named("2x epyc-9654 + 768gib")
    assert two.cpu.physical_cores == 192
    assert two.memory.bandwidth_bytes_per_s == machine_named("epyc-9654").memory.bandwidth_bytes_per_s
    assert any("of one socket" in note for note in two.notes)


@pytest.mark.parametrize(("text", "granted"), [("m4-max-64gb", 48 * GIB), ("M2-24gb", 16 * GIB)])
def test_the_gpu_of_an_apple_chip_works_in_main_memory(text: str, granted: int) -> None:
    machine = machine_named(text)
    (gpu,) = machine.gpus
    assert (gpu.backend, gpu.available_bytes) == (Backend.METAL, granted)
    assert gpu.available_bytes + machine.memory.available_bytes + SYSTEM_BYTES == machine.memory.total_bytes
    assert gpu.bandwidth_bytes_per_s == CHIPS[gpu.name][1] * 1e9


def test_what_is_assumed_is_said() -> None:
    machine = machine_named("arc-pro-b60")
    assert machine.memory.total_bytes == HOST_BYTES
    assert any("64.0 GiB are assumed" in note for note in machine.notes)
    assert any("8 cores" in note for note in machine.notes)
    assert not any("main memory" in note for note in machine_named("arc-pro-b60 + 32gib").notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtx-3061-12gb", "did you mean rtx-3060-12gb"),
        ("rtx-3060", "could be rtx-3060-8gb or rtx-3060-12gb"),
        ("epyc", "could be epyc-7302 or epyc-7763"),
        ("voodoo", "known: gtx-1080-ti"),
        ("0x rtx-3090", "1 to 16 cards"),
        ("17x rtx-3090", "1 to 16 cards"),
        ("9x rtx-3090 + 9x rtx-4090", "18 GPUs"),
        ("64gib + 32gib", "main memory twice"),
        ("epyc-7302 + epyc-9654", "names two processors"),
        ("4x epyc-7302", "1 or 2 sockets"),
        ("rtx-3090 + arc-b580", "different makers"),
        ("", "no card or processor ''"),
        ("64 parsecs", "no card or processor '64 parsecs'"),
        ("rtx-3090 + 0gib", "'0gib' is less than"),
        ("m9-max-64gb", "no chip 'm9-max'"),
        ("m1-4gb", "too little memory"),
    ],
)
def test_what_is_no_machine_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        machine_named(text)
    assert words in f"{refused.value.message} {refused.value.hint}"


def test_cards_are_added_to_a_machine() -> None:
    machine = machine_named("epyc-7302 + 256gib")
    added = with_cards(machine, "rtx-3090 + 2x rtx-3060-12gb")
    assert [gpu.name for gpu in added.gpus] == ["rtx-3090", "rtx-3060-12gb", "rtx-3060-12gb"]
    assert replace(added, gpus=()) == machine


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("64gib", "its own main memory"),
        ("epyc-9654", "its own processor"),
        ("arc-b580", "different makers"),
        ("16x rtx-3090", "17 GPUs"),
        ("voodoo", "no card or processor"),
    ],
)
def test_only_cards_that_go_with_a_machine_are_added(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_cards(machine_named("rtx-3090"), text)
