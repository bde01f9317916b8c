"""``bercail usage``."""

import time

import click

from bercail.cli.options import overrides
from bercail.cli.render import say, show, show_json, show_sections
from bercail.cli.server import sought, with_server
from bercail.core.activity import Grouping
from bercail.core.key_report import usage_document, usage_section
from bercail.flows import record_of, usage
from bercail.wiring import build_house, with_record


@click.command("usage")
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="How far to look back.")
@click.option(
    "--by",
    type=click.Choice([grouping.value for grouping in Grouping]),
    default=Grouping.DAY.value,
    show_default=True,
    help="What to add up by.",
)
@click.option("--json", "as_json", is_flag=True, help="Print bercail.usage/1 instead of a table.")
@with_server
def command(*, days: int, by: str, as_json: bool, config: str | None, **parameters: object) -> int:
    """Say what requests to this server have taken: tokens of prompts, cached, generated, trimmed, and how fast.

    The record is that of the server that runs here; where none does, the one that the settings name. It holds
    numbers, never text. activity.days and activity.size say how long it is kept.
    """
    given, grouping = overrides(parameters), Grouping(by)
    house = build_house(config, given)
    if place := record_of(house, sought(config, given)):
        house = with_record(house, place)
    totals = usage(house, grouping, days=days, wall_s=time.time())
    if as_json:
        show_json(usage_document(grouping, days, totals))
    elif totals:
        show_sections((usage_section(grouping, days, totals),))
        say(f"record   {house.ledger.place}")
    else:
        off = " (activity.days is 0: none are recorded)" if not house.settings.activity.days else ""
        show(f"no request of the last {days} days is recorded{off} in {house.ledger.place}")
    return 0
