"""What loads have taught: recalled before a plan is made, kept after a load."""

from collections.abc import Callable

from bercail.core import news
from bercail.core.errors import StoreError
from bercail.core.landing import Outcome, taught
from bercail.core.lessons import Lessons, lessons_document, lessons_of
from bercail.core.machine import Machine
from bercail.core.plan import Fits
from bercail.ports import House

_KIND = "load"


def recall(house: House, machine: Machine) -> Lessons:
    """What loads on this machine with this build of the engine have taught."""
    return lessons_of(house.cache.get(_KIND, _key(house, machine)))


def remember(
    house: House, machine: Machine, architecture: str, plan: Fits, outcome: Outcome, tell: Callable[[news.News], None]
) -> None:
    """Keep what a load has taught."""
    lessons = taught(plan, outcome, recall(house, machine), architecture)
    try:
        house.cache.put(_KIND, _key(house, machine), lessons_document(lessons))
    except StoreError as error:
        tell(news.Warned(text=str(error)))


def _key(house: House, machine: Machine) -> str:
    return f"{house.engine.name}-{house.engine.build}; {house.prober.fingerprint(machine)}"
