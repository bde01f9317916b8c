"""``bercail ps``."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say, show_json, show_sections
from bercail.core.options import ServerOptions
from bercail.core.report import Section
from bercail.flows import running
from bercail.wiring import build_house

_COLUMNS = {
    "model": "model", "state": "state", "engine": "engine", "requests": "requests", "waiting": "waiting",
    "slots": "slots", "context_length": "context", "cores": "cores", "numa": "node",
}  # fmt: skip


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.running/1 instead of a table.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(ServerOptions)
def command(*, as_json: bool, config: str | None, **parameters: object) -> None:
    """List the models that the running server has in memory, with the requests they serve and those that wait."""
    rows = asyncio.run(running(build_house(config, overrides(parameters)), os.environ.get("BERCAIL_KEY", "")))
    if as_json:
        show_json({"schema": "bercail.running/1", "running": [dict(row) for row in rows]})
    elif rows:
        show_sections(_sections(rows))
    else:
        say("nothing is loaded; the first request for a model loads it")


def _sections(rows: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """What is in memory, and why those that are kept to some cores have these."""
    whole = Section(title="In memory", rows=tuple(map(_row, rows)), header=tuple(_COLUMNS.values()))
    kept = tuple((str(row["model"]), str(row["cores_because"])) for row in rows if row.get("cores"))
    return (whole, Section(title="Why these cores", rows=kept, header=("model", "because"))) if kept else (whole,)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple("-" if row.get(name) is None else str(row[name]) for name in _COLUMNS)
