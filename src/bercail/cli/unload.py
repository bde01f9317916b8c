"""``bercail unload MODEL``."""

import asyncio
import os

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say
from bercail.core.options import ServerOptions
from bercail.flows import unload
from bercail.wiring import build_house


@click.command("unload")
@click.argument("model")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(ServerOptions)
def command(model: str, *, config: str | None, **parameters: object) -> None:
    """Have the running server let MODEL finish what it serves and leave memory; returns when it has."""
    moved = asyncio.run(unload(build_house(config, overrides(parameters)), model, os.environ.get("BERCAIL_KEY", "")))
    absent = moved.was in ("stopped", "failed")
    say(f"{moved.id} was not in memory" if absent else f"unloaded {moved.id}")
