"""``bercail plan``: what would fit on this machine, before anything is loaded."""

import asyncio

from bercail.core.plan import Verdict, decide
from bercail.flows.inspect import inspect
from bercail.ports import House


async def plan(house: House, name: str) -> Verdict:
    """The plan for the model that ``name`` means, under the wishes in the settings.

    Raises:
        ReadError: its file cannot be read.
        NotFoundError: ``name`` is no path and no known id.
    """
    model, machine = await asyncio.gather(inspect(house, name), asyncio.to_thread(house.prober.probe))
    return decide(machine, model, house.settings.engine, engine=house.engine.name)
