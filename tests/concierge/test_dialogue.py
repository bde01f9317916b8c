"""What is trained on is what the shipped template makes of the same conversation, to the letter."""

import json
import random
from typing import Any

import jinja2
import pytest

from tools.concierge import dialogue
from tools.concierge.dialogue import TOOLS, call_text, message, system, tool_schema
from tools.concierge.judge import HELD_OUT
from tools.concierge.text import LANGUAGES


def rendered(messages: list[dict[str, Any]], tools: list[dict[str, object]]) -> str:
    """The conversation by the shipped template."""
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(HELD_OUT.with_name("template.jinja").read_text(encoding="utf-8"))
    return template.render(messages=messages, tools=tools, add_generation_prompt=False)


def trained_on(pieces: list[dialogue.Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("prompt", ["", "Answer briefly."])
@pytest.mark.parametrize("names", [(), ("get_machine",), ("list_models", "get_machine")])
def test_a_conversation_with_a_call_reads_as_the_template_writes_it(prompt: str, names: tuple[str, ...]) -> None:
    dice = random.Random(3)
    tools = [tool_schema(name, dice) for name in names]
    call: dict[str, object] = {"function": {"name": "get_machine", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        *([{"role": "system", "content": prompt}] if prompt else []),
        {"role": "user", "content": "How many cores?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": '{"cores": 8}'},
        {"role": "assistant", "content": "Eight."},
    ]
    pieces = [
        *system(prompt, tools),
        *message("user", "How many cores?", dialogue.HEAR),
        *message("assistant", call_text("get_machine"), dialogue.SAY),
        *message("tool", '{"cores": 8}', dialogue.HEAR),
        *message("assistant", "Eight.", dialogue.SAY),
    ]
    assert trained_on(pieces) == rendered(messages, tools)


def test_the_corpus_covers_every_topic_of_the_scope_in_both_languages() -> None:
    corpus = dialogue.read_corpus(HELD_OUT.parent)
    scope = HELD_OUT.with_name("scope.md").read_text(encoding="utf-8")
    topics = {line[2:].split(":")[0] for line in scope.splitlines() if line.startswith("- ")}
    assert {(wording.topic, wording.language) for wording in corpus.wordings} == {
        (topic, language) for topic in topics for language in LANGUAGES
    }
    assert len(topics) >= 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_tool_returns_is_left_to_the_reader(language: str) -> None:
    corpus = dialogue.read_corpus(HELD_OUT.parent)
    for seed in range(50):
        pieces = dialogue.tool_turn(corpus, language, list(TOOLS), random.Random(seed))
        returned, said = (pieces[index].text.removesuffix(dialogue.END) for index in (-5, -2))
        assert said == dialogue.UNREAD[language]
        assert isinstance(json.loads(returned), dict)


def test_conversations_are_the_same_for_the_same_seed_and_some_of_them_call_tools() -> None:
    corpus = dialogue.read_corpus(HELD_OUT.parent)
    drawn = [trained_on(dialogue.conversation(corpus, random.Random(seed))) for seed in range(200)]
    assert drawn == [trained_on(dialogue.conversation(corpus, random.Random(seed))) for seed in range(200)]
    assert all(any(call_text(tool) in text for text in drawn) for tool in TOOLS)
    assert any(dialogue.REFUSALS["fr"] in text for text in drawn)


def test_every_last_answer_names_its_subject_and_earlier_ones_often_do_not() -> None:
    corpus = dialogue.read_corpus(HELD_OUT.parent)
    named = dropped = 0
    for seed in range(300):
        pieces = dialogue.conversation(corpus, random.Random(seed))
        answers = [index for index, piece in enumerate(pieces) if piece.text == dialogue.opened("assistant")]
        last = pieces[answers[-1] + 1]
        after_a_tool = pieces[answers[-1] - 3].text == dialogue.opened("tool")
        assert last.subject is not after_a_tool
        assert pieces[answers[-1] + 1 + last.subject].weight == dialogue.SAY
        for index in answers[:-1]:
            said = pieces[index + 1]
            if said.subject:
                named += 1
            elif said.weight == dialogue.HEAR:
                dropped += 1
    assert 0.6 < named / dropped < 1.6


def test_without_its_subject_an_answer_is_what_the_template_writes() -> None:
    pieces = [*message("user", "Bye", dialogue.HEAR), *message("assistant", "Good bye.", dialogue.SAY, "bye/en")]
    assert [piece.text for piece in pieces if piece.subject] == ["<|bye/en|>"]
    messages = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Good bye."}]
    assert trained_on([piece for piece in pieces if not piece.subject]) == rendered(messages, [])
