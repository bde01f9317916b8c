"""People and scripts come in here: parse, call one flow, render."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from bercail import __version__
from bercail.core.alike import alike
from bercail.core.errors import BercailError, StoreError, UsageError

_NO_COMMAND = re.compile(r"No such command '(.*)'")
_COMMANDS = {
    "up": "Serve models: look at this machine, plan, launch, serve.",
    "serve": "Serve what a configuration declares: our own, or one of llama-swap.",
    "ps": "List what the running server has in memory.",
    "load": "Have the running server bring a model into memory.",
    "unload": "Have the running server let a model leave memory.",
    "logs": "Show what the running server and its engines said, and follow it.",
    "profile": "List profiles of the running server, or put one in force.",
    "chat": "Talk to a model in the terminal.",
    "plan": "Say what fits on this machine, and why, before anything is loaded.",
    "inspect": "Say what a model file holds.",
    "machine": "Say what may be used of this machine.",
    "engine": "Build engines for this machine, and look after them.",
    "config": "Look through configurations: bercail.yaml, or llama-swap's.",
    "models": "List the models that are found, and where was looked.",
    "keys": "Make, list and revoke API keys.",
    "usage": "Say what requests have taken, by day, model or key.",
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
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return UsageError.exit_code
    except click.ClickException as error:
        return _fail(_as_ours(error), arguments)
    except BercailError as error:
        return _fail(error, arguments)
    except OSError as error:
        return _without_output(error)
    return outcome if isinstance(outcome, int) else 0


def _as_ours(error: click.ClickException) -> UsageError:
    """What click found wrong, in our words where it offers names that have little in common with what was written."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return UsageError(error.format_message().rstrip("."))
    known: list[str] = []
    if isinstance(error, click.NoSuchOption):
        name, message = error.option_name, error.message
        known = [text for option in context.command.params for text in (*option.opts, *option.secondary_opts)]
    elif isinstance(context.command, click.Group) and (found := _NO_COMMAND.match(error.message)):
        name, message = found[1], error.message
        known = context.command.list_commands(context)
    else:
        name, message = "", error.format_message()
    near = alike(name, known, most=2)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(message.rstrip("."), hint=meant + context.get_usage())


def _without_output(error: OSError) -> int:
    """The output cannot be written: its reader left, which is fine, or its disk is full."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor can what is still buffered
    if isinstance(error, BrokenPipeError):
        return 0
    with suppress(OSError):
        sys.stderr.write(f"error: the output cannot be written: {error.strerror or error}\n")
    return StoreError.exit_code


def _fail(error: BercailError, arguments: list[str]) -> int:
    from bercail.cli.render import show_error

    show_error(error, as_json="--json" in arguments or "--json-log" in arguments)
    return error.exit_code
