"""``bercail serve --config FILE``."""

import asyncio

import click

from bercail.cli.options import named_file, overrides, with_options
from bercail.cli.tell import JsonTeller, Teller, TerminalTeller
from bercail.cli.up import serve
from bercail.core.options import EngineOptions, LibraryOptions, ServerOptions
from bercail.flows import Source
from bercail.wiring import build_configurations, build_house, new_loop, stamper


@click.command("serve")
@click.option("--config", "-config", metavar="FILE", help="Our own configuration, or one written for llama-swap.")
@click.option(
    "--config-dir", "-config-dir", metavar="DIR", help="Folder whose *.yaml and *.yml are read as one with that FILE."
)
@click.option("--watch", "-watch-config", is_flag=True, help="Read files anew whenever one changes, as SIGHUP does.")
@click.option("--json-log", is_flag=True, help="Tell every step as a line of JSON on stdout.")
@with_options(ServerOptions, EngineOptions, LibraryOptions)
def command(*, config: str | None, config_dir: str | None, watch: bool, json_log: bool, **parameters: object) -> None:
    """Serve what a configuration declares, for as long as the machine runs; nothing is asked.

    SIGHUP, or POST /api/config/reload, reads its files anew: only models that have changed start anew, after their
    requests have ended, and a file that is wrong changes nothing. Settings that were changed count from the next
    start, which is told. With --watch that needs nobody to tell.
    A file that declares no model serves what `bercail up` would find, and says so.
    `bercail config check FILE` says beforehand what a file declares.
    """
    if not config and not config_dir:
        raise click.UsageError("Name what is to be served: --config FILE, --config-dir DIR, or both.")
    files, given = build_configurations(), overrides(parameters)
    seen = files.look(config, config_dir)  # before it is read, so that nothing that is written meanwhile is missed
    house = build_house(config, given, folder=config_dir, serving=True)
    stamp = stamper(house.configuration.gateway.log_time)
    teller: Teller = JsonTeller() if json_log else TerminalTeller(stamp)
    source = Source(
        read=lambda: files.load(files.gather(config, config_dir), given),
        look=lambda: files.look(config, config_dir),
        seen=seen,
        watched=watch,
    )
    with asyncio.Runner(loop_factory=new_loop) as runner, teller:
        runner.run(serve(house, (), teller, ask=False, source=source, config=named_file(config or config_dir)))
