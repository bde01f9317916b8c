"""What a waiting stream tells."""

from typing import Any

import pytest

from bercail.core.loading import Wait, arrived, thought, words
from bercail.core.route import Phase


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (Wait(model="m", phase=Phase.UNLOADED, position=1), "Waiting for room for m"),
        (Wait(model="m", phase=Phase.UNLOADED, position=3), "Waiting for room for m, number 3 in line"),
        (Wait(model="m", phase=Phase.LOADING, position=1), "Loading m"),
        (Wait(model="m", phase=Phase.LOADING, position=2), "Loading m, number 2 in line"),
        (Wait(model="m", phase=Phase.LOADING, position=2, progress=0.999), "Loading m: 90 %, number 2 in line"),
        (Wait(model="m", phase=Phase.LOADING, position=1, progress=1.0), "Loading m: 100 %"),
        (Wait(model="m", phase=Phase.LOADED, position=1), "m is busy: number 1 in line"),
        (Wait(model="m", phase=Phase.FAILED, position=1), "m failed, and is started once more"),
    ],
)
def test_it_tells_what_is_waited_for(wait: Wait, said: str) -> None:
    assert words(wait) == said


def test_it_says_nothing_new_for_a_percent() -> None:
    before, after = (Wait(model="m", phase=Phase.LOADING, position=1, progress=part) for part in (0.41, 0.42))
    assert words(before) == words(after)


def test_it_is_reasoning_and_no_part_of_the_answer() -> None:
    made = thought(arrived("m", 1.234), "m", 5)
    assert made["object"] == "chat.completion.chunk"
    assert (made["model"], made["created"]) == ("m", 5)
    choices: Any = made["choices"]
    assert choices[0]["delta"] == {"role": "assistant", "reasoning_content": "m is ready after 1.2 s"}
