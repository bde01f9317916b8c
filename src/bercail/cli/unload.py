"""``bercail unload MODEL``."""

import asyncio
import os

import click

from bercail.cli.render import say
from bercail.cli.server import server, with_server
from bercail.flows import unload


@click.command("unload")
@click.argument("model")
@with_server
def command(model: str, *, config: str | None, **parameters: object) -> None:
    """Have the running server let MODEL finish what it serves and leave memory; returns when it has."""
    moved = asyncio.run(unload(server(config, parameters), model, os.environ.get("BERCAIL_KEY", "")))
    absent = moved.was in ("stopped", "failed")
    say(f"{moved.id} was not in memory" if absent else f"unloaded {moved.id}")
