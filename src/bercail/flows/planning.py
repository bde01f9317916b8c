"""What a model needs, planned when somebody wants it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from bercail.core import events, news
from bercail.core.devices import emptiest_first
from bercail.core.errors import BercailError
from bercail.core.units import Bytes
from bercail.flows.dispatch import Dispatcher
from bercail.flows.machine import Here, around
from bercail.flows.prepare import prepare
from bercail.flows.resident import Entry
from bercail.ports import House


class Planner:
    """Plans models one by one, each with what others are promised in mind, and tells the schedule of their needs."""

    def __init__(self, floor: Dispatcher, tell: Callable[[news.News], None]) -> None:
        """Make it; the machine is looked at when the first model is planned, and again while nothing is loaded."""
        self._floor = floor
        self._tell = tell
        self._here: Here | None = None

    async def plan(self, house: House, entry: Entry) -> None:
        """What the model needs, as it would be loaded now; whoever comes meanwhile waits for the same answer.

        Raises:
            BercailError: it cannot be loaded at all.
        """
        if entry.planning is None or entry.planning.done():
            entry.planning = self._floor.spawn(self._planned(house, entry))
        await asyncio.shield(entry.planning)

    async def _planned(self, house: House, entry: Entry) -> None:
        if entry.command is not None:
            with self._told(entry):  # before anything leaves memory for it; what it takes there is not known
                await asyncio.to_thread(house.commands.check, entry.command)
            return
        if entry.found is None:
            assert entry.failure is not None, "what was not found has its reason"
            raise entry.failure
        entry.error = ""
        if self._here is None or self._floor.is_empty:
            self._here = await around(house)
        with self._told(entry):
            here = self._spread(self._here, entry)
            prepared = await prepare(_wishing(house, entry), entry.found, self._tell, here, entry.allotment)
        entry.prepared, entry.model, entry.chat_refusal = prepared, prepared.model, prepared.chat_refusal
        terms = self._floor.state.terms
        need = entry.need()
        budget = {**terms.budget, **entry.budget(house.settings.engine)}
        if terms.needs.get(entry.id) != need or budget != terms.budget:
            self._floor.feed(
                events.TermsChanged(terms=replace(terms, needs={**terms.needs, entry.id: need}, budget=budget))
            )

    @contextlib.contextmanager
    def _told(self, entry: Entry) -> Iterator[None]:
        """What fails in it is told as the reason why the model cannot be loaded."""
        try:
            yield
        except BercailError as error:
            entry.error = str(error)
            self._tell(news.LoadFailed(model_id=entry.id, error=str(error)))
            raise

    def _spread(self, here: Here, entry: Entry) -> Here:
        """``here`` with the GPUs first that others need least of: of like cards, each model takes the next."""
        promised: dict[str, Bytes] = {}
        for name, need in self._floor.state.terms.needs.items():
            for card, count in need.bytes.items() if name != entry.id else ():
                promised[card] = promised.get(card, 0) + count
        offers = (replace(offer, gpus=emptiest_first(offer.gpus, promised)) for offer in here.offers)
        return replace(here, offers=tuple(offers))


def _wishing(house: House, entry: Entry) -> House:
    """The house with the wishes that a configuration has for this model."""
    wish = entry.wish(house.settings.engine)
    return replace(house, settings=replace(house.settings, engine=wish))
