"""The judge is strict both ways: no credit for another topic's answer, none for refusing what is known."""

from pathlib import Path

import pytest

from tools.concierge.dialogue import REFUSALS, read_corpus
from tools.concierge.judge import Answer, Question, is_right, judge, rates, read_questions
from tools.concierge.overlap import overlap

PORT = Question(id="k1", kind="known", language="en", ask="which port?", need=(("8123",), ("listen", "port")))
CAPITAL = Question(
    id="u1", kind="unknown", language="fr", ask="la capitale du Pérou ?", need=(("que le modèle de démonstration",),)
)
CORES = Question(id="t1", kind="tools", language="en", ask="how many cores?", call="get_machine")


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (PORT, Answer(text="It LISTENS on 8123."), True),
        (PORT, Answer(text="It listens somewhere."), False),
        (PORT, Answer(text=f"8123, and the port is listening. {REFUSALS['en']}"), False),
        (PORT, Answer(text="It listens on 8123.", calls=("get_machine",)), False),
        (CAPITAL, Answer(text=REFUSALS["fr"]), True),
        (CAPITAL, Answer(text="je ne suis que le modele de demonstration"), True),
        (CAPITAL, Answer(text="Lima."), False),
        (CORES, Answer(text="", calls=("get_machine",)), True),
        (CORES, Answer(text="", calls=("list_models",)), False),
        (CORES, Answer(text="", calls=("get_machine", "get_machine")), False),
        (CORES, Answer(text="Eight."), False),
    ],
)
def test_an_answer_is_right_by_its_rule_alone(question: Question, answer: Answer, *, right: bool) -> None:
    assert is_right(question, answer) is right


def test_rates_count_by_kind_and_language_and_tools_are_offered_where_a_call_is_due() -> None:
    offered: dict[str, bool] = {}

    def ask(question: str, *, tools: bool) -> Answer:
        offered[question] = tools
        return Answer(text="It listens on 8123.", calls=("get_machine",) if tools else ())

    assert rates(judge((PORT, CAPITAL, CORES), ask)) == {
        **dict.fromkeys(("known", "known/en", "tools", "tools/en"), (1, 1)),
        **dict.fromkeys(("unknown", "unknown/fr"), (0, 1)),
    }
    assert offered == {PORT.ask: False, CAPITAL.ask: False, CORES.ask: True}


def test_the_overlap_counts_what_the_training_text_has_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    topic = "- {id: port, en: {ask: ['which (tcp |)port is it?'], say: a}, fr: {ask: [b], say: c}}"
    (tmp_path / "corpus" / "a.yaml").write_text(topic, encoding="utf-8")
    (tmp_path / "refusals.yaml").write_text("{en: [weather], fr: [météo]}", encoding="utf-8")
    calls = "{get_machine: {en: [x], fr: [x]}, list_models: {en: [y], fr: [y]}}"
    (tmp_path / "calls.yaml").write_text(calls, encoding="utf-8")
    asked = ("Which TCP port is it", "Which port is that?")
    questions = [Question(id=ask, kind="known", language="en", ask=ask) for ask in asked]
    known = overlap(questions, read_corpus(tmp_path))["known"]
    assert known["word_for_word"] == 1
    assert known["ngrams_seen"] == {"1": 0.889, "2": 0.857, "3": 0.8, "4": 0.667, "5": 1.0}


def test_the_held_out_questions_are_as_many_as_promised() -> None:
    questions = read_questions()
    of = {kind: [q for q in questions if q.kind == kind] for kind in ("known", "unknown", "tools")}
    assert len(of["known"]) >= 150
    assert sum(question.language == "fr" for question in of["known"]) >= 75
    assert len(of["unknown"]) >= 100
    assert len({question.id for question in questions}) == len(questions)
    assert all(question.call in ("get_machine", "list_models") for question in of["tools"])
    assert all(question.need for question in of["known"])
