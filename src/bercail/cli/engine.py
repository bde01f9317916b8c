"""``bercail engine``."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import say, show, show_json, show_sections
from bercail.cli.tell import make_bar, warn
from bercail.core.build import Target
from bercail.core.document import builds_document, comparison_document
from bercail.core.engine_report import (
    builds_section,
    devices_sections,
    offers_section,
    quality_line,
    settings_line,
    settings_sections,
    trials_line,
    trials_section,
)
from bercail.core.launch import Progress
from bercail.core.options import EngineOptions, LibraryOptions, purpose_name, purpose_of
from bercail.core.units import format_bytes
from bercail.flows import Here, Order, around, built, chosen, compare, use
from bercail.flows import build as make
from bercail.wiring import build_house

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bercail.core.engine import Offer
    from bercail.ports import House

_CONFIG = click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")


_NONE = "none was built here; `bercail engine build` makes one"


@click.group("engine", context_settings={"max_content_width": 110})
def command() -> None:
    """Build engines for this machine, and look after them.

    The engine in the box runs on every processor with AVX2 and uses nothing newer. One that is built here uses all
    that this processor, or its GPU, can do.
    """


@command.command("build")
@click.option(
    "--backend",
    type=click.Choice(tuple(target.value for target in Target)),
    default=Target.CPU.value,
    show_default=True,
    help="What it computes on.",
)
@click.option("--portable", is_flag=True, help="For every processor of this architecture, not for this one alone.")
@click.option(
    "--jobs", type=click.IntRange(1), default=None, help="Compilers at once; as many as fit if you do not say."
)
@click.option("--source", metavar="FILE", default=None, help="Archive of the source, instead of fetching it.")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.engines/1: the build.")
@_CONFIG
def build(
    *, backend: str, portable: bool, jobs: int | None, source: str | None, as_json: bool, config: str | None
) -> int:
    """Build llama.cpp b11549 from its source, which pip fetches from the package index (38 MB, its hash checked).

    Takes a C++ compiler, and `pip install 'bercail[build]'` for CMake and Ninja. What a stopped build has done is
    not done again.
    """
    house = build_house(config, {})
    order = Order(target=Target(backend), portable=portable, jobs=jobs, source=source)
    before = {one.id for one in house.workshop.builds()}
    with told_if_stopped(), _following() as tell:
        made = asyncio.run(make(house, order, tell))
    if as_json:
        show_json(builds_document((made,)))
        return 0
    how = "was here already" if made.id in before else f"built in {made.took_s / 60:.1f} minutes"
    show(f"{made.id} {how}, {format_bytes(made.bytes)}: {made.folder}")
    for change in made.amended:
        show(f"changed in its source: {change}")
    return 0


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.engines/1 instead of a table.")
@_CONFIG
def list_(*, as_json: bool, config: str | None) -> int:
    """List the engines at hand and those that were built here, and say which is used."""
    house = build_house(config, {})
    builds, here = house.workshop.builds(), asyncio.run(around(house))
    if as_json:
        show_json(builds_document(builds, _at_hand(house, here)))
        return 0
    show_sections((offers_section(_at_hand(house, here)), *devices_sections(here.offers)))
    if builds:
        show_sections((builds_section(builds),))
    else:
        show(_NONE)
    choice = chosen(house, here, None).choice
    show(f"used     {choice.offer}: {choice.because}")
    return 0


def _at_hand(house: "House", here: Here) -> "tuple[tuple[Offer, str], ...]":
    return tuple((offer, engine.build) for offer, engine in zip(here.offers, house.engines, strict=True))


@command.command("use")
@click.argument("name")
@_CONFIG
def use_(*, name: str, config: str | None) -> int:
    """Use the engine NAME where the settings and the command line name none; `auto` leaves it to Bercail again."""
    choice = asyncio.run(use(build_house(config, {}), name))
    show(f"used     {choice.offer}: {choice.because}")
    return 0


@command.command("compare")
@click.argument("model")
@click.option(
    "--settings",
    is_flag=True,
    help="Try other threads and batches of the engine taken: three to twenty loads more.",
)
@click.option(
    "--lossy", is_flag=True, help="Try q8_0 keys and values, too, which change answers: told, and never taken."
)
@click.option("--json", "as_json", is_flag=True, help="Print bercail.comparison/1 instead of a table.")
@_CONFIG
@with_options(EngineOptions, LibraryOptions)
def compare_(
    model: str, *, settings: bool, lossy: bool, as_json: bool, config: str | None, **parameters: object
) -> int:
    """Measure every engine that can run MODEL on this machine, and say which is the fastest and why.

    Each is loaded, with the weights as they are and rearranged for this CPU, and answers five short requests: about
    half a minute each. --for says what the work is like. What was measured decides from then on.

    With --settings the engine that is taken from now on is then loaded with other threads for decode and for prefill,
    and other ubatches, one at a time; only what can matter on this machine and what you have not set yourself. That
    takes two to ten minutes for a model of a gigabyte, more for larger ones. What is faster by more than the noise, in
    turns with the planned value, is taken from then on for this purpose.
    """
    house = build_house(config, overrides(parameters), serving=True)
    comparison = asyncio.run(compare(house, model, warn, settings=settings, lossy=lossy))
    if as_json:
        show_json(comparison_document(model, comparison))
        return 0
    wish, trials, tried = house.settings.engine, comparison.trials, comparison.tried
    show_sections((trials_section(trials, purpose_of(wish)), *settings_sections(comparison)))
    for line in (trials_line(trials), settings_line(tried, purpose_name(wish)), quality_line(trials)):
        if line:
            show(line)
    return 0


@command.command("verify")
@click.argument("name", required=False)
@_CONFIG
def verify(*, name: str | None, config: str | None) -> int:
    """Check each file of NAME, or of all builds, against its SHA-256, and that it runs.

    Exit status 1 if one is unsound.
    """
    house = build_house(config, {})
    builds = (built(house, name),) if name else house.workshop.builds()
    if not builds:
        show(_NONE)
    status = 0
    for one in builds:
        wrong = asyncio.run(house.workshop.verify(one))
        show(f"{one.id}: {'; '.join(wrong) or 'sound'}")
        status = 1 if wrong else status
    return status


@command.command("remove")
@click.argument("name")
@_CONFIG
def remove(*, name: str, config: str | None) -> int:
    """Delete the build NAME."""
    house = build_house(config, {})
    one = built(house, name)
    house.workshop.remove(one)
    show(f"{one.id} deleted, {format_bytes(one.bytes)} freed")
    return 0


@contextmanager
def told_if_stopped() -> "Iterator[None]":
    """Ctrl-C says what becomes of what is done already."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped: what is done is kept, and the same command goes on from there")
        raise


@contextmanager
def _following() -> "Iterator[Callable[[Progress], None]]":
    """A bar where a person watches, else a line for each stage."""
    told = ""
    bar = make_bar() if sys.stderr.isatty() else None
    task = bar.add_task("", total=None) if bar else None

    def tell(step: Progress) -> None:
        nonlocal told
        if bar is not None and task is not None:
            bar.update(task, description=step.stage, total=1.0 if step.fraction else None, completed=step.fraction)
        elif step.stage != told:
            say(step.stage)
        told = step.stage

    if bar is None:
        yield tell
        return
    with bar:
        yield tell
