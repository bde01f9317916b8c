"""People and scripts come in here: parse, call one flow, render."""

import sys
from collections.abc import Sequence

import click

from bercail import __version__
from bercail.core.errors import BercailError, UsageError

_COMMANDS = {
    "up": "Serve models: look at this machine, plan, launch, serve.",
    "chat": "Talk to a model in the terminal.",
    "plan": "Say what fits on this machine, and why, before anything is loaded.",
    "inspect": "Say what a model file holds.",
    "models": "List the models that are found, and where was looked.",
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is called, so that help and errors come at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        command = import_module(f"bercail.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bercail")
def group() -> None:
    """Bercail makes the machine you own a private, fast and honest AI server.

    Start with: bercail up MODEL.gguf
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with 0 fine, 1 found a problem, 2 wrong usage, 3 could not start."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        outcome = group.main(arguments, prog_name="bercail", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
        return _fail(UsageError(error.format_message().rstrip("."), hint=usage), arguments)
    except BercailError as error:
        return _fail(error, arguments)
    except BrokenPipeError:
        return 0  # the reader of our output left; there is nobody to tell
    return outcome if isinstance(outcome, int) else 0


def _fail(error: BercailError, arguments: list[str]) -> int:
    from bercail.cli.render import show_error

    show_error(error, as_json="--json" in arguments or "--json-log" in arguments)
    return error.exit_code
