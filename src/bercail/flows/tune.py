"""``bercail engine compare MODEL --settings``: the fastest engine with other settings, one at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bercail.core import news
from bercail.core.engine import EngineSettings, Make
from bercail.core.errors import BercailError, RefusedError
from bercail.core.model import FoundModel
from bercail.core.options import EngineOptions, purpose_of
from bercail.core.pace import lies_on, reading_s, usual_s
from bercail.core.rules import with_value
from bercail.core.search import CACHE, Axis, Base, Load, Tried, Value, axes, gain_of, next_value, now_at, tried
from bercail.core.tuning import Gain, Setting
from bercail.flows.measure import Exam, Timed, examine
from bercail.flows.prepare import Prepared, prepare
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What a search came to.

    Attributes:
        rows: what was tried.
        gains: what is taken.
        timed: the model with that, as it was loaded last.
    """

    rows: tuple[Tried, ...]
    gains: tuple[Gain, ...]
    timed: Timed


@dataclass(slots=True, kw_only=True)
class _Search:
    """A search at work.

    Attributes:
        house: whose settings name the engine, and the order of weights, that were fastest.
        found: the model.
        tell: hears of each load.
        timed: the fastest so far.
    """

    house: House
    found: FoundModel
    tell: Callable[[news.News], None]
    timed: Timed

    async def along(self, axis: Axis) -> tuple[Tried, ...]:
        """What comes of each value of one setting; what is taken is what the next setting is tried beside."""
        axis = now_at(axis, self.timed.prepared.plan.settings)
        loads: list[Load] = []
        seen: dict[Value, Timed] = {}
        while (value := next_value(axis, loads)) is not None:
            loads.append(await self._load(axis, value, seen))
        rows = tried(axis, loads)
        if gain := gain_of(rows):
            self.timed = seen[gain.value]
        return rows

    async def _load(self, axis: Axis, value: Value, seen: dict[Value, Timed]) -> Load:
        wish, settings = self.house.settings.engine, self.timed.prepared.plan.settings
        library = self.timed.prepared.engine.offer.make is Make.LIBRARY
        asked = _pinned(wish, _changed(settings, axis, value), library=library)
        house = replace(self.house, settings=replace(self.house.settings, engine=asked))
        offer = self.timed.prepared.engine.offer
        self.tell(news.Trying(engine=str(offer), repack=settings.repack, setting=f"{axis.setting} {value}"))
        try:
            timed = await self._examined(house, self.timed.exam)
        except BercailError as error:
            return Load(value=value, failure=error.message)
        seen[value] = timed
        return Load(value=value, seconds=usual_s(timed.prepared.model, timed.pace, purpose_of(wish)))

    async def _examined(self, house: House, exam: Exam) -> Timed:
        """The model with the settings that ``house`` asks for, in the same place.

        Raises:
            as `examine`; RefusedError too where less of it would lie on GPUs.
        """
        prepared = await prepare(house, self.found, self.tell)
        if _place(prepared) != _place(self.timed.prepared):
            raise RefusedError("less of the model would lie on GPUs")
        return await examine(house, prepared, self.tell, exam)


async def tune(
    house: House, found: FoundModel, timed: Timed, tell: Callable[[news.News], None], *, settings: bool, lossy: bool
) -> Tuned:
    """What is faster than ``timed``, the model as the rules of ``house`` have it planned; nothing is kept.

    Args:
        house: whose settings name the engine and the order of weights.
        found: the model.
        timed: what it did.
        tell: hears of each load.
        settings: try what leaves answers as they are; what is clearly faster stays while others are tried.
        lossy: try a smaller type of keys and values, which is never taken.
    """
    search = _Search(house=house, found=found, tell=tell, timed=timed)
    rows = tuple([await search.along(axis) for axis in axes(_base(house, timed), settings=settings, lossy=lossy)])
    gains = tuple(gain for row in rows if (gain := gain_of(row)))
    return Tuned(rows=tuple(one for row in rows for one in row), gains=gains, timed=search.timed)


def _base(house: House, timed: Timed) -> Base:
    prepared = timed.prepared
    model, plan, wish = prepared.model, prepared.plan, house.settings.engine
    seconds = usual_s(model, timed.pace, purpose_of(wish))
    assert seconds, "what is the fastest was timed"
    return Base(
        cpu=prepared.machine.cpu,
        settings=plan.settings,
        wish=wish,
        reading=reading_s(model, timed.pace, purpose_of(wish)) / seconds,
        reach_tokens=timed.exam.prompt_tokens,
        library=prepared.engine.offer.make is Make.LIBRARY,
        on_gpus=bool(_place(prepared)),
    )


def _place(prepared: Prepared) -> str | None:
    return lies_on(prepared.machine.gpus, prepared.plan.settings, prepared.model.shape.layers)


def _changed(settings: EngineSettings, axis: Axis, value: Value) -> EngineSettings:
    if axis.setting == CACHE:
        return replace(settings, kv_type_k=str(value), kv_type_v=str(value))
    return with_value(settings, Setting(axis.setting), int(value))


def _pinned(wish: EngineOptions, settings: EngineSettings, *, library: bool) -> EngineOptions:
    """``wish`` with ``settings`` asked for: what does not fit with them is refused instead of planned otherwise."""
    told = replace(
        wish, context=settings.slot_context_tokens, slots=settings.slots, threads_batch=settings.threads_batch
    )
    if library:
        return told
    return replace(
        told,
        threads=settings.threads,
        batch=settings.batch_tokens,
        ubatch=settings.ubatch_tokens,
        kv_type_k=settings.kv_type_k,
        kv_type_v=settings.kv_type_v,
        prompt_cache=settings.prompt_cache_bytes,
    )
