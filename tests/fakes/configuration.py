"""Configurations from text, as the store reads them."""

from collections.abc import Mapping
from textwrap import dedent

import pytest

from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration
from bercail.core.declared import Declared
from bercail.core.errors import SettingsError
from bercail.store.contents import read_contents


def configuration(text: str, environment: Mapping[str, str] | None = None) -> Configuration:
    """What a file with this text declares."""
    return read_contents(dedent(text), origin="c.yaml", environment=environment or {}).configuration


def refused(text: str, environment: Mapping[str, str] | None = None) -> SettingsError:
    """The error for a file with this text."""
    with pytest.raises(SettingsError) as caught:
        configuration(text, environment)
    return caught.value


def model(text: str, name: str = "m", environment: Mapping[str, str] | None = None) -> Declared:
    """One of the models that a file with this text declares."""
    return next(found for found in configuration(text, environment).models if found.id == name)


def command(text: str, name: str = "m", environment: Mapping[str, str] | None = None) -> CommandSpec:
    """The command of one of them, at the port that it is given first."""
    source = model(text, name, environment).source
    assert isinstance(source, CommandSpec)
    return source if source.port is None else source.at(source.port)


def notes(text: str) -> list[tuple[int, str]]:
    """Line and text of every note on a file."""
    return [(note.line, note.text) for note in configuration(text).notes]
