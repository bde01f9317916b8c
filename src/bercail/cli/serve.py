"""``bercail serve --config FILE``."""

import asyncio

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.tell import JsonTeller, Teller, TerminalTeller
from bercail.cli.up import serve
from bercail.core.options import EngineOptions, LibraryOptions, ServerOptions
from bercail.wiring import build_configurations, build_house, new_loop


@click.command("serve")
@click.option("--config", metavar="FILE", required=True, help="Our own configuration, or one written for llama-swap.")
@click.option("--json-log", is_flag=True, help="Tell every step as a line of JSON on stdout.")
@with_options(ServerOptions, EngineOptions, LibraryOptions)
def command(*, config: str, json_log: bool, **parameters: object) -> None:
    """Serve what a configuration declares, for as long as the machine runs; nothing is asked.

    SIGHUP reads the file anew: only models that have changed start anew, after their requests have ended, and a file
    that is wrong changes nothing. `bercail config check FILE` says beforehand what a file declares.
    """
    teller: Teller = JsonTeller() if json_log else TerminalTeller()
    house = build_house(config, overrides(parameters), serving=True)
    files = build_configurations()
    with asyncio.Runner(loop_factory=new_loop) as runner, teller:
        runner.run(serve(house, (), teller, ask=False, reread=lambda: files.read(files.read_text(config), config)))
