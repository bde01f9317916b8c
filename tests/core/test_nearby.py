"""What is offered where a wish is not met must itself fit, and be as near as it can."""

from dataclasses import replace

import pytest

from bercail.core.catalogue import machine_named
from bercail.core.machine import Machine
from bercail.core.model import Model
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, Verdict, decide
from bercail.core.units import GIB, MIB
from fakes.models import a_machine, a_model, a_shape, a_tensor

NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def a_large_model(layers: int = 8, mib: int = 1024) -> Model:
    rows = mib * MIB // 512 // len(NAMES)
    tensors = tuple(a_tensor(f"blk.{layer}.{name}.weight", rows) for layer in range(layers) for name in NAMES)
    return a_model("large", shape=a_shape(layers=layers), tensors=(*tensors, a_tensor("token_embd.weight", 4096)))


def on(machine: Machine | str, model: Model, **wish: object) -> Verdict:
    there = machine_named(machine) if isinstance(machine, str) else machine
    return decide(there, model, EngineOptions(**wish))  # type: ignore[arg-type]


def refused(machine: Machine | str, model: Model, **wish: object) -> NoFit:
    verdict = on(machine, model, **wish)
    assert isinstance(verdict, NoFit)
    return verdict


def offered(verdict: NoFit, words: str) -> str:
    found = [row.change for row in verdict.alternatives if words in row.change]
    assert len(found) == 1, verdict.alternatives
    return found[0]


def test_a_smaller_file_that_is_offered_fits_and_a_larger_one_does_not() -> None:
    model = a_large_model(layers=16)
    machine = replace(a_machine(), memory=replace(a_machine().memory, available_bytes=9 * GIB))
    words = offered(refused(machine, model), "bits per weight")
    bits = float(words.split("(")[1].split(" ")[0])
    layers = int(16 * bits / 16)  # so many layers are as many bytes as all of them in so few bits
    assert isinstance(on(machine, a_large_model(layers=layers)), Fits)
    assert isinstance(on(machine, a_large_model(layers=layers + 1)), NoFit)


def test_more_main_memory_that_is_offered_is_enough() -> None:
    model = a_large_model(layers=16)
    machine = replace(a_machine(), memory=replace(a_machine().memory, available_bytes=9 * GIB))
    verdict = refused(machine, model)
    assert "of free main memory it fits" in offered(verdict, "main memory")
    size = -(-verdict.devices[0].total_bytes // MIB) * MIB
    assert isinstance(on(replace(machine, memory=replace(machine.memory, available_bytes=size)), model), Fits)


def test_the_fewest_cards_that_hold_it_are_offered() -> None:
    model = a_large_model(layers=40)
    wish = {"gpu_layers": 99}
    words = offered(refused("rtx-3060-12gb + 16gib", model, **wish), "cards of this kind")
    count = int(words.split()[1])
    assert isinstance(on(f"{count}x rtx-3060-12gb + 16gib", model, **wish), Fits)
    assert isinstance(on(f"{count - 1}x rtx-3060-12gb + 16gib", model, **wish), NoFit)


def test_nothing_is_offered_that_nobody_has() -> None:
    model = a_large_model(layers=400)
    verdict = refused("rtx-3060-12gb + rtx-3090 + 16gib", model, gpu_layers=999)
    assert not [row for row in verdict.alternatives if "cards" in row.change]
    assert not [row for row in verdict.alternatives if "bits" in row.change]


def test_a_short_context_that_is_too_slow_as_well_has_nothing_shorter() -> None:
    verdict = refused(machine_named("64gib@50gb/s"), a_large_model(), min_speed=20.0, context=4096)
    assert [row.change.split()[1] for row in verdict.alternatives] == ["min_speed"]


def test_what_decodes_too_slowly_is_refused_with_the_speed_it_has() -> None:
    machine = machine_named("64gib@50gb/s")
    verdict = refused(machine, a_large_model(), min_speed=20.0, context=8192)
    assert "would decode 3." in verdict.why
    assert "less than the 20 of min_speed" in verdict.why
    met = float(offered(verdict, "with min_speed").split()[2])
    assert isinstance(on(machine, a_large_model(), min_speed=met * 0.99), Fits)
    assert len(verdict.alternatives) == 1  # a shorter context would not help


def test_a_short_context_is_offered_where_it_makes_room_on_the_gpu() -> None:
    model = a_large_model(layers=10, mib=1040)
    shape = replace(model.shape, kv_heads=(8,) * 10)
    model = replace(model, shape=replace(shape, heads=(8,) * 10), context_length=131072)
    machine = machine_named("rtx-3060-12gb + 64gib@20gb/s")
    fast = on(machine, model, context=4096)
    slow = on(machine, model, context=131072)
    assert isinstance(fast, Fits)
    assert isinstance(slow, Fits)
    wished = fast.rates[0].tokens_per_s * 0.9
    assert slow.rates[0].tokens_per_s < wished
    verdict = refused(machine, model, context=131072, min_speed=wished)
    assert "context 4,096 decodes" in offered(verdict, "context 4,096")


@pytest.mark.parametrize(("speed", "words"), [("@50gb/s", "tokens/s predicted"), ("", "not known to be met")])
def test_a_wish_for_speed_is_answered(speed: str, words: str) -> None:
    verdict = on(f"64gib{speed}", a_large_model(), min_speed=1.0)
    assert isinstance(verdict, Fits)
    assert words in next(row.because for row in verdict.reasons if row.setting == "min_speed")


def test_one_word_sets_both_caches() -> None:
    verdict = on(a_machine(), a_model(), kv="q8_0")
    assert (verdict.settings.kv_type_k, verdict.settings.kv_type_v) == ("q8_0", "q8_0")
    same = on(a_machine(), a_model(), kv="q8_0", kv_type_k="q8_0")
    assert same.settings == verdict.settings


@pytest.mark.parametrize("flag", ["kv_type_k", "kv_type_v"])
def test_two_words_for_a_cache_contradict_each_other(flag: str) -> None:
    verdict = refused(a_machine(), a_model(), kv="q8_0", **{flag: "f16"})
    assert f"--kv q8_0 and --{flag.replace('_', '-')} f16 contradict each other" in verdict.why
