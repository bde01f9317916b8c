"""``bercail logs [MODEL]``."""

import asyncio
import os

import click

from bercail.cli.render import show
from bercail.cli.server import server, with_server
from bercail.flows import logs


@click.command("logs")
@click.argument("model", required=False, default="")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C or the end of the server.")
@with_server
def command(model: str, *, follow: bool, config: str | None, **parameters: object) -> None:
    """Show what the running server and its engines said last.

    With MODEL only what its engine said; proxy is what the server said itself, upstream what all engines said.
    """
    house = server(config, parameters)

    async def print_all() -> None:
        async for line in logs(house, model, follow=follow, key=os.environ.get("BERCAIL_KEY", "")):
            show(line)

    asyncio.run(print_all())
