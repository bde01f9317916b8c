import pytest

from bercail.cli.chat import leaves


@pytest.mark.parametrize(
    ("text", "leave"),
    [("/bye", True), ("/exit", True), ("/quit", True), ("exit", True), ("quit", True), ("how do I quit?", False)],
)
def test_the_words_that_end_other_programs_end_a_conversation(text: str, *, leave: bool) -> None:
    assert leaves(text) is leave
