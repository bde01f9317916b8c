"""``bercail load MODEL``."""

import asyncio
import os

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say
from bercail.core.options import ServerOptions
from bercail.flows import load
from bercail.wiring import build_house


@click.command("load")
@click.argument("model")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(ServerOptions)
def command(model: str, *, config: str | None, **parameters: object) -> None:
    """Have the running server bring MODEL into memory; returns when it is ready."""
    moved = asyncio.run(load(build_house(config, overrides(parameters)), model, os.environ.get("BERCAIL_KEY", "")))
    say(f"{moved.id} was in memory already" if moved.was == "ready" else f"loaded   {moved.id}")
