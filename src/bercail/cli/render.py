"""Values to the terminal: results to stdout, everything else to stderr. Readable without colour.

Lines are written plainly; ``rich`` is imported where a table or a bar is drawn, for it takes a while to load.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, TextIO

from bercail.core.document import error_document
from bercail.core.errors import BercailError, EngineError, SettingsError
from bercail.core.report import Section

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDEST = 140
_GAP = 2
_LONGEST_WORD = 24


class Style(StrEnum):
    """How a line looks where colour is wanted; SGR parameters of ECMA-48."""

    PLAIN = ""
    DIM = "2"
    WARNING = "33"
    ERROR = "1;31"


def say(text: str, style: Style = Style.PLAIN) -> None:
    """A line on stderr; in a terminal that is too narrow for it, lines that break between words."""
    # asked of this stream, since stdout may be a pipe; 0 is a terminal that does not know its width
    columns = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    _write(sys.stderr, wrapped(text, columns) if columns else text, style)


def wrapped(text: str, columns: int) -> str:
    """A text in lines of at most so many columns, words whole; what follows a label stands below its text."""
    return "\n".join(_broken(line, columns) for line in text.split("\n"))


def _broken(line: str, columns: int) -> str:
    label = re.match(r"(\S+ {2,}| *)", line)
    indent = " " * label.end() if label else ""
    if len(line) <= columns or len(indent) * 2 > columns:
        return line
    words = line[len(indent) :]
    lead = line[: len(indent)]
    return textwrap.fill(
        words, columns, initial_indent=lead, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def show(text: str) -> None:
    """A line of a result on stdout."""
    _write(sys.stdout, text, Style.PLAIN)


def _write(stream: TextIO, text: str, style: Style) -> None:
    coloured = bool(style) and stream.isatty() and not os.environ.get("NO_COLOR")
    stream.write(f"\x1b[{style}m{text}\x1b[0m\n" if coloured else text + "\n")
    stream.flush()


def show_json(document: Mapping[str, object]) -> None:
    """A document on stdout."""
    show(json.dumps(document, ensure_ascii=False))


def show_sections(sections: Iterable[Section]) -> None:
    """Sections as tables on stdout; where no person watches, every row is one line, however long."""
    if not sys.stdout.isatty():
        show("\n\n".join("\n".join(plain_lines(section)) for section in sections))
        return
    console = make_console(sys.stdout)
    for number, section in enumerate(sections):
        if number:
            console.print()
        console.print(section.title, style="bold", markup=False)
        if section.bar:
            console.print(_bar(section.bar))
        console.print(_table(section, console.width))


def plain_lines(section: Section) -> Iterator[str]:
    """A section as a program reads it: its title, then a line for each row, its cells two blanks apart or more."""
    from rich.cells import cell_len

    yield section.title
    if section.bar:
        yield section.bar
    written = (*((section.header,) if section.header else ()), *section.rows)
    rows = [[" ".join(cell.split("\n")) for cell in row] for row in written]
    widths = [max(map(cell_len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False))
        yield "  ".join(cells).rstrip()


def make_console(stream: TextIO) -> "Console":
    """A console of ``rich`` on a stream, never wider than is pleasant to read."""
    from rich.console import Console

    width = min(Console(file=stream).width, WIDEST) if stream.isatty() else WIDEST
    return Console(file=stream, highlight=False, width=width)


_COLOURS = ("blue", "green", "yellow", "magenta", "cyan", "red", "white")


def _bar(letters: str) -> "Text":
    """The bar, each letter in a colour of its own where colour is wanted."""
    from rich.text import Text

    order = list(dict.fromkeys(letter for letter in letters if letter.isalpha()))
    bar = Text()
    for letter in letters:
        bar.append(letter, style=f"reverse {_COLOURS[order.index(letter) % len(_COLOURS)]}" if letter in order else "")
    return bar


def column_widths(rows: Sequence[Sequence[str]], room: int) -> tuple[int, ...] | None:
    """How many columns of the terminal each column of a table gets, so that words stay whole.

    Only words of more than 24 letters, such as paths, are broken; none in the first column, which holds names to copy.

    Args:
        rows: the cells, the header's among them.
        room: columns of the terminal.

    Returns:
        None if no such widths are within the room.
    """
    from rich.cells import cell_len

    columns = tuple(zip(*rows, strict=True))
    least = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    least = [least[0], *(min(width, _LONGEST_WORD) for width in least[1:])]
    widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    spare = room - _GAP * (len(columns) - 1)
    if sum(least) > spare:
        return None
    while sum(widths) > spare:
        widest = max((at for at, width in enumerate(widths) if width > least[at]), key=widths.__getitem__)
        widths[widest] -= 1
    return tuple(widths)


def _table(section: Section, room: int) -> "Table":
    header = section.header or tuple("" for _ in section.rows[0])
    widths = column_widths((header, *section.rows), room)
    if widths is None and section.header:
        return _records(section)
    from rich.text import Text

    table = _grid(titled=bool(section.header))
    for title, width in zip(header, widths or [None] * len(header), strict=True):
        table.add_column(title, overflow="fold", width=width)
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _grid(*, titled: bool) -> "Table":
    """A table without lines, ``_GAP`` between its columns."""
    from rich.table import Table

    return Table(show_header=titled, box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")


def _records(section: Section) -> "Table":
    """A table that is too wide for the terminal: each row as lines of a title and its cell."""
    from rich.text import Text

    table = _grid(titled=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for number, row in enumerate(section.rows):
        if number:
            table.add_row("", "")
        for title, cell in zip(section.header, row, strict=True):
            table.add_row(title, Text(cell))
    return table


def show_error(error: BercailError, *, as_json: bool) -> None:
    """An error on stderr: what happened, what to do, and the engine's last lines if it was the engine."""
    if as_json:
        say(json.dumps(error_document(error), ensure_ascii=False))
        return
    say(f"error: {error.message}", Style.ERROR)
    if error.hint:
        say(f"  {error.hint}")
    for other in error.others if isinstance(error, SettingsError) else ():
        show_error(other, as_json=False)
    if isinstance(error, EngineError) and error.log_tail:
        say("  the engine's last lines:", Style.DIM)
        for line in error.log_tail:
            say(f"    {line}", Style.DIM)
