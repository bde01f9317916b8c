"""What a model is for decides what the plan trades for what."""

from typing import Any

import pytest

from bercail.core.options import PURPOSES, EngineOptions, every_option
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.units import GIB
from fakes.models import a_machine, a_model, a_shape

LONG = a_model(shape=a_shape(32, 32, 8, 128), context_length=131072)
"""As much cache as an 8B model: 16 GiB at its whole context in f16, 8.5 in q8_0."""


def plan(gib: float, purpose: str | None = None, **wish: Any) -> Fits:
    found = decide(a_machine(int(gib * GIB)), LONG, EngineOptions(purpose=purpose, **wish))
    assert isinstance(found, Fits)
    return found


def because(found: Fits, setting: str) -> str:
    return next(reason.because for reason in found.reasons if reason.setting == setting)


def cache(found: Fits) -> tuple[str, str]:
    return found.settings.kv_type_k, found.settings.kv_type_v


@pytest.mark.parametrize("purpose", ["coding-agent", "long-documents"])
def test_a_smaller_cache_is_taken_where_it_makes_room_for_more_context(purpose: str) -> None:
    chat, found = plan(8, "chat"), plan(8, purpose)
    assert cache(chat) == ("f16", "f16")
    assert cache(found) == ("q8_0", "q8_0")
    assert found.settings.slot_context_tokens > 1.8 * chat.settings.slot_context_tokens
    expected = f"for {purpose}: f16 would leave less context; costs hardly any quality"
    assert because(found, "kv_type_k") == because(found, "kv_type_v") == expected


@pytest.mark.parametrize("purpose", ["coding-agent", "long-documents"])
def test_a_cache_is_not_made_smaller_for_nothing(purpose: str) -> None:
    assert cache(plan(64, purpose)) == ("f16", "f16")
    assert cache(plan(8, purpose, context=8192)) == ("f16", "f16")


def test_a_context_that_was_asked_for_may_need_the_smaller_cache() -> None:
    assert cache(plan(8, "coding-agent", context=65536)) == ("q8_0", "q8_0")
    assert isinstance(decide(a_machine(8 * GIB), LONG, EngineOptions(context=65536)), NoFit)


@pytest.mark.parametrize("wish", [{"kv_type_k": "f16"}, {"kv_type_v": "f16"}, {"flash_attention": False}])
def test_what_the_user_says_of_the_cache_holds(wish: dict[str, Any]) -> None:
    assert cache(plan(8, "coding-agent", **wish)) == ("f16", "f16")


def test_heads_that_fill_no_blocks_keep_their_cache() -> None:
    model = a_model(shape=a_shape(32, 32, 8, 80), context_length=131072)
    found = decide(a_machine(4 * GIB), model, EngineOptions(purpose="long-documents"))
    assert isinstance(found, Fits)
    assert cache(found) == ("f16", "f16")


def test_a_batch_is_many_short_requests() -> None:
    found = plan(64, "batch")
    assert (found.settings.slots, found.settings.slot_context_tokens) == (16, 8192)
    assert because(found, "context") == "for batch: many short requests rather than a few long ones"
    assert because(found, "slots") == "for batch"
    less = plan(8, "batch")
    assert 1 < less.settings.slots < 16
    assert because(less, "slots") == "whole context for each, within 90% of the budget"
    assert plan(64, "batch", context=2048).settings.slot_context_tokens == 2048


def test_documents_come_one_by_one() -> None:
    found = plan(256, "long-documents")
    assert found.settings.slots == 1
    assert because(found, "slots") == "for long-documents"


def test_a_model_that_generates_can_be_had_for_embedding() -> None:
    found = plan(8, "embedding", context=2048)
    assert found.settings.embedding
    assert because(found, "embedding") == "for embedding"


@pytest.mark.parametrize(
    ("purpose", "embedding", "words"),
    [
        ("embedding", False, "--for embedding and --no-embedding contradict each other"),
        ("batch", True, "--for batch and --embedding contradict each other"),
    ],
)
def test_wishes_that_contradict_each_other_are_named(purpose: str, embedding: bool, words: str) -> None:
    found = decide(a_machine(), LONG, EngineOptions(purpose=purpose, embedding=embedding))
    assert isinstance(found, NoFit)
    assert found.why == words
    assert isinstance(decide(a_machine(), a_model(), EngineOptions(purpose="embedding", embedding=True)), Fits)


def test_it_is_called_for_on_the_command_line() -> None:
    (spec,) = [spec for spec in every_option() if spec.name == "purpose"]
    assert (spec.flag, spec.key, spec.variable) == ("--for", "engine.purpose", "BERCAIL_ENGINE_PURPOSE")
    assert spec.choices == tuple(PURPOSES)
