"""``bercail plan MODEL``."""

import asyncio
import json
import shlex
from pathlib import Path

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import show, show_json, show_sections
from bercail.cli.tell import warn
from bercail.core.capture import machine_of
from bercail.core.catalogue import machine_named, with_cards
from bercail.core.document import plan_document
from bercail.core.elsewhere import llama_server, llama_swap
from bercail.core.errors import UsageError
from bercail.core.explain import explain
from bercail.core.machine import Machine
from bercail.core.model import Format, Model
from bercail.core.options import EngineOptions, LibraryOptions
from bercail.core.plan import Fits, NoFit
from bercail.core.report import check_section, explain_section, plan_line, plan_sections, timing_section
from bercail.flows import check, measure, plan
from bercail.wiring import build_house


@click.command("plan")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.plan/1 instead of tables.")
@click.option(
    "--as",
    "form",
    type=click.Choice(("llama-server", "llama-swap")),
    default=None,
    help="Print the plan's settings as a command line or configuration of another program.",
)
@click.option(
    "--on",
    "elsewhere",
    metavar="MACHINE",
    default=None,
    help="Plan for another machine: '4x rtx-3060-12gb + 64gib', 'rtx-3090 + epyc-7302 + 256gib', '64gib@80gb/s', "
    "'m4-max-64gb', or a file of `bercail machine --json`, also with cards added: 'machine.json + rtx-3090'.",
)
@click.option("--check", "checked", is_flag=True, help="Ask the engine itself what it would take; nothing is loaded.")
@click.option("--measure", "timed", is_flag=True, help="Load it and time a few short answers; plans learn from them.")
@click.option("--explain", "part", metavar="PART", default=None, help="How one part of the memory comes to its size.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(EngineOptions, LibraryOptions)
def command(
    model: str,
    *,
    as_json: bool,
    form: str | None,
    checked: bool,
    timed: bool,
    elsewhere: str | None,
    part: str | None,
    config: str | None,
    **parameters: object,
) -> int:
    """Say what of MODEL fits on this machine or another, and why. Exit status 1 if it does not fit."""
    if form and (as_json or checked or timed or part):
        raise UsageError(f"--as {form} prints nothing but that; leave out --json, --check, --measure and --explain")
    if elsewhere is not None and (checked or timed):
        raise UsageError(f"--{'check' if checked else 'measure'} asks the engine of this machine; leave out --on")
    machine = None if elsewhere is None else _machine(elsewhere)
    house = build_house(config, overrides(parameters))
    timings = asyncio.run(measure(house, model, warn)) if timed else ()
    planned = asyncio.run(plan(house, model, machine))
    verdict = planned.verdict
    if form and isinstance(verdict, Fits):
        show(_in_words_of(form, planned.model, verdict))
        return 0
    if isinstance(verdict, NoFit) and verdict.contradiction and not as_json:
        raise UsageError(f"{verdict.model_id} {plan_line(verdict)}")
    explained = explain(planned.model, verdict, part) if part is not None else None
    if not as_json:
        for note in machine.notes if machine else ():
            show(f"{elsewhere}: {note}\n")
        show(f"{verdict.model_id} {plan_line(verdict)}\n")
        show_sections((explain_section(explained),) if explained else plan_sections(verdict))
        if timings:
            show("")
            show_sections((timing_section(timings),))
    account = asyncio.run(check(house, planned, warn)) if checked else None
    if as_json:
        show_json(plan_document(verdict, account, explained, timings))
    elif account is not None:
        show("")
        show_sections((check_section(verdict, account),))
    return 1 if isinstance(verdict, NoFit) else 0


def _in_words_of(form: str, model: Model, verdict: Fits) -> str:
    """The plan as another program would be told of it.

    Raises:
        UsageError: it does not read the model.
    """
    if model.format is not Format.GGUF:
        raise UsageError(f"--as {form} is for GGUF models, and {model.id} is {model.format}")
    arguments = llama_server(
        verdict.model_path, verdict.projector, verdict.settings, drafting_layers=model.shape.nextn_layers,
        draft_path=verdict.draft,
    )  # fmt: skip
    return llama_swap(verdict.model_id, arguments) if form == "llama-swap" else f"{shlex.join(arguments)}\n"


def _machine(text: str) -> Machine:
    """The machine that a name or a captured file describes.

    Raises:
        UsageError: neither does.
    """
    name, _, cards = text.partition(".json")
    if name == text:
        return machine_named(text)
    path, cards = f"{name}.json", cards.strip().removeprefix("+")
    try:
        machine = machine_of(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return with_cards(machine, cards) if cards else machine
