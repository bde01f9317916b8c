"""``bercail engine``: make engines for this machine, look after them, and say which is used."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bercail.core.build import Build, Target, compilers_at_once, named, recipe_for
from bercail.core.errors import NotFoundError, RefusedError
from bercail.core.launch import Progress
from bercail.flows.machine import glance
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What ``bercail engine build`` is asked for.

    Attributes:
        jobs: compilers at once; None is as many as there are CPUs and memory for.
        source: archive of the source on this machine; None fetches it.
    """

    target: Target = Target.CPU
    portable: bool = False
    jobs: int | None = None
    source: str | None = None


async def build(house: House, order: Order, tell: Callable[[Progress], None]) -> Build:
    """An engine made for this machine; what is there already is not made again.

    Raises:
        RefusedError: something that it takes is missing, or must not be fetched.
        EngineError: it failed, with the first error.
    """
    if house.settings.library.offline and order.source is None:
        raise RefusedError(
            "the source would be fetched, and library.offline is set", hint="name the archive with --source"
        )
    machine = await asyncio.to_thread(glance, house)
    recipe = recipe_for(machine, order.target, portable=order.portable)
    jobs = order.jobs or compilers_at_once(machine)
    return await house.workshop.build(recipe, jobs=jobs, source=order.source, tell=tell)


def built(house: House, name: str) -> Build:
    """The build that ``name`` means.

    Raises:
        NotFoundError: none or several.
    """
    builds = house.workshop.builds()
    if found := named(builds, name):
        return found
    if not builds:
        raise NotFoundError(f"no engine {name!r}: none was built here", hint="`bercail engine build` makes one")
    raise NotFoundError(
        f"no engine {name!r}, or more than one", hint=f"there are: {', '.join(one.id for one in builds)}"
    )
