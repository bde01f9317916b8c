"""A completion with a ``suffix``: both sides of a gap, put into the prompt that models learn to fill it by.

llama.cpp's ``/v1/completions`` passes over a suffix without a word, and its ``/infill`` over what is longer than a part
of its batch (b11549); a prompt of ours is refused as every other that is too long.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bercail.core.chat import Json

MARKS = (
    "<|fim_prefix|><|fim_suffix|><|fim_middle|>",
    "<fim_prefix><fim_suffix><fim_middle>",
    "<fim-prefix><fim-suffix><fim-middle>",
    "<｜fim▁begin｜><｜fim▁hole｜><｜fim▁end｜>",  # noqa: RUF001 - so DeepSeek writes them
    "<|code_prefix|><|code_suffix|><|code_middle|>",
    "▁<PRE>▁<SUF>▁<MID>",
    "<PRE><SUF><MID>",
)
"""How families of models write the tokens before a gap's two sides, and before what is to be made."""
_OF_A_FAMILY = 3
Tokens = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a model's own tokens for gaps are.

    Attributes:
        opening: what every prompt of it begins with.
    """

    opening: tuple[int, ...]
    before: int
    after: int
    here: int


def frame_in(marks: Tokens, prompt: Tokens) -> Frame | None:
    """The frame that one of ``MARKS`` is; None where the model has no such tokens.

    Args:
        marks: how the model reads them.
        prompt: how it reads them as a prompt, with what every prompt begins and ends with.
    """
    if len(marks) != _OF_A_FAMILY:
        return None
    before, after, here = marks
    opening = prompt[: prompt.index(before)] if before in prompt else ()
    return Frame(opening=tuple(opening), before=before, after=after, here=here)


def framed(body: Json, frame: Frame, before: Tokens, after: Tokens) -> Json:
    """A request for a completion of tokens in place of one with a suffix."""
    prompt = [*frame.opening, frame.before, *before, frame.after, *after, frame.here]
    return {name: value for name, value in body.items() if name != "suffix"} | {"prompt": prompt}
