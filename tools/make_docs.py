"""Writes the reference pages and the schema that derive from the code; with --check says which are stale instead."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from bercail.cli import group
from bercail.cli.options import default_text
from bercail.core.config_schema import configuration_schema
from bercail.core.option import Option, bound_text
from bercail.core.options import GROUPS, options_of

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
SCHEMA = ROOT / "src" / "bercail" / "store" / "bercail.schema.json"
NOTICE = "<!-- Written by tools/make_docs.py from the code; edit the code instead. -->"

SETTINGS_HEAD = """\
Each setting can stand in the settings file, in the environment, and on the command lines that take its group. The
command line wins over the environment, the environment over the file, the file over the default. An unknown key or
variable is an error. The file is `bercail.yaml` in the configuration folder (`$XDG_CONFIG_HOME/bercail`, usually
`~/.config/bercail`), or what `--config` or `BERCAIL_CONFIG` names.

```yaml
server:
  port: 9000
library:
  folders: [/srv/models]
engine:
  context: 16k
```
"""


def cli_page() -> str:
    lines = [
        "# Command line",
        "",
        NOTICE,
        "",
        "Exit status: 0 fine, 1 found a problem, 2 wrong usage, 3 could not start.",
        "",
    ]
    context = click.Context(group, info_name="bercail", max_content_width=110, terminal_width=110)
    lines += ["## bercail", "", "```text", group.get_help(context), "```", ""]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        lines += _command(command, name, context)
    return "\n".join(lines)


def _command(command: click.Command, name: str, above: click.Context) -> list[str]:
    """Its help, and that of the commands below it."""
    context = click.Context(command, info_name=name, parent=above, max_content_width=110, terminal_width=110)
    lines = [f"## {context.command_path}", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            lines += _command(command.commands[below], below, context)
    return lines


def settings_page() -> str:
    lines = ["# Settings", "", NOTICE, "", SETTINGS_HEAD]
    for options in GROUPS:
        rows = list(options_of(options))
        lines += [f"## {rows[0].group}", "", (options.__doc__ or "").strip(), ""]
        lines += ["| key | flag | environment | values | default | meaning |", "|---|---|---|---|---|---|"]
        lines += [_row(spec) for spec in rows]
        lines.append("")
    return "\n".join(lines)


def _row(spec: Option) -> str:
    values = ", ".join(spec.choices) or spec.kind.value + _bounds(spec)
    return f"| `{spec.key}` | `{spec.flag}` | `{spec.variable}` | {values} | {default_text(spec)} | {spec.help} |"


def _bounds(spec: Option) -> str:
    low, high = (None if end is None else bound_text(spec, end) for end in (spec.minimum, spec.maximum))
    if low and high:
        return f", {low} to {high}"
    return f", at least {low}" if low else f", at most {high}" if high else ""


def schema_file() -> str:
    return json.dumps(configuration_schema(), indent=2) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "cli.md": cli_page,
    REFERENCE / "settings.md": settings_page,
    SCHEMA: schema_file,
}


def stale() -> Iterator[str]:
    for path, make in PAGES.items():
        if not path.is_file() or path.read_text() != make():
            yield str(path.relative_to(ROOT))


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        names = list(stale())
        for name in names:
            print(f"{name} is stale: run python tools/make_docs.py")
        return 1 if names else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path, make in PAGES.items():
        path.write_text(make())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
