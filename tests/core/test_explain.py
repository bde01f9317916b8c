"""Every part of every plan is explained by terms that add up to it."""

import pytest
from hypothesis import given

from bercail.core.errors import UsageError
from bercail.core.explain import explain
from bercail.core.machine import Machine
from bercail.core.model import Model, Recurrent
from bercail.core.options import EngineOptions
from bercail.core.plan import decide
from bercail.core.report import explain_section
from bercail.core.units import GIB
from fakes.models import a_machine, a_model, a_shape, machines, models, wishes


@given(machines(), models(), wishes)
def test_the_terms_that_count_add_up_to_the_part(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    for part in verdict.devices[0].parts:
        explained = explain(model, verdict, part.name.upper())
        assert explained.part == part
        assert sum(term.bytes for term in explained.terms if term.counts) == part.bytes
        assert all(term.how for term in explained.terms)


def test_a_sliding_window_is_told_apart_from_full_attention() -> None:
    shape = a_shape(6, 4, 1, 256, sliding_window=512, swa_layers=(True,) * 5 + (False,))
    verdict = decide(a_machine(), a_model(shape=shape), EngineOptions(context=8192, slots=1))
    sliding, full = explain(a_model(shape=shape), verdict, "KV cache").terms
    assert (sliding.what, full.what) == ("5 layers, sliding window", "1 layer, full attention")
    assert sliding.how == "768 cells of 1,024 bytes (K f16, V f16), window 512 and a batch"
    assert full.how == "8,192 cells of 1,024 bytes (K f16, V f16)"
    assert (sliding.bytes, full.bytes) == (5 * 768 * 1024, 8192 * 1024)


def test_phases_that_share_a_place_are_told_and_not_added() -> None:
    wish = EngineOptions(context=4096, slots=1, flash_attention=False, ubatch=256)
    verdict = decide(a_machine(), a_model(), wish)
    rows = explain_section(explain(a_model(), verdict, "compute")).rows
    assert [(what, bool(size)) for what, _, size in rows] == [
        ("attention scores", True), ("feed-forward network", False), ("attention mask", True), ("total", True),
    ]  # fmt: skip
    assert "takes the same place" in rows[1][1]
    assert rows[2][2] == "4.00 MiB"  # 256 tokens by 4,096 cells in f32


def test_a_state_is_told_by_kind_and_needs_no_attention_mask() -> None:
    states = Recurrent(conv_bytes=4096, state_bytes=65536, layers=(True,) * 4)
    model = a_model(shape=a_shape(kv_heads=(0,) * 4, recurrent=states))
    verdict = decide(a_machine(), model, EngineOptions(context=4096, slots=2))
    conv, state = explain(model, verdict, "recurrent state").terms
    assert (conv.what, conv.bytes) == ("convolution", 4 * 4096 * 2)
    assert (state.what, state.how) == ("state", "4 layers of 65,536 bytes (f32), 2 copies")
    assert "attention mask" not in [term.what for term in explain(model, verdict, "compute").terms]


def test_a_part_that_the_plan_has_not_is_refused_with_those_it_has() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(prompt_cache=0))
    with pytest.raises(UsageError, match="no part 'prompt cache'") as caught:
        explain(a_model(), verdict, "prompt cache")
    assert caught.value.hint == "it has: weights, KV cache, compute, output, engine, margin"


def test_saved_states_add_up_by_slot() -> None:
    shape = a_shape(layers=4, swa_layers=(True, True, True, False), sliding_window=512)
    model = a_model(shape=shape)
    verdict = decide(a_machine(16 * GIB), model, EngineOptions(slots=2))
    assert verdict.settings.checkpoints
    told = explain(model, verdict, "checkpoints")
    assert sum(term.bytes for term in told.terms) == told.part.bytes
    assert f"{verdict.settings.checkpoints} for each of 2 slots" in told.terms[0].how


def test_the_beginning_of_a_name_is_enough_if_no_other_begins_so() -> None:
    model = a_model()
    verdict = decide(a_machine(), model, EngineOptions(context=4096, slots=1))
    assert explain(model, verdict, "kv").part.name == "KV cache"
    for name in ("", "e", "c"):
        if sum(part.name.casefold().startswith(name) for part in verdict.devices[0].parts) > 1:
            with pytest.raises(UsageError, match="no part"):
                explain(model, verdict, name)
    with pytest.raises(UsageError, match="no part ''"):
        explain(model, verdict, "")
