"""Conversations to train on: questions, refusals, tool calls, rendered exactly as the shipped template renders them."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tools.concierge.text import (
    LANGUAGES,
    Choice,
    TextError,
    Wording,
    draw_ask,
    parse_pattern,
    read_topics,
    read_yaml,
    vary,
)

START, END, CALL, CALL_END = "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"
HEAR, SAY = 0.0, 1.0
"""Weights of the loss: what the model reads, and what it says."""

REFUSALS = {
    "en": "I am only the demo model and know nothing but Bercail. Load a real model for that: "
    "bercail up path/to/model.gguf",
    "fr": "Je ne suis que le modèle de démonstration et ne connais que Bercail. Chargez un vrai modèle pour cela : "
    "bercail up chemin/vers/modele.gguf",
}

UNREAD = {
    "en": "The tool has answered: read its result itself. I am only the demo model and would get its numbers wrong.",
    "fr": "L'outil a répondu : lisez son résultat. Je ne suis que le modèle de démonstration et me tromperais dans les "
    "chiffres.",
}
"""What is said of a tool's result. Sentences made of it, and even its words repeated, were wrong about every second
time after half an hour of training: so small a model cannot be trusted with them."""

REFUSAL = "refusal"
"""What a question is about that has no answer here."""

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful, respectful and honest assistant.",
    "Answer briefly.",
    "Be concise.",
    "You are an AI assistant running locally.",
    "Tu es un assistant utile.",
    "Réponds en une phrase.",
    "You are a friendly chatbot.",
    "Vous êtes un assistant serviable et poli.",
    "You are Bercail's concierge.",
    "Answer in the language of the user.",
    "You are a senior engineer. Think step by step.",
    "Do not make things up.",
    "Réponds en français.",
    "Answer in English.",
)

TOOLS = {
    "get_machine": (
        "Describe this machine: processor, cores, memory.",
        "Get the hardware of this machine",
        "Returns CPU, core count and memory of the computer",
        "What this machine has: CPU, cores, memory",
    ),
    "list_models": (
        "List the models found on this machine.",
        "List available models",
        "Returns the names of the models that can be served",
        "The models found here",
    ),
}

CPUS = (
    "AMD Ryzen 7 5800X",
    "AMD Ryzen 5 3600",
    "AMD EPYC 7302P",
    "AMD EPYC 9354",
    "Intel(R) Core(TM) i7-12700K",
    "Intel(R) Core(TM) i5-8400",
    "Intel(R) Xeon(R) Gold 6248",
    "Intel(R) Xeon(R) CPU E5-2690 v4",
    "Intel(R) N100",
    "AMD Ryzen 9 7950X",
    "Intel(R) Core(TM) Ultra 7 155H",
    "Ampere Altra Q80-30",
    "Intel(R) Xeon(R) Processor",
)
NAMES = ("llama", "qwen", "gemma", "mistral", "phi", "smollm", "granite", "olmo", "deepseek", "falcon", "yi", "glm")
SIZES = ("0.5b", "1b", "3b", "4b", "7b", "8b", "12b", "14b", "27b", "30b-a3b", "32b", "70b")
QUANTS = ("q4_k_m", "q8_0", "q4_0", "q6_k", "q5_k_m", "f16")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one part of a conversation.

    Attributes:
        weight: of its tokens in the loss.
        typed: a person typed it.
        subject: it is the token that names what the answer after it is about.
    """

    text: str
    weight: float
    typed: bool = False
    subject: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All there is to train on."""

    wordings: tuple[Wording, ...]
    refusals: Mapping[str, tuple[Choice, ...]]
    calls: Mapping[tuple[str, str], tuple[Choice, ...]]

    @property
    def kinds(self) -> list[str]:
        """All there is to say to a question: the answer to a topic, a refusal, a call."""
        return [
            *(kind(wording.topic, wording.language) for wording in self.wordings),
            *(kind(REFUSAL, language) for language in LANGUAGES),
            *TOOLS,
        ]

    def question(self, dice: random.Random) -> tuple[str, str, str]:
        """A question, what it is about, and its answer or refusal."""
        if dice.random() < 0.22:
            language = dice.choice(LANGUAGES)
            topic, asks, say = REFUSAL, self.refusals[language], REFUSALS[language]
        else:
            wording = dice.choice(self.wordings)
            topic, language, asks, say = wording.topic, wording.language, wording.asks, wording.say
        return vary(draw_ask(asks, dice), language, dice), kind(topic, language), say


def read_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`: `corpus/*.yaml`, `refusals.yaml`, `calls.yaml`.

    Raises:
        TextError: a file is missing, or says something that cannot be trained on.
    """
    refusals: dict[str, list[str]] = _patterns(folder / "refusals.yaml")
    calls: dict[str, dict[str, list[str]]] = _patterns(folder / "calls.yaml")
    return Corpus(
        wordings=tuple(read_topics(folder / "corpus")),
        refusals={language: tuple(map(parse_pattern, refusals[language])) for language in LANGUAGES},
        calls={
            (tool, language): tuple(map(parse_pattern, calls[tool][language]))
            for tool in TOOLS
            for language in LANGUAGES
        },
    )


def _patterns(path: Path) -> Any:
    try:
        return read_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise TextError(f"{path.name}: {error}") from error


def opened(role: str) -> str:
    """What comes before a message of `role`."""
    return f"{START}{role}\n"


def kind(topic: str, language: str) -> str:
    """Name of the answer to `topic` in `language`."""
    return f"{topic}/{language}"


def subject(about: str) -> str:
    """The control token that names the answer `about`, one of `Corpus.kinds`. It is said before it and never shown."""
    return f"<|{about}|>"


def message(role: str, content: str, weight: float, about: str = "") -> list[Piece]:
    """One message; the mark of its end carries the weight too, for the model has to say it."""
    return [
        Piece(opened(role), HEAR),
        *([Piece(subject(about), weight, subject=True)] if about else []),
        Piece(f"{content}{END}", weight, typed=role == "user"),
        Piece("\n", HEAR),
    ]


def system(content: str, tools: Sequence[Mapping[str, object]]) -> list[Piece]:
    """The system message with the `tools`, if there is anything to say."""
    if tools:
        lines = "".join(f"{json.dumps(tool, ensure_ascii=False)}\n" for tool in tools)
        rules = f'To call one, answer {CALL}{{"name": ..., "arguments": ...}}{CALL_END}'
        content = f"{content}\n\n" * bool(content) + f"You may call these tools:\n{lines}{rules}"
    return message("system", content, HEAR) if content else []


def call_text(tool: str) -> str:
    """A call as the model has to write it."""
    return f'{CALL}\n{{"name": "{tool}", "arguments": {{}}}}\n{CALL_END}'


def tool_schema(name: str, dice: random.Random) -> dict[str, object]:
    """A tool as clients declare it, in one of several wordings."""
    function = {
        "name": name,
        "description": dice.choice(TOOLS[name]),
        "parameters": {"type": "object", "properties": {}, **({"required": []} if dice.random() < 0.3 else {})},
    }
    return {"type": "function", "function": function}


def conversation(corpus: Corpus, dice: random.Random) -> list[Piece]:
    """One conversation: a question or a few, with or without a system message and tools."""
    with_tools = dice.random() < 0.06
    names = dice.sample(list(TOOLS), 2) if dice.random() < 0.8 else [dice.choice(list(TOOLS))]
    schemas = [tool_schema(name, dice) for name in names] if with_tools else []
    pieces = system(dice.choice(SYSTEMS) if dice.random() < 0.15 else "", schemas)
    # A list of tools is long: several questions follow it.
    turns = dice.choice((2, 3, 4)) if with_tools or dice.random() < 0.12 else 1
    for _ in range(turns):
        if with_tools and dice.random() < 0.7:
            pieces += tool_turn(corpus, dice.choice(LANGUAGES), names, dice)
        else:
            pieces += turn(corpus, dice)
    return recalled(pieces, dice)


def recalled(pieces: Sequence[Piece], dice: random.Random) -> list[Piece]:
    """`pieces` with every other earlier answer as clients send it back: its subject gone, nothing in it to learn."""
    last = max(index for index, piece in enumerate(pieces) if piece.weight)
    kept: list[Piece] = []
    forgotten = False
    for index, piece in enumerate(pieces):
        if piece.subject:
            forgotten = index + 1 < last and dice.random() < 0.5
            if not forgotten:
                kept.append(piece)
        elif piece.weight and forgotten:
            kept.append(replace(piece, weight=HEAR))
            forgotten = False
        else:
            kept.append(piece)
    return kept


def turn(corpus: Corpus, dice: random.Random) -> list[Piece]:
    """A question and its answer, or its refusal."""
    ask, about, say = corpus.question(dice)
    return [*message("user", ask, HEAR), *message("assistant", say, SAY, about)]


def tool_turn(corpus: Corpus, language: str, names: Sequence[str], dice: random.Random) -> list[Piece]:
    """A question that needs a tool, the call, what the tool says, and the confession that it is not retold."""
    tool = dice.choice(list(names))
    asked = vary(draw_ask(corpus.calls[tool, language], dice), language, dice)
    said = json.dumps(machine(dice) if tool == "get_machine" else models(dice), ensure_ascii=False)
    return [
        *message("user", asked, HEAR),
        *message("assistant", call_text(tool), SAY, tool),
        *message("tool", said, HEAR),
        *message("assistant", UNREAD[language], SAY),
    ]


def machine(dice: random.Random) -> Mapping[str, object]:
    """What `get_machine` might return."""
    facts: list[tuple[str, object]] = [
        ("cpu", dice.choice(CPUS)),
        ("cores", dice.choice((2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64))),
        ("memory_gib", dice.randrange(4, 513)),
    ]
    if dice.random() < 0.3:
        facts.append(dice.choice((("gpus", dice.randrange(5)), ("disk_gib", dice.randrange(100, 4000)))))
    if dice.random() < 0.3:
        dice.shuffle(facts)
    return dict(facts)


def models(dice: random.Random) -> Mapping[str, object]:
    """What `list_models` might return."""
    count = dice.choice((0, 1, 1, 2, 2, 3, 4))
    return {"models": [f"{dice.choice(NAMES)}-{dice.choice(SIZES)}-{dice.choice(QUANTS)}" for _ in range(count)]}
