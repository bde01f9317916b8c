"""The size of embeddings, as an answer tells it."""

from bercail.core.chat import ApiError, Json

_VALUE_BYTES = 4
"""Base64 holds 32-bit floats."""


def other_size(answer: Json, dimensions: int, model: str) -> ApiError | None:
    """Why an answer is not what was asked for: its vectors have another size; None if they have that one, or none.

    llama.cpp passes over ``dimensions`` (b11549). To shorten vectors here would be wrong for all models that were not
    trained for it, and no file tells which were.

    Args:
        answer: of ``/v1/embeddings``.
        dimensions: values that each vector was to have.
        model: its name.
    """
    rows = answer.get("data")
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return not_made(_size(first.get("embedding")), dimensions, model)


def not_made(size: int | None, dimensions: int | None, model: str) -> ApiError | None:
    """Why vectors of ``dimensions`` values are not to be had of a model that makes them of ``size``; None if they are.

    Args:
        size: None if it is not known.
        dimensions: None if none are asked for.
        model: its name.
    """
    if size is None or dimensions is None or size == dimensions:
        return None
    words = f"dimensions {dimensions} is not to be had: {model} makes vectors of {size} values, and its engine does not"
    return ApiError(
        status=400,
        message=f"{words} shorten them: leave it out",
        param="dimensions",
        code="dimensions_unsupported",
    )


def _size(vector: object) -> int | None:
    """Values of a vector, written as a list or in Base64."""
    if isinstance(vector, list):
        return len(vector)
    if isinstance(vector, str):
        return (len(vector) * 3 // 4 - vector[-2:].count("=")) // _VALUE_BYTES
    return None
