import pytest

from bercail.core.catalogue import CARDS, HOST_BYTES, SYSTEM_BYTES, machine_named
from bercail.core.errors import UsageError
from bercail.core.machine import Backend
from bercail.core.units import GIB

PUBLISHED_GB_PER_S = {
    "rtx-3060-12gb": 360, "rtx-3090": 936, "rtx-4090": 1008, "rtx-5090": 1792, "rx-7900-xtx": 960, "arc-pro-b60": 456,
    "arc-pro-b70": 608, "h100": 3352, "h200": 4917,
}  # fmt: skip


@pytest.mark.parametrize(("name", "speed"), PUBLISHED_GB_PER_S.items())
def test_bus_and_rate_give_the_published_speed(name: str, speed: float) -> None:
    assert CARDS[name].bandwidth_bytes_per_s / 1e9 == pytest.approx(speed, rel=0.002)


def test_cards_and_memory_are_named_in_one_line() -> None:
    machine = machine_named("4x RTX-3060-12GB + 128 GiB")
    assert [gpu.name for gpu in machine.gpus] == ["rtx-3060-12gb"] * 4
    assert {gpu.available_bytes for gpu in machine.gpus} == {12 * GIB}
    assert machine.gpus[0].backend is Backend.CUDA
    assert machine.memory.available_bytes == 128 * GIB - SYSTEM_BYTES


def test_a_machine_may_have_no_card_and_different_ones_of_a_maker() -> None:
    assert machine_named("256gib").gpus == ()
    assert [gpu.name for gpu in machine_named("rtx-3090+rtx-3060-12gb").gpus] == ["rtx-3090", "rtx-3060-12gb"]


def test_what_is_assumed_is_said() -> None:
    machine = machine_named("arc-pro-b60")
    assert machine.memory.total_bytes == HOST_BYTES
    assert any("64.0 GiB are assumed" in note for note in machine.notes)
    assert not any("main memory" in note for note in machine_named("arc-pro-b60 + 32gib").notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtx-3060-12", "did you mean rtx-3060-12gb"),
        ("voodoo", "known: rtx-2080-super"),
        ("0x rtx-3090", "1 to 16 cards"),
        ("17x rtx-3090", "1 to 16 cards"),
        ("9x rtx-3090 + 9x rtx-4090", "18 GPUs"),
        ("64gib + 32gib", "main memory twice"),
        ("rtx-3090 + arc-b580", "different makers"),
        ("", "no card ''"),
        ("64 parsecs", "parsecs"),
        ("64", "'64' is less than the 2.00 GiB of the system"),
        ("rtx-3090 + 0gib", "'0gib' is less than"),
    ],
)
def test_what_is_no_machine_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        machine_named(text)
    assert words in f"{refused.value.message} {refused.value.hint}"
