"""Values to the terminal: results to stdout, everything else to stderr. Readable without colour."""

import json
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bercail.core.document import error_document
from bercail.core.errors import BercailError, EngineError
from bercail.core.report import Section

WIDEST = 140


def out() -> Console:
    """Where results go."""
    return _console(stderr=False)


def err() -> Console:
    """Where everything else goes."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDEST
    console = Console(stderr=stderr, highlight=False, soft_wrap=False, width=width)
    return Console(stderr=stderr, highlight=False, width=min(console.width, WIDEST))


def show_json(document: Mapping[str, object]) -> None:
    """A document on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_sections(sections: Iterable[Section]) -> None:
    """Sections as tables on stdout."""
    console = out()
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(_table(section))


def _table(section: Section) -> Table:
    table = Table(show_header=bool(section.header), box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    columns = section.header or tuple("" for _ in section.rows[0])
    for index, title in enumerate(columns):
        last = index == len(columns) - 1
        table.add_column(title, overflow="fold", no_wrap=not last and index > 0)
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def show_error(error: BercailError, *, as_json: bool) -> None:
    """An error on stderr: what happened, what to do, and the engine's last lines if it was the engine."""
    if as_json:
        sys.stderr.write(json.dumps(error_document(error), ensure_ascii=False) + "\n")
        return
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text(f"  {error.hint}"), soft_wrap=True)
    if isinstance(error, EngineError) and error.log_tail:
        console.print(Text("  the engine's last lines:", style="dim"))
        for line in error.log_tail:
            console.print(Text(f"    {line}", style="dim"), soft_wrap=True)
