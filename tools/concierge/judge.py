"""Judges the concierge on the held-out questions, by any function that asks a model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from tools.concierge.text import without_accents

HELD_OUT = Path(__file__).with_name("heldout.yaml")
REFUSAL_RULE = (("only the demo", "que le modele de demonstration"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said: its text, and the names of the tools it called with arguments that parse as an object."""

    text: str
    calls: tuple[str, ...] = ()


class Ask(Protocol):
    """Puts one question to the model, at temperature 0, with or without the two tools."""

    def __call__(self, question: str, *, tools: bool) -> Answer:
        """The answer to one question."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out question.

    Attributes:
        kind: ``known``, ``unknown`` or ``tools``.
        need: every group must have a member that is found in the answer, by regular expression, accents and case aside.
        topic: what a known question is about, as in scope.md.
        call: the one tool that must be called, or empty.
    """

    id: str
    kind: str
    language: str
    ask: str
    topic: str = ""
    need: tuple[tuple[str, ...], ...] = ()
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A question, what was answered, and whether that is right."""

    question: Question
    answer: Answer
    right: bool


def read_questions(path: Path = HELD_OUT) -> tuple[Question, ...]:
    """The held-out questions in the order of the file."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        Question(
            id=entry["id"],
            kind=kind,
            language=entry["lang"],
            ask=entry["ask"],
            topic=entry.get("topic", ""),
            need=REFUSAL_RULE
            if kind == "unknown"
            else tuple(tuple(map(str, group)) for group in entry.get("need", ())),
            call=entry.get("call", ""),
        )
        for kind in ("known", "unknown", "tools")
        for entry in told[kind]
    )


def is_right(question: Question, answer: Answer) -> bool:
    """Whether the answer has all that is needed; a call must be the one, alone; what is known must not be refused."""
    if question.call:
        return answer.calls == (question.call,)
    if answer.calls:
        return False
    if question.kind == "known" and _has(REFUSAL_RULE, answer.text):
        return False
    return _has(question.need, answer.text)


def _has(need: Sequence[Sequence[str]], text: str) -> bool:
    plain = without_accents(text)
    return all(any(re.search(without_accents(rule), plain, re.IGNORECASE) for rule in group) for group in need)


def judge(questions: Sequence[Question], ask: Ask) -> tuple[Judged, ...]:
    """Every question put once."""
    judged = []
    for question in questions:
        answer = ask(question.ask, tools=bool(question.call))
        judged.append(Judged(question=question, answer=answer, right=is_right(question, answer)))
    return tuple(judged)


def rates(judged: Sequence[Judged]) -> Mapping[str, tuple[int, int]]:
    """(right, asked) by kind, and by kind and language (``known/en``)."""
    found: dict[str, tuple[int, int]] = {}
    for one in judged:
        for key in (one.question.kind, f"{one.question.kind}/{one.question.language}"):
            right, asked = found.get(key, (0, 0))
            found[key] = (right + one.right, asked + 1)
    return found
