"""``bercail ps``."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from bercail.cli.render import Style, say, show_json, show_sections
from bercail.cli.server import servers, with_server
from bercail.core.report import Section
from bercail.flows import running_at

_COLUMNS = {
    "model": "model", "state": "state", "engine": "engine", "requests": "requests", "waiting": "waiting",
    "slots": "slots", "context_length": "context", "cores": "cores", "numa": "node",
}  # fmt: skip
_SELDOM = ("cores", "numa")


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.running/1 instead of a table.")
@with_server
def command(*, as_json: bool, config: str | None, **parameters: object) -> None:
    """List the models that running servers have in memory, with the requests they serve and those that wait.

    All servers that this user runs here are asked, unless one of them is named.
    """
    told = asyncio.run(running_at(servers(config, parameters), os.environ.get("BERCAIL_KEY", "")))
    if as_json:
        rows = [{"server": one.place, **row} for one in told for row in one.rows]
        places = [{"server": one.place, "error": str(one.error) if one.error else None} for one in told]
        show_json({"schema": "bercail.running/1", "running": rows, "servers": places})
        return
    for one in told:
        where = f" at {one.place}" if len(told) > 1 else ""
        if one.error is not None:
            say(f"{one.place}: {one.error}", Style.WARNING)
        elif one.rows:
            show_sections(sections(one.rows, where))
        else:
            say(f"nothing is loaded{where}; the first request for a model loads it")


def sections(rows: Sequence[Mapping[str, Any]], where: str) -> tuple[Section, ...]:
    """What is in memory, and why those that are kept to some cores have these."""
    names = [name for name in _COLUMNS if name not in _SELDOM or any(row.get(name) is not None for row in rows)]
    cells = tuple(tuple("-" if row.get(name) is None else str(row[name]) for name in names) for row in rows)
    whole = Section(title=f"In memory{where}", rows=cells, header=tuple(_COLUMNS[name] for name in names))
    kept = tuple((str(row["model"]), str(row["cores_because"])) for row in rows if row.get("cores"))
    return (whole, Section(title="Why these cores", rows=kept, header=("model", "because"))) if kept else (whole,)
