"""``bercail plan MODEL``."""

import asyncio

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import show, show_json, show_sections
from bercail.core.document import plan_document
from bercail.core.options import EngineOptions, ModelOptions
from bercail.core.plan import NoFit
from bercail.core.report import plan_line, plan_sections
from bercail.flows import plan
from bercail.wiring import build_house


@click.command("plan")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.plan/1 instead of tables.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(EngineOptions, ModelOptions)
def command(model: str, *, as_json: bool, config: str | None, **parameters: object) -> int:
    """Say what of MODEL fits on this machine, and why. Exit status 1 if it does not fit."""
    verdict = asyncio.run(plan(build_house(config, overrides(parameters)), model))
    if as_json:
        show_json(plan_document(verdict))
    else:
        show(f"{verdict.model_id} {plan_line(verdict)}\n")
        show_sections(plan_sections(verdict))
    return 1 if isinstance(verdict, NoFit) else 0
