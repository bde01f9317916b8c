"""Values to the terminal: results to stdout, everything else to stderr. Readable without colour.

Lines are written plainly; ``rich`` is imported where a table or a bar is drawn, for it takes a while to load.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
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


class Style(StrEnum):
    """How a line looks where colour is wanted; SGR parameters of ECMA-48."""

    PLAIN = ""
    DIM = "2"
    WARNING = "33"
    ERROR = "1;31"


def say(text: str, style: Style = Style.PLAIN) -> None:
    """A line on stderr."""
    _write(sys.stderr, text, style)


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
        console.print(_table(section))


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


def _table(section: Section) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=bool(section.header), box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for title in section.header or tuple("" for _ in section.rows[0]):
        table.add_column(title, overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
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
