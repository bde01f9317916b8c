"""What a configuration asks for and does not get is told."""

from dataclasses import replace

import pytest

from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Gateway
from bercail.core.declared import Declared, ModelFile
from bercail.core.unserved import unserved

PLAIN = Declared(id="m", line=1, source=CommandSpec(model_id="m"))


@pytest.mark.parametrize(
    ("gateway", "word"),
    [
        (Gateway(sample_s=9), "performance"),
    ],
)
def test_of_the_whole(gateway: Gateway, word: str) -> None:
    (told,) = unserved(Configuration(gateway=gateway))
    assert word in told


def test_models_ask_for_nothing_that_is_not_done() -> None:
    declared = replace(PLAIN, source=ModelFile(path="x", gpus=("0",)))
    assert unserved(Configuration(models=(declared,))) == ()


def test_what_is_done_is_not_told() -> None:
    assert unserved(Configuration(models=(PLAIN, replace(PLAIN, source=ModelFile(path="x"))))) == ()
