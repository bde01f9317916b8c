"""``bercail models``."""

from dataclasses import replace

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say, show_json, show_sections
from bercail.core.config_document import declared_document
from bercail.core.config_report import declared_section
from bercail.core.configuration import Configuration
from bercail.core.document import findings_document
from bercail.core.options import LibraryOptions
from bercail.core.report import findings_sections, nowhere_lines
from bercail.flows import search, troubles
from bercail.wiring import build_house


@click.command("models")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.models/1 instead of a table.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(LibraryOptions)
def command(paths: tuple[str, ...], *, as_json: bool, config: str | None, **parameters: object) -> int:
    """List the models in PATHs; else those that the configuration declares and those that are found.

    They are looked for in the folders of the settings, or where other tools keep theirs. Of each file the
    header is read; those that must not be loaded are listed apart, with the reason. Ends with 1 if there is no other.
    """
    house = build_house(config, overrides(parameters))
    if paths:
        house = replace(house, configuration=Configuration())
    findings, wrong = search(house, paths), troubles(house)
    declared = declared_section(house.configuration, wrong)
    some = any(not found.damage for found in findings.models) or len(declared.rows) > sum(map(bool, wrong.values()))
    if as_json:
        show_json(findings_document(findings) | {"declared": declared_document(house.configuration, wrong)})
    elif findings.models or declared.rows:
        show_sections((*((declared,) if declared.rows else ()), *findings_sections(findings)))
        for problem in findings.problems:
            say(f"note: {problem}")
        if declared.rows and findings.models:
            say("note: up and serve take the declared models; up MODEL takes others")
    else:
        for line in nowhere_lines(findings):
            say(line)
    return 0 if some else 1
