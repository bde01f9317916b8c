"""``bercail up [MODEL ...]``, the main job."""

import asyncio
import signal
import sys

import click

from bercail.cli.options import named_file, overrides, with_options
from bercail.cli.tell import JsonTeller, Teller, TerminalTeller
from bercail.core.model import Findings, FoundModel
from bercail.core.options import ActivityOptions, EngineOptions, LibraryOptions, ServerOptions
from bercail.core.units import format_bytes
from bercail.flows import Request, Source, up
from bercail.ports import House
from bercail.wiring import build_house, new_loop, stamper


@click.command("up")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--json-log", is_flag=True, help="Tell every step as a line of JSON on stdout.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(ServerOptions, EngineOptions, LibraryOptions, ActivityOptions)
def command(models: tuple[str, ...], *, json_log: bool, config: str | None, **parameters: object) -> None:
    """Serve MODELs (files, folders, or names of `bercail models`) to OpenAI-compatible clients.

    Without MODEL, serves what the settings file declares; else what is in the folders of the settings, or where other
    tools keep their models; if there is none, the demo in the box (bercail-demo). The first request for a model loads
    it; as many are in memory as fit. Ctrl-C drains and stops; a second Ctrl-C stops at once.
    """
    house = build_house(config, overrides(parameters), serving=True)
    stamp = stamper(house.configuration.gateway.log_time)
    teller: Teller = JsonTeller() if json_log else TerminalTeller(stamp)
    with asyncio.Runner(loop_factory=new_loop) as runner, teller:
        runner.run(serve(house, models, teller, ask=not json_log, config=named_file(config)))


async def serve(
    house: House,
    models: tuple[str, ...],
    teller: Teller,
    *,
    ask: bool,
    source: Source | None = None,
    config: str = "",
) -> None:
    """Serve until told to stop; with ``source``, SIGHUP makes the configuration be read anew."""
    stop, stop_now, reload = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if source is not None:
        loop.add_signal_handler(signal.SIGHUP, reload.set)

    async def choose(findings: Findings) -> FoundModel | None:
        return await _choose(
            findings, named=bool(models) and models[0].endswith(".gguf"), ask=ask and sys.stdin.isatty(), stop=stop
        )

    request = Request(
        paths=models, choose=choose, tell=teller.tell, stop=stop, stop_now=stop_now, reload=reload, source=source,
        config=config,
    )  # fmt: skip
    await up(house, request)


async def _choose(findings: Findings, *, named: bool, ask: bool, stop: asyncio.Event) -> FoundModel | None:
    """The only model, what the user picks, or the first file named; else none, and the first request decides."""
    if not findings.models:
        return None
    if len(findings.models) == 1:
        return findings.models[0]
    if not ask:
        return findings.models[0] if named else None
    for number, found in enumerate(findings.models, 1):
        click.echo(f"  {number:>3}  {found.id}  ({format_bytes(found.bytes)}, {found.source})", err=True)
    while True:
        click.echo("Which one first? A number, or Enter for none: ", err=True, nl=False)
        chosen = (await _line(stop)).strip()
        if stop.is_set():
            click.echo(err=True)  # what comes next does not continue the question
        if stop.is_set() or not chosen:
            return None
        if chosen.isdecimal() and 1 <= int(chosen) <= len(findings.models):
            return findings.models[int(chosen) - 1]
        click.echo(f"{chosen!r} is none of 1 to {len(findings.models)}", err=True)


async def _line(stop: asyncio.Event) -> str:
    """A line from the terminal; empty if we are told to stop meanwhile."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    waits = {asyncio.create_task(typed.wait()), asyncio.create_task(stop.wait())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return sys.stdin.readline() if typed.is_set() else ""
    finally:
        loop.remove_reader(sys.stdin.fileno())
        for wait in waits:
            wait.cancel()
