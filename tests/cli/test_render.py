"""What programs read of what people see."""

import io
import os
import pty
import re
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.cli.render import column_widths, plain_lines, say, show_sections, wrapped
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


def test_a_table_that_fits_is_as_wide_as_its_cells() -> None:
    assert column_widths((("name", "n"), ("a", "two words")), 80) == (4, 9)


def test_words_stay_whole_where_a_table_is_narrowed() -> None:
    rows = (("day", "then first token", "decode"), ("2026-11-22", "118 ms", "899 tokens/s"))
    assert column_widths(rows, 30) == (10, 8, 8)
    assert column_widths(rows, 26) is None


def test_only_long_words_behind_the_first_column_are_broken() -> None:
    path = "/models/" + "x" * 60
    assert column_widths((("id", path),), 40) == (2, 36)
    assert column_widths(((path, "id"),), 40) is None


@given(st.lists(st.tuples(*[st.text("ab cd", max_size=30)] * 3), min_size=1, max_size=4), st.integers(1, 90))
def test_a_table_is_never_wider_than_the_terminal(rows: list[tuple[str, ...]], room: int) -> None:
    widths = column_widths(rows, room)
    assert widths is None or sum(widths) + 2 * 2 <= room


def in_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, name: str) -> tuple[int, io.TextIOWrapper]:
    """A terminal of so many columns in place of the stream of that name, and where to read what it shows."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    shown, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    stream = open(terminal, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - the caller closes it
    monkeypatch.setattr(sys, name, stream)
    return shown, stream


def test_a_table_too_wide_for_the_terminal_is_told_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, terminal = in_a_terminal(monkeypatch, 20, "stdout")
    section = Section(title="Models", rows=(("qwen3-coder", "/a/" + "b" * 20), ("a", "")), header=("model", "path"))
    with terminal:
        show_sections((section,))
        lines = os.read(shown, 4096).decode().splitlines()
    os.close(shown)
    assert [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in lines] == [
        "Models", "model  qwen3-coder", "path   /a/bbbbbbbbbb", "       bbbbbbbbbb", "", "model  a", "path",
    ]  # fmt: skip


def test_what_follows_a_label_stands_below_its_text() -> None:
    assert wrapped("machine  two cores, avx2 avx512f", 20) == "machine  two cores,\n         avx2\n         avx512f"
    assert wrapped("  one two three", 9) == "  one two\n  three"
    assert wrapped("/a/path/that/is-longer than", 12) == "/a/path/that/is-longer\nthan"
    assert wrapped("fits  so\nnote  this does not", 14) == "fits  so\nnote  this\n      does not"


def test_lines_break_in_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    say("note     " + "word " * 30 + "end")
    assert capsys.readouterr().err.count("\n") == 1
    shown, terminal = in_a_terminal(monkeypatch, 40, "stderr")
    with terminal:
        say("note     " + "word " * 30 + "end")
        lines = os.read(shown, 4096).decode().splitlines()
    os.close(shown)
    assert len(lines) > 1
    assert all(len(line) <= 40 for line in lines)
