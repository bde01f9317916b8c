"""``bercail serve --config FILE``."""

import asyncio

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.tell import JsonTeller, Teller, TerminalTeller
from bercail.cli.up import serve
from bercail.core.options import EngineOptions, LibraryOptions, ServerOptions
from bercail.flows import Source
from bercail.wiring import build_configurations, build_house, new_loop


@click.command("serve")
@click.option(
    "--config", "-config", metavar="FILE", required=True, help="Our own configuration, or one written for llama-swap."
)
@click.option(
    "--watch", "-watch-config", is_flag=True, help="Read the file anew whenever it has changed, as SIGHUP does."
)
@click.option("--json-log", is_flag=True, help="Tell every step as a line of JSON on stdout.")
@with_options(ServerOptions, EngineOptions, LibraryOptions)
def command(*, config: str, watch: bool, json_log: bool, **parameters: object) -> None:
    """Serve what a configuration declares, for as long as the machine runs; nothing is asked.

    SIGHUP, or POST /api/config/reload, reads the file anew: only models that have changed start anew, after their
    requests have ended, and a file that is wrong changes nothing. With --watch that needs nobody to tell.
    `bercail config check FILE` says beforehand what a file declares.
    """
    teller: Teller = JsonTeller() if json_log else TerminalTeller()
    files = build_configurations()
    seen = files.look(config)  # before it is read, so that nothing that is written meanwhile is missed
    house = build_house(config, overrides(parameters), serving=True)
    source = Source(
        read=lambda: files.read(files.read_text(config), config),
        look=lambda: files.look(config),
        seen=seen,
        watched=watch,
    )
    with asyncio.Runner(loop_factory=new_loop) as runner, teller:
        runner.run(serve(house, (), teller, ask=False, source=source))
