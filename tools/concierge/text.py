"""The training text: topics read from YAML, their patterns expanded, their wording varied as people vary it."""

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = ("en", "fr")
PARTS = {"ask", "say", "names"}


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is eight times as fast, and not in every build of PyYAML."""


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


def read_yaml(path: Path) -> Any:
    """What the file at `path` holds."""
    return yaml.load(path.read_text(encoding="utf-8"), _LOADER)


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


def read_frames() -> Mapping[str, Choice]:
    """The usual ways, by language, to ask what something is; `{}` stands for a name of it."""
    told = read_yaml(Path(__file__).with_name("frames.yaml"))
    return {language: parse_pattern("|".join(told[language])) for language in LANGUAGES}


def _framed(frame: Choice, names: Choice) -> Choice:
    """`frame` with `names` in every place of `{}`."""
    options: list[tuple[str | Choice, ...]] = []
    for option in frame.options:
        parts: list[str | Choice] = []
        for part in option:
            if isinstance(part, Choice):
                parts.append(_framed(part, names))
            else:
                before, *rest = part.split("{}")
                parts.append(before)
                for text in rest:
                    parts += [names, text]
        options.append(tuple(parts))
    return Choice(tuple(options))


def read_topics(folder: Path) -> list[Wording]:
    """All topics of the YAML files in `folder`, by file name and then in their order.

    Several files may ask for one topic, each in the words of its author; one of them answers. An author may give
    `names` of the topic too, for which people ask as `frames.yaml` has it.

    Raises:
        TextError: a file that is no list of topics, asks that cannot be read, an answer missing or given twice.
    """
    frames = read_frames()
    asks: dict[tuple[str, str], list[Choice]] = {}
    says: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.yaml")):
        for entry in read_yaml(path):
            for language in LANGUAGES:
                key = (str(entry.get("id", "")), language)
                say, more = _entry(path.name, key, entry, frames[language])
                if say and key in says:
                    raise TextError(f"{path.name}: {key[0]} in {language} is answered twice")
                asks.setdefault(key, []).extend(more)
                if say:
                    says[key] = say
    for topic, language in asks.keys() - says.keys():
        raise TextError(f"{topic} in {language} is asked and has no answer")
    return [Wording(topic, language, tuple(found), says[topic, language]) for (topic, language), found in asks.items()]


def _entry(
    file: str, key: tuple[str, str], entry: Mapping[str, Mapping[str, Any]], frames: Choice
) -> tuple[str, list[Choice]]:
    """Answer, which may be empty, and ways to ask, of one entry in one language."""
    topic, language = key
    where = f"{file}: {topic or 'a topic without an id'} in {language}"
    part = entry.get(language)
    asks = part.get("ask") if isinstance(part, dict) else None
    if not topic or not isinstance(part, dict) or not asks or not isinstance(asks, list) or set(part) - PARTS:
        raise TextError(f"{where} needs a list `ask`, and may have `say` and `names`, nothing else")
    try:
        patterns = [parse_pattern(str(ask)) for ask in asks]
        if names := part.get("names"):
            patterns += [_framed(frames, parse_pattern(str(names)))] * 2
    except TextError as error:
        raise TextError(f"{where}: {error}") from error
    return str(part.get("say", "")).strip(), patterns


def draw_ask(asks: Sequence[Choice], dice: random.Random) -> str:
    """A sentence of one of `asks`; patterns with more sentences come more often, by the fourth root of their number."""
    weights = [count(ask) ** 0.25 for ask in asks]
    return draw(dice.choices(asks, weights)[0], dice)


@dataclass(frozen=True, slots=True)
class Manner:
    """How one and the same question differs from person to person, in one language.

    Attributes:
        others: what each word or phrase may be replaced by.
        known: finds those words and phrases, the longest first.
        dropped: small words that may be left out.
    """

    openings: tuple[str, ...]
    closings: tuple[str, ...]
    others: Mapping[str, tuple[str, ...]]
    known: re.Pattern[str]
    dropped: frozenset[str]


def read_manners() -> Mapping[str, Manner]:
    """The manner of each language: `manner.yaml`."""
    told = read_yaml(Path(__file__).with_name("manner.yaml"))
    return {language: _manner({part: found[language] for part, found in told.items()}) for language in LANGUAGES}


def _manner(told: Mapping[str, Any]) -> Manner:
    others: dict[str, tuple[str, ...]] = {}
    for group in told["synonyms"]:
        for phrase in group:
            others.setdefault(phrase, tuple(other for other in group if other != phrase))
    found = "|".join(re.escape(phrase) for phrase in sorted(others, key=len, reverse=True))
    return Manner(
        openings=tuple(told["openings"]),
        closings=tuple(told["closings"]),
        others=others,
        known=re.compile(rf"\b({found})\b"),
        dropped=frozenset(told["dropped"]),
    )


MANNERS = read_manners()
QUOTES = {"en": ('"{}"', "'{}'", "`{}`"), "fr": ("« {} »", '"{}"', "«{}»")}


def reword(ask: str, language: str, dice: random.Random) -> str:
    """`ask` with a word replaced here and there by its like, and now and then without one of its small words."""
    manner = MANNERS[language]

    def other(found: re.Match[str]) -> str:
        return dice.choice(manner.others[found[0]]) if dice.random() < 0.2 else found[0]

    ask = manner.known.sub(other, ask)
    words = ask.split(" ")
    small = [index for index, word in enumerate(words) if word in manner.dropped]
    if small and len(words) > 4 and dice.random() < 0.12:
        del words[dice.choice(small)]
    return " ".join(words)


def vary(ask: str, language: str, dice: random.Random) -> str:
    """`ask` as somebody might type it: words, case, accents, punctuation, politeness, a slip of the finger."""
    manner = MANNERS[language]
    ask = reword(ask, language, dice)
    if dice.random() < 0.2:
        ask = dice.choice(manner.openings) + ask
    if dice.random() < 0.1:
        ask = ask.rstrip(" ?!.") + dice.choice(manner.closings)
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
    if dice.random() < 0.06:
        ask = quoted(ask, language, dice)
    return slip(ask, dice) if dice.random() < 0.12 else ask


def quoted(text: str, language: str, dice: random.Random) -> str:
    """`text` with one word of three letters or more in quotation marks."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 3 and word.isalpha()]
    if long:
        index = dice.choice(long)
        words[index] = dice.choice(QUOTES[language]).format(words[index])
    return " ".join(words)


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
