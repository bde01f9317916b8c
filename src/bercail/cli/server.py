"""Which running server a command asks: its options, and what they say."""

import os
from collections.abc import Mapping
from dataclasses import replace

import click

from bercail.cli.options import F, click_option, named_file, overrides
from bercail.core.options import ServerOptions, options_of
from bercail.flows import Sought, meant, the_one
from bercail.ports import House
from bercail.wiring import build_house

_HELP = {
    "host": "Address of the server, where it is not one that this user runs here.",
    "port": "Its port; needed where several run.",
}


def with_server(function: F) -> F:
    """Give a command the options that say which server is meant; the place arrives in ``overrides``."""
    for spec in options_of(ServerOptions):
        if spec.name in _HELP:
            function = click_option(replace(spec, help=_HELP[spec.name], default=None))(function)
    help_text = "The configuration that the server was started with, or other settings than the usual ones."
    return click.option("--config", metavar="FILE", default=None, help=help_text)(function)


def servers(config: str | None, parameters: dict[str, object]) -> tuple[House, ...]:
    """Every server that may be meant, each as a house whose settings lead to it; one at least."""
    given = overrides(parameters)
    return meant(build_house(config, given), sought(config, given))


def server(config: str | None, parameters: dict[str, object]) -> House:
    """The only one that may be meant.

    Raises:
        UsageError: there are several.
    """
    given = overrides(parameters)
    return the_one(build_house(config, given), sought(config, given))


def sought(config: str | None, given: Mapping[str, object]) -> Sought:
    """What was said of the server, on the command line and in the environment."""
    keys = [f"server.{name}" for name in _HELP]
    variables = {spec.variable for spec in options_of(ServerOptions) if spec.name in _HELP}
    placed = not given.keys().isdisjoint(keys) or not variables.isdisjoint(os.environ)
    return Sought(placed=placed, config=named_file(config))
