"""``bercail models``."""

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say, show_json, show_sections
from bercail.core.document import findings_document
from bercail.core.options import LibraryOptions
from bercail.core.report import findings_sections, nowhere_lines
from bercail.flows import search
from bercail.wiring import build_house


@click.command("models")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.models/1 instead of a table.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(LibraryOptions)
def command(paths: tuple[str, ...], *, as_json: bool, config: str | None, **parameters: object) -> int:
    """List the models in PATHs, in the folders of the settings, or where other tools keep theirs.

    Of each the header is read; those that must not be loaded are listed apart, with the reason. Ends with 1 if no other
    is found.
    """
    house = build_house(config, overrides(parameters))
    findings = search(house, paths)
    some = any(not found.damage for found in findings.models)
    if as_json:
        show_json(findings_document(findings))
        return 0 if some else 1
    if findings.models:
        show_sections(findings_sections(findings))
        for problem in findings.problems:
            say(f"note: {problem}")
        return 0 if some else 1
    for line in nowhere_lines(findings):
        say(line)
    return 1
