"""What loads and answers have taught: recalled before a plan is made, kept after."""

from collections.abc import Callable

from bercail.core import news
from bercail.core.errors import StoreError
from bercail.core.lessons import Lessons, lessons_document, lessons_of
from bercail.core.machine import Machine
from bercail.ports import Engine, House

_KIND = "load"


def recall(house: House, machine: Machine, engine: Engine) -> Lessons:
    """What this machine with this build of the engine has taught."""
    return lessons_of(house.cache.get(_KIND, _key(house, machine, engine)))


def keep(house: House, machine: Machine, engine: Engine, lessons: Lessons, tell: Callable[[news.News], None]) -> None:
    """Keep ``lessons``; where that fails it is told, and the next plan knows as little as this one."""
    try:
        house.cache.put(_KIND, _key(house, machine, engine), lessons_document(lessons))
    except StoreError as error:
        tell(news.Warned(text=str(error)))


def _key(house: House, machine: Machine, engine: Engine) -> str:
    return f"{engine.name}-{engine.build}; {house.prober.fingerprint(machine)}"
