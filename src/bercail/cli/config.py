"""``bercail config``."""

import json

import click

from bercail.cli.render import show, show_error, show_json, show_sections
from bercail.core.config_document import config_document
from bercail.core.config_report import config_line, config_sections, cores_sections, later_sections
from bercail.core.config_schema import configuration_schema
from bercail.flows import check_configuration
from bercail.wiring import build_configurations, build_prober, build_reader


@click.group("config")
def command() -> None:
    """Look through configurations: bercail.yaml, or llama-swap's."""


@command.command("check")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.config/1 instead of tables.")
def check(file: str, *, as_json: bool) -> int:
    """Say what FILE declares, what of it is ignored, what is wrong with it, and what is not on this machine.

    Exit status 1 if something is wrong, or a model cannot be served as it is declared. What is missing here is told,
    and is not wrong.
    """
    checked = check_configuration(build_configurations(), build_prober(), build_reader(), file)
    if as_json:
        show_json(
            config_document(file, checked.configuration, checked.wrong, checked.missing, checked.shares, checked.later)
        )
    elif checked.wrong is not None:
        show_error(checked.wrong, as_json=False)
    elif checked.configuration is not None:
        show(config_line(file, checked.configuration))
        sections = config_sections(checked.configuration, checked.missing)
        more = (*cores_sections(checked.shares, checked.at_odds), *later_sections(checked.later))
        if sections := (*sections, *more):
            show("")
            show_sections(sections)
    return 1 if checked.is_wrong else 0


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of bercail.yaml, for editors."""
    show(json.dumps(configuration_schema(), indent=2))
