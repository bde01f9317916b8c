"""Engines that were ready are asked whether they still are."""

from collections.abc import Callable

from bercail.core import news
from bercail.core.pulse import ANSWER_S, MOST_MISSED, is_ill, missed
from bercail.core.units import Seconds
from bercail.flows.resident import Entry, Resident
from bercail.ports import House

USED_LATELY_S: Seconds = 300.0
"""A server elsewhere that nobody has asked for so long is left alone."""


async def fails(house: House, resident: Resident, is_at_work: Callable[[], bool]) -> str:
    """What is wrong with an engine here; returns when it has been so too often in a row."""
    count, aside = 0, resident.prepared is not None  # what llama.cpp and our workers do; a command may be anything
    while True:
        await house.clock.sleep(house.settings.server.health_interval)
        at_work = is_at_work()
        pulse = await resident.process.pulse(ANSWER_S)
        count = missed(count, pulse, at_work=at_work and is_at_work(), aside=aside)
        if is_ill(count, at_work=is_at_work()):
            return f"{pulse.words}, {count} times in a row"


async def follow(
    house: House, entry: Entry, resident: Resident, used_s: Callable[[], Seconds], tell: Callable[[news.News], None]
) -> None:
    """Mark a server elsewhere as away while it does not answer; never ends.

    Nobody saw it start, so it is asked at once, and until it has answered one refusal is enough.

    Args:
        house: what is built here.
        entry: the model.
        resident: the server.
        used_s: when it last had a request.
        tell: hears when it goes and when it is back.
    """
    count, has_answered, wait_s = 0, False, 0.0
    while True:
        if wait_s:
            await house.clock.sleep(wait_s)
        wait_s = house.settings.server.health_interval
        if not entry.away and house.clock.monotonic() - used_s() > USED_LATELY_S:
            count = 0
            continue
        pulse = await resident.process.pulse(ANSWER_S)
        has_answered = has_answered or not pulse.words
        count = missed(count, pulse, at_work=False, aside=False)
        if count and not pulse.silent and not has_answered:
            count = max(count, MOST_MISSED)
        if count >= MOST_MISSED and not entry.away:
            entry.away = f"{entry.id} cannot be reached at {resident.process.address}: {pulse.words}"
            tell(news.Warned(text=f"{entry.away}; requests for it get 503 until it answers"))
        elif not count and entry.away:
            entry.away = ""
            tell(news.Warned(text=f"{entry.id} answers again"))
