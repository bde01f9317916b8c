"""Command-line options, derived from ``core.options``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bercail.core.option import Kind, Option, bound_text, read_value
from bercail.core.options import options_of

F = TypeVar("F", bound=Callable[..., Any])


class _Value(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A value in the notation that the settings file and the environment use as well."""

    def __init__(self, spec: Option) -> None:
        self.spec = spec
        self.name = spec.kind.value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join(self.spec.choices) or self.spec.kind.value.upper()

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        return read_value(self.spec, value, origin=self.spec.flag)


def with_options(*groups: type) -> Callable[[F], F]:
    """Give a command all options of ``groups``; what the user sets arrives in ``overrides`` by settings key."""

    def decorate(function: F) -> F:
        for spec in reversed([spec for group in groups for spec in options_of(group)]):
            function = click_option(spec)(function)
        return function

    return decorate


def click_option(spec: Option) -> Callable[[F], F]:
    """What gives a command this option."""
    names = [_parameter(spec)]
    if spec.kind is Kind.FLAG:
        return click.option(f"{spec.flag}/--no-{spec.flag[2:]}", *names, default=None, help=_help(spec))
    return click.option(spec.flag, *names, type=_Value(spec), default=None, help=_help(spec))


def _parameter(spec: Option) -> str:
    return spec.key.replace(".", "__")


def _help(spec: Option) -> str:
    default = "" if spec.default in (None, ()) else f" [default: {default_text(spec)}]"
    return spec.help + default


def default_text(spec: Option) -> str:
    """The default as it would be written."""
    if spec.default is None:
        return "decided by the plan"
    if isinstance(spec.default, tuple):
        return ":".join(spec.default) or "none"
    return bound_text(spec, spec.default) if isinstance(spec.default, int | float) else str(spec.default)


def named_file(config: str | None) -> str:
    """The whole path of a configuration that the command line names; empty if it names none."""
    return str(Path(config).resolve()) if config else ""


def overrides(parameters: dict[str, object]) -> dict[str, object]:
    """What the user set on the command line, by settings key."""
    return {name.replace("__", "."): value for name, value in parameters.items() if "__" in name and value is not None}
