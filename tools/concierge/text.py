"""The training text: topics read from YAML, their patterns expanded, their wording varied as people vary it."""

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

LANGUAGES = ("en", "fr")
REFUSAL = "refusal"


class TextError(ValueError):
    """The training text is not as it should be: which file, which topic, what."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences, each of words and further choices."""

    options: tuple[tuple["str | Choice", ...], ...]


@dataclass(frozen=True, slots=True)
class Wording:
    """One topic in one language: ways to ask, and the answer."""

    topic: str
    language: str
    asks: tuple[Choice, ...]
    say: str


def parse_pattern(text: str) -> Choice:
    """`text` with its alternatives `(a|b|)`, which may nest.

    Raises:
        TextError: a bracket that is not closed or not opened.
    """
    choice, rest = _parse_choice(text, 0)
    if rest != len(text):
        raise TextError(f"a bracket is closed that was not opened, at {rest}: {text}")
    return choice


def _parse_choice(text: str, at: int) -> tuple[Choice, int]:
    options: list[tuple[str | Choice, ...]] = []
    parts: list[str | Choice] = []
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            options.append(tuple(parts))
            parts = []
            at += 1
        elif text[at] == "(":
            inner, at = _parse_choice(text, at + 1)
            if at >= len(text):
                raise TextError(f"a bracket is not closed: {text}")
            parts.append(inner)
            at += 1
        else:
            end = min((found for mark in "(|)" if (found := text.find(mark, at)) >= 0), default=len(text))
            parts.append(text[at:end])
            at = end
    return Choice((*options, tuple(parts))), at


def count(choice: Choice) -> int:
    """How many sentences `choice` stands for."""
    total = 0
    for option in choice.options:
        ways = 1
        for part in option:
            ways *= count(part) if isinstance(part, Choice) else 1
        total += ways
    return total


def draw(choice: Choice, dice: random.Random) -> str:
    """One sentence of `choice`, blanks tidied."""
    return re.sub(r"\s+", " ", _draw(choice, dice)).strip()


def _draw(choice: Choice, dice: random.Random) -> str:
    option = dice.choice(choice.options)
    return "".join(_draw(part, dice) if isinstance(part, Choice) else part for part in option)


def read_topics(folder: Path) -> list[Wording]:
    """All topics of the YAML files in `folder`, by file name and then in their order.

    Raises:
        TextError: a file that is no list of topics, a missing language, an empty answer, a topic told twice.
    """
    wordings: list[Wording] = []
    seen: set[str] = set()
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            topic = str(entry.get("id", ""))
            if not topic or topic in seen:
                raise TextError(f"{path.name}: topic {topic or 'without an id'} is told twice or has no name")
            seen.add(topic)
            wordings += [_wording(path.name, topic, language, entry) for language in LANGUAGES]
    return wordings


def _wording(file: str, topic: str, language: str, entry: Mapping[str, Mapping[str, object]]) -> Wording:
    try:
        part = entry[language]
        asks, say = part["ask"], part["say"]
    except KeyError as error:
        raise TextError(f"{file}: {topic} lacks {error} in {language}") from error
    if not isinstance(asks, list) or not asks or not isinstance(say, str) or not say.strip():
        raise TextError(f"{file}: {topic} in {language} needs a list `ask` and a text `say`")
    try:
        patterns = tuple(parse_pattern(str(ask)) for ask in asks)
    except TextError as error:
        raise TextError(f"{file}: {topic} in {language}: {error}") from error
    return Wording(topic, language, patterns, say.strip())


def draw_ask(asks: Sequence[Choice], dice: random.Random) -> str:
    """A sentence of one of `asks`; patterns with more sentences come more often, by the fourth root of their number."""
    weights = [count(ask) ** 0.25 for ask in asks]
    return draw(dice.choices(asks, weights)[0], dice)


OPENINGS = {
    "en": (
        "hi, ",
        "hello, ",
        "hey, ",
        "please tell me: ",
        "quick question: ",
        "so, ",
        "ok, ",
        "hi! ",
        "hello! ",
        "well, ",
        "excuse me, ",
        "i have a question: ",
        "just wondering, ",
        "sorry, ",
        "and ",
    ),
    "fr": (
        "bonjour, ",
        "salut, ",
        "dis-moi, ",
        "dites-moi, ",
        "une question : ",
        "alors, ",
        "bonjour ! ",
        "salut ! ",
        "euh, ",
        "excusez-moi, ",
        "j'ai une question : ",
        "dis, ",
        "pardon, ",
        "et ",
        "coucou, ",
    ),
}
CLOSINGS = {
    "en": (
        " please",
        ", please?",
        " thanks",
        " thank you",
        ", can you tell me?",
        " exactly?",
        " by the way?",
        " here?",
    ),
    "fr": (
        " s'il te plaît",
        " s'il vous plaît ?",
        " merci",
        " svp",
        " stp",
        ", tu sais ?",
        " exactement ?",
        " au juste ?",
        " ici ?",
    ),
}


def vary(ask: str, language: str, dice: random.Random) -> str:
    """`ask` as somebody might type it: case, accents, punctuation, politeness, a slip of the finger."""
    if dice.random() < 0.15:
        ask = dice.choice(OPENINGS[language]) + ask
    if dice.random() < 0.08:
        ask = ask.rstrip(" ?!.") + dice.choice(CLOSINGS[language])
    style = dice.random()
    if style < 0.55:
        ask = ask[:1].upper() + ask[1:]
    elif style < 0.85:
        ask = ask.lower()
    if dice.random() < 0.25:
        ask = ask.rstrip(" ?!.")
    elif ask[-1:] not in "?!." and dice.random() < 0.4:
        ask += "?" if language == "en" else " ?"
    if language == "fr" and dice.random() < 0.2:
        ask = without_accents(ask)
    if language == "fr" and dice.random() < 0.3:
        ask = ask.replace(" ?", "?").replace(" !", "!")
    ask = ask.replace("Bercail", "bercail") if dice.random() < 0.3 else ask.replace("bercail", "Bercail")
    return slip(ask, dice) if dice.random() < 0.12 else ask


def without_accents(text: str) -> str:
    """`text` in plain letters."""
    return "".join(mark for mark in unicodedata.normalize("NFD", text) if not unicodedata.combining(mark))


def slip(text: str, dice: random.Random) -> str:
    """`text` with one word of four letters or more mistyped."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    index = dice.choice(long)
    word = words[index]
    at = dice.randrange(1, len(word) - 1)
    words[index] = dice.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at] + word[at:],
        )
    )
    return " ".join(words)
