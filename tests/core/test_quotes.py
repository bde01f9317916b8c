"""Quotes that became part of a path are told as that."""

import pytest

from bercail.core.quotes import in_quotes, told


@pytest.mark.parametrize(
    "path",
    ["'~/x.gguf'", '"/m/x.gguf"', "`x`", "“x.gguf”", "‘/m/x.gguf’", "/home/me/'/m/x.gguf'", "/here/'x'"],  # noqa: RUF001
)
def test_a_path_in_quotes_is_known_also_behind_a_folder(path: str) -> None:
    assert in_quotes(path)
    assert told(path, "check the path") == "the quotes are part of that name: write it without them"


@pytest.mark.parametrize("path", ["", "'", "/m/x.gguf", "/m/Ann's/x.gguf", "/m/x'", "'/m/x", "/m/it's", "'x\""])
def test_other_paths_are_left_alone(path: str) -> None:
    assert told(path) == ""
    assert told(path, "check the path") == "check the path"
