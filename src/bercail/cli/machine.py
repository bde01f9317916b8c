"""``bercail machine``."""

import asyncio

import click

from bercail.cli.render import show, show_json
from bercail.cli.tell import warn
from bercail.core.document import machine_document
from bercail.core.report import machine_lines
from bercail.flows import survey
from bercail.wiring import build_house


@click.command("machine")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.machine/1: a capture that plan --on takes.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
def command(*, as_json: bool, config: str | None) -> int:
    """Say what may be used of this machine; the reading speed of its memory is measured once and kept.

    GPUs are told as the engine sees them that comes first for them: see `bercail engine list`.
    """
    machine = asyncio.run(survey(build_house(config, {}), warn))
    if as_json:
        show_json(machine_document(machine))
        return 0
    for line in machine_lines(machine):
        show(f"{line}\n")
    return 0
