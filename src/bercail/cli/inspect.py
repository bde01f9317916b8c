"""``bercail inspect MODEL``."""

import asyncio

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import show_json, show_sections
from bercail.core.document import inspect_document
from bercail.core.options import LibraryOptions
from bercail.core.report import inspect_sections
from bercail.flows import inspect
from bercail.wiring import build_house


@click.command("inspect")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.inspect/1 instead of tables.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(LibraryOptions)
def command(model: str, *, as_json: bool, config: str | None, **parameters: object) -> None:
    """Say what MODEL holds: a GGUF file, a folder with one, or the id of a model that `bercail models` lists."""
    found = asyncio.run(inspect(build_house(config, overrides(parameters)), model))
    if as_json:
        show_json(inspect_document(found))
    else:
        show_sections(inspect_sections(found))
