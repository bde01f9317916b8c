"""``bercail logs [MODEL]``."""

import asyncio
import os

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import show
from bercail.core.options import ServerOptions
from bercail.flows import logs
from bercail.wiring import build_house


@click.command("logs")
@click.argument("model", required=False, default="")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C or the end of the server.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(ServerOptions)
def command(model: str, *, follow: bool, config: str | None, **parameters: object) -> None:
    """Show what the running server and its engines said last.

    With MODEL only what its engine said; proxy is what the server said itself, upstream what all engines said.
    """
    house = build_house(config, overrides(parameters))

    async def print_all() -> None:
        async for line in logs(house, model, follow=follow, key=os.environ.get("BERCAIL_KEY", "")):
            show(line)

    asyncio.run(print_all())
