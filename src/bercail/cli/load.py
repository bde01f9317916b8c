"""``bercail load MODEL``."""

import asyncio
import os

import click

from bercail.cli.render import say
from bercail.cli.server import server, with_server
from bercail.flows import load


@click.command("load")
@click.argument("model")
@with_server
def command(model: str, *, config: str | None, **parameters: object) -> None:
    """Have the running server bring MODEL into memory; returns when it is ready."""
    moved = asyncio.run(load(server(config, parameters), model, os.environ.get("BERCAIL_KEY", "")))
    say(f"{moved.id} was in memory already" if moved.was == "ready" else f"loaded   {moved.id}")
