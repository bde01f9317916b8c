"""Both sides of a gap, put into the prompt that models learn to fill it by."""

import pytest

from bercail.core.gap import MARKS, Frame, frame_in, framed

FRAME = Frame(opening=(1,), before=7, after=8, here=9)


@pytest.mark.parametrize(
    ("prompt", "opening"),
    [([1, 7, 8, 9], (1,)), ([7, 8, 9], ()), ([7, 8, 9, 2], ()), ([1, 7, 8, 9, 2], (1,)), ([], ())],
)
def test_a_frame_is_three_tokens_and_what_every_prompt_begins_with(prompt: list[int], opening: tuple[int, ...]) -> None:
    assert frame_in([7, 8, 9], prompt) == Frame(opening=opening, before=7, after=8, here=9)


@pytest.mark.parametrize("marks", [[], [7, 8], [7, 8, 9, 10], list(range(30))])
def test_what_is_read_as_anything_else_is_no_frame(marks: list[int]) -> None:
    assert frame_in(marks, [1, *marks]) is None


def test_the_sides_stand_behind_their_marks_and_all_else_stays() -> None:
    body = {"prompt": "a", "suffix": "b", "n": 2, "stream": True, "logprobs": 1}
    assert framed(body, FRAME, [20, 21], [30]) == {
        "prompt": [1, 7, 20, 21, 8, 30, 9], "n": 2, "stream": True, "logprobs": 1,
    }  # fmt: skip
    assert framed({"suffix": "b"}, FRAME, [], [30]) == {"prompt": [1, 7, 8, 30, 9]}


def test_no_family_is_named_twice() -> None:
    assert len(set(MARKS)) == len(MARKS)
