import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.vectors import other_size


def packed(size: int) -> str:
    return base64.b64encode(struct.pack(f"<{size}f", *[0.5] * size)).decode()


@given(st.integers(1, 40), st.integers(1, 40))
def test_vectors_of_another_size_are_told_however_they_are_written(size: int, asked: int) -> None:
    for vector in ([0.5] * size, packed(size)):
        error = other_size({"data": [{"embedding": vector}]}, asked, "tiny")
        assert (error is None) == (size == asked)
        if error is not None:
            assert (error.status, error.param) == (400, "dimensions")
            assert error.message.startswith(f"dimensions {asked} is not to be had: tiny makes vectors of {size} values")


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": [5]}, {"data": [{}]}, {"data": [{"embedding": 5}]}])
def test_an_answer_that_tells_no_size_is_not_judged(answer: dict[str, object]) -> None:
    assert other_size(answer, 3, "tiny") is None
