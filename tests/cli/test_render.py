"""What programs read of what people see."""

import pytest

from bercail.cli.render import plain_lines, show_sections
from bercail.core.report import Section

LONG = "word " * 100 + "end"
SECTION = Section(
    title="Models", rows=(("a", LONG, "1"), ("long-name", "two\nlines", "")), header=("name", "text", "n")
)


def test_a_row_is_a_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    show_sections((SECTION, Section(title="Other", rows=(("x",),))))
    title, header, first, second, blank, *other = capsys.readouterr().out.splitlines()
    assert (title, blank, other) == ("Models", "", ["Other", "x"])
    assert header.split() == ["name", "text", "n"]
    assert first == f"a          {LONG}  1"
    assert second == "long-name  two lines"


def test_columns_stand_below_each_other_where_signs_are_wide() -> None:
    lines = tuple(plain_lines(Section(title="t", rows=(("\u6a21\u578b", "x"), ("abcd", "y")))))
    assert lines == ("t", "\u6a21\u578b  x", "abcd  y")


def test_the_bar_of_memory_stands_above_its_table() -> None:
    assert tuple(plain_lines(Section(title="Memory", rows=(("w", "1"),), bar="[ww.]"))) == ("Memory", "[ww.]", "w  1")
