import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.concierge.text import TextError, count, draw, parse_pattern, read_topics, slip, vary, without_accents

PATTERN = "(what|which) port (does it (use|take)|is it)( by default|)?"


def test_a_pattern_stands_for_the_product_of_its_alternatives() -> None:
    assert count(parse_pattern(PATTERN)) == 2 * 3 * 2


def test_drawing_reaches_every_sentence_and_no_other() -> None:
    dice = random.Random(1)
    drawn = {draw(parse_pattern("(a|b) c( d|)"), dice) for _ in range(200)}
    assert drawn == {"a c", "b c", "a c d", "b c d"}


@pytest.mark.parametrize("broken", ["(a|b", "a)", "a (b (c)", "a|b)"])
def test_a_bracket_without_its_pair_is_told(broken: str) -> None:
    with pytest.raises(TextError, match="bracket"):
        parse_pattern(broken)


@given(st.integers(), st.sampled_from(["en", "fr"]))
def test_varied_questions_are_never_empty_and_leave_no_pattern_marks(seed: int, language: str) -> None:
    dice = random.Random(seed)
    varied = vary(draw(parse_pattern(PATTERN), dice), language, dice)
    assert varied.strip()
    assert not set("(|)") & set(varied)


def test_the_same_seed_varies_the_same_way() -> None:
    assert vary("what is it?", "en", random.Random(7)) == vary("what is it?", "en", random.Random(7))


def test_accents_go_and_letters_stay() -> None:
    assert without_accents("Où ça, modèle ?") == "Ou ca, modele ?"


@given(st.integers())
def test_a_slip_touches_one_word_only(seed: int) -> None:
    slipped = slip("the memory of it", random.Random(seed)).split(" ")
    assert [word for word in slipped if word in ("the", "of", "it")] == ["the", "of", "it"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {id: x, en: {ask: [a], say: b}}", "x lacks 'fr'"),
        ("- {id: x, en: {ask: [], say: b}, fr: {ask: [a], say: b}}", "needs a list"),
        ("- {id: x, en: {ask: ['(a'], say: b}, fr: {ask: [a], say: b}}", "x in en: a bracket"),
        (
            "- {id: x, en: {ask: [a], say: b}, fr: {ask: [a], say: b}}\n"
            "- {id: x, en: {ask: [a], say: b}, fr: {ask: [a], say: b}}",
            "told twice",
        ),
    ],
)
def test_text_that_cannot_be_trained_on_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TextError, match=words):
        read_topics(tmp_path)
