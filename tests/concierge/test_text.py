import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.concierge.text import (
    TextError,
    count,
    draw,
    draw_ask,
    parse_pattern,
    quoted,
    read_topics,
    slip,
    vary,
    without_accents,
)

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


@given(st.integers(), st.sampled_from(["en", "fr"]))
def test_quotation_marks_come_around_one_word_and_change_none(seed: int, language: str) -> None:
    marked = quoted("the kv memory", language, random.Random(seed))
    assert marked != "the kv memory"
    assert [word.strip("\"'`«» ") for word in re.split(r"(?<![«]) (?![»])", marked)] == ["the", "kv", "memory"]


@given(st.integers())
def test_a_slip_touches_one_word_only(seed: int) -> None:
    slipped = slip("the memory of it", random.Random(seed)).split(" ")
    assert [word for word in slipped if word in ("the", "of", "it")] == ["the", "of", "it"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {id: x, en: {ask: [a], say: b}}", "x in fr needs a list"),
        ("- {id: x, en: {ask: [], say: b}, fr: {ask: [a], say: b}}", "needs a list"),
        ("- {id: x, en: {ask: ['(a'], say: b}, fr: {ask: [a], say: b}}", "x in en: a bracket"),
        (
            "- {id: x, en: {ask: [a], say: b}, fr: {ask: [a], say: b}}\n"
            "- {id: x, en: {ask: [a], say: b}, fr: {ask: [a], say: b}}",
            "answered twice",
        ),
    ],
)
def test_text_that_cannot_be_trained_on_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TextError, match=words):
        read_topics(tmp_path)


def test_several_authors_ask_and_one_answers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {id: x, en: {ask: [a], say: one}, fr: {ask: [b], say: un}}", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("- {id: x, en: {ask: [c]}, fr: {ask: [d]}}", encoding="utf-8")
    english, french = read_topics(tmp_path)
    assert (english.say, french.say) == ("one", "un")
    assert {draw_ask(english.asks, random.Random(seed)) for seed in range(40)} == {"a", "c"}


def test_what_is_asked_and_never_answered_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {id: x, en: {ask: [c]}, fr: {ask: [d]}}", encoding="utf-8")
    with pytest.raises(TextError, match="is asked and has no answer"):
        read_topics(tmp_path)


def test_names_of_a_topic_are_asked_for_in_the_usual_frames(tmp_path: Path) -> None:
    text = "- {id: x, en: {names: 'the fold|a fold', ask: [a], say: b}, fr: {ask: [a], say: b}}"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    english = read_topics(tmp_path)[0]
    drawn = {draw_ask(english.asks, random.Random(seed)).rstrip("?") for seed in range(2000)}
    assert {"explain the fold", "what does a fold mean", "a fold", "tell me about the fold", "a"} <= drawn
    assert not [sentence for sentence in drawn if "{}" in sentence]
