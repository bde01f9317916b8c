"""``bercail profile``."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import click

from bercail.cli.render import say, show_json, show_sections
from bercail.cli.server import server, with_server
from bercail.core.errors import UsageError
from bercail.core.report import Section
from bercail.flows import profiles, switch


@click.command("profile")
@click.argument("name", required=False)
@click.option("--none", "none", is_flag=True, help="Put none in force.")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.profiles/1 instead of a table.")
@with_server
def command(name: str | None, *, none: bool, as_json: bool, config: str | None, **parameters: object) -> None:
    """List the profiles of the running server, or put NAME in force: which names stand for which models."""
    if name is not None and none:
        raise UsageError("a profile is named, and none is asked for", hint="leave one of them out")
    house, key = server(config, parameters), os.environ.get("BERCAIL_KEY", "")
    told = asyncio.run(switch(house, name, key) if none or name is not None else profiles(house, key))
    if as_json:
        show_json({"schema": "bercail.profiles/1", **told})
    elif not told.get("profiles"):
        say("the server has no profiles; its configuration declares them")
    else:
        rows = tuple(_row(row, told.get("active")) for row in told["profiles"])
        show_sections((Section(title="Profiles", rows=rows, header=("", "profile", "names", "description")),))


def _row(row: Mapping[str, Any], active: object) -> tuple[str, ...]:
    pins = ", ".join(f"{name}={target or 'none'}" for name, target in row["pins"].items())
    return ("in force" if row["name"] == active else "", row["name"], pins, row["description"] or "-")
