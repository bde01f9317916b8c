"""Which requests another model may answer, and which model that is."""

from dataclasses import replace

import pytest

from bercail.core.aside import Aside, matches, substitutes
from bercail.core.configuration import SideRule
from bercail.core.model import Capability
from bercail.core.route import Phase
from fakes.host import served

TITLE = Aside(
    name="big", system="Be brief.", last="### Task:\nGenerate a concise title", bytes=400, max_tokens=50,
    headers={"x-job": "title"},
)  # fmt: skip
RULE = SideRule(id="titles", line=1)
BIG = served("big", phase=Phase.UNLOADED)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (replace(RULE, clients=("open-webui",)), True),
        (replace(RULE, prompts=("none of it", "BE BRIEF")), True),
        (replace(RULE, prompts=("concise title",)), True),
        (replace(RULE, prompts=("elsewhere",)), False),
        (replace(RULE, names=("big",)), True),
        (replace(RULE, names=("other",)), False),
        (replace(RULE, headers={"x-job": "title"}), True),
        (replace(RULE, headers={"x-job": "chat"}), False),
        (replace(RULE, headers={"x-none": ""}), False),
        (replace(RULE, max_tokens=50), True),
        (replace(RULE, max_tokens=49), False),
        (replace(RULE, max_tokens=50, names=("other",)), False),
    ],
)
def test_all_that_a_rule_says_must_hold(rule: SideRule, holds: bool) -> None:
    assert matches(rule, TITLE) is holds


def test_a_conversation_is_no_side_request() -> None:
    chat = replace(TITLE, last="Tell me of ### Task: lists", max_tokens=None)
    assert not matches(replace(RULE, clients=("open-webui",)), chat)
    assert not matches(replace(RULE, max_tokens=100), chat)


ANY = (replace(RULE, clients=("open-webui",)),)


def test_any_model_in_memory_that_chats_may_answer_the_idlest_first() -> None:
    models = (BIG, served("busy", requests=2), served("idle"), served("out", phase=Phase.UNLOADED),
              served("vectors", capabilities=(Capability.EMBEDDINGS,)), served("unknown", capabilities=()))  # fmt: skip
    assert substitutes(ANY, TITLE, BIG, models) == ("idle", "busy")


def test_those_that_are_named_answer_in_that_order() -> None:
    rule = replace(RULE, clients=("open-webui",), models=("b", "gone", "a", "unknown"))
    models = (served("a"), served("b"), served("c"), served("unknown", capabilities=()))
    assert substitutes((rule,), TITLE, BIG, models) == ("b", "a", "unknown")


@pytest.mark.parametrize(
    "model",
    [
        served("a", slot_context_tokens=249),
        served("a", chat_refusal="no template"),
        served("a", plain=True),
        served("a", phase=Phase.LOADING),
    ],
)
def test_a_model_that_might_not_take_it_does_not_answer(model: object) -> None:
    assert substitutes(ANY, TITLE, BIG, (model,)) == ()  # type: ignore[arg-type] # a served model


def test_a_model_with_just_enough_room_answers() -> None:
    assert substitutes(ANY, replace(TITLE, max_tokens=None), BIG, (served("a", slot_context_tokens=200),)) == ("a",)


def test_a_model_that_is_there_answers_itself() -> None:
    assert substitutes(ANY, TITLE, served("big"), (served("a"),)) == ()
    assert substitutes((), TITLE, BIG, (served("a"),)) == ()
