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


def with_memory(size: int) -> Machine:
    return replace(a_machine(), memory=replace(a_machine().memory, available_bytes=size))


TWO_WISHES = {"context": 200_192, "slots": 8}


def changes(verdict: NoFit) -> list[str]:
    return [row.change for row in verdict.alternatives if row.here]


@pytest.mark.parametrize(
    ("gib", "told"),
    [
        (9, ["context 16,384 fits", "with one slot 125,184 fits", "with 4 slots 32,512 fits"]),
        (12, ["context 110,848 fits", "with 4 slots 200,192 fits"]),
        (14, ["context 174,080 fits", "with 6 slots 200,192 fits"]),
    ],
)
def test_of_two_wishes_each_is_offered_as_far_as_it_fits_and_both_half_way(gib: int, told: list[str]) -> None:
    model = replace(a_large_model(), context_length=262_144)
    verdict = refused(with_memory(gib * GIB), model, **TWO_WISHES)
    assert [words for words in changes(verdict) if "KV cache" not in words] == told
    for row in (row for row in verdict.alternatives if row.here):
        context, slots = row.settings.slot_context_tokens, row.settings.slots
        wish = {
            "context": context,
            "slots": slots,
            "kv_type_k": row.settings.kv_type_k,
            "kv_type_v": row.settings.kv_type_v,
        }
        assert isinstance(on(with_memory(gib * GIB), model, **wish), Fits)


def test_the_slots_that_are_offered_are_the_most_that_the_context_leaves_room_for() -> None:
    model = replace(a_large_model(), context_length=262_144)
    words = offered(refused(with_memory(12 * GIB), model, **TWO_WISHES), "slots")
    count = int(words.split()[1])
    assert isinstance(on(with_memory(12 * GIB), model, context=200_192, slots=count + 1), NoFit)


def test_a_context_beyond_the_model_is_offered_as_the_model_has_it_in_fewer_slots_too() -> None:
    model = replace(a_large_model(), context_length=32_768)
    verdict = refused(with_memory(9 * GIB), model, **TWO_WISHES)
    assert "more than the 32,768 tokens the model was trained for" in verdict.why
    assert "with 3 slots 32,768 fits" in changes(verdict)
    assert changes(refused(with_memory(12 * GIB), model, **TWO_WISHES)) == ["context 32,768 fits"]


def test_a_context_beyond_the_model_on_a_machine_too_small_for_any_says_what_would_hold_it() -> None:
    model = replace(a_large_model(), context_length=32_768)
    verdict = refused(with_memory(2 * GIB), model, **TWO_WISHES)
    words = offered(verdict, "main memory")
    assert words.startswith("context 32,768 with ")
    size = float(words.split()[3])
    assert isinstance(on(with_memory(int((size + 0.01) * GIB)), model, context=32_768, slots=8), Fits)


def test_what_no_engine_does_at_any_context_has_nothing_near() -> None:
    verdict = refused(with_memory(2 * GIB), a_large_model(), ubatch=512, batch=64, slots=8)
    assert verdict.alternatives == ()
