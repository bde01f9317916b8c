"""The supervisor: which models are in memory, who may use them, and what happens when an engine dies."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from bercail.core import events, news
from bercail.core.alike import names_there
from bercail.core.altered import altered
from bercail.core.configuration import Configuration, Loaded, Profiles, Selector, SideRule
from bercail.core.declared import Keep as Keeping
from bercail.core.errors import BercailError, BusyError, NotFoundError, StoppingError, UsageError
from bercail.core.later import later
from bercail.core.legal import beyond_its_own
from bercail.core.model import Findings
from bercail.core.need import Policy, policy_of
from bercail.core.pattern import meant_by
from bercail.core.report import nowhere_lines
from bercail.core.route import Phase, ServedModel
from bercail.core.seat import Stand
from bercail.core.selecting import select
from bercail.core.units import Seconds
from bercail.flows.dispatch import Dispatcher
from bercail.flows.lease import ResidentLease
from bercail.flows.planning import Planner
from bercail.flows.prepare import read
from bercail.flows.reread import Source
from bercail.flows.resident import Entry
from bercail.flows.roster import Roster, muster
from bercail.flows.sight import Around, Sight
from bercail.ports import House, Watch

_ALIVE = frozenset((Stand.READY, Stand.DRAINING))
_KEPT = frozenset((Keeping.PINNED, Keeping.WARM))
_COMING = frozenset((Stand.CALLED, Stand.STARTING))
_GOING = frozenset((Stand.DRAINING, Stand.STOPPING))


class Supervisor:
    """Owns the engines; who comes in and who is served is decided by ``core.schedule``, and ``core.launch`` per engine.

    A model's need is its plan as if it were alone on the machine. Memory is looked at while none is loaded; from then
    on what is planned for those in memory is counted, for what they map from disk looks free to the system. What
    commands take is not known and not counted: the rule of a configuration says which of them may run together.
    """

    def __init__(
        self,
        house: House,
        findings: Findings,
        tell: Callable[[news.News], None],
        policy: Policy | None = None,
        roster: Roster | None = None,
        source: Source | None = None,
    ) -> None:
        """Begin with everybody out.

        Args:
            house: what is built here.
            findings: models that were found or named.
            tell: hears every step.
            policy: how long one waits, and for what; the usual one if it is None.
            roster: all models, if they have been mustered; to muster them takes a look at the disk.
            source: where the configuration is read anew from; None if it is not.
        """
        self._house = house
        self._findings = findings
        self._tell = tell
        self._roster = roster or muster(house, findings, house.configuration)
        self._entries = dict(self._roster.entries)
        self._floor = Dispatcher(house, self._entries, tell, policy or Policy())
        self._planner = Planner(self._floor, tell)
        self._source = source
        self._began = Loaded(settings=house.settings, configuration=house.configuration)
        self._loaded = self._began
        self._sight = Sight()
        self._reloading = asyncio.Lock()
        self._profiles = Profiles(known=house.configuration.profiles)
        self._introduce(house.configuration, frozenset())

    def models(self) -> tuple[ServedModel, ...]:
        """Every model, loaded or not."""
        seen = tuple(self._served(self._entries[name]) for name in self._roster.entries)
        shown = [one for one in self._roster.selectors.values() if not one.unlisted]
        if not shown:
            return seen
        meant = [(one, self._entry(self._selected(one)).id) for one in shown]
        return tuple(
            replace(model, selectors=tuple(one for one, target in meant if target == model.id)) for model in seen
        )

    def find(self, model_id: str) -> ServedModel:
        """The model of that name, as the profile in force has it; an empty name is the only one, or the loaded one.

        Raises:
            NotFoundError: there is none.
        """
        name = self._profiles.meant(model_id)
        return self._served(self._entry(name), name)

    def profiles(self) -> Profiles:
        """Other names for models, and which are in force."""
        return self._profiles

    def side_rules(self) -> Sequence[SideRule]:
        """Which requests another model may answer rather than have theirs loaded."""
        return self._house.configuration.side_rules

    def switch(self, profile: str) -> None:
        """Put a profile in force, or none if its name is empty.

        Raises:
            NotFoundError: there is no such profile.
        """
        self._profiles = self._profiles.switched(profile)
        self._tell(news.Warned(text=f"the profile {profile} is in force" if profile else "no profile is in force"))

    async def lease(
        self,
        model_id: str,
        key: str = "",
        priority: int = 0,
        *,
        substitutes: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> ResidentLease:
        """A lease on the model, after queueing and loading as needed; all as ``ports.Host`` has it."""
        entry = self._entry(model_id)
        self._refuse_if_stopping()
        asked_s = self._house.clock.monotonic()
        if entry.away:
            raise BusyError(entry.away, retry_after_s=math.ceil(self._house.settings.server.health_interval))
        planned = entry.is_known and bool(self._floor.seat(entry).line)  # for those who wait already
        if self._stand(entry) not in _ALIVE | _COMING and not planned:
            await self._planner.plan(self._house, entry)
            self._refuse_if_stopping()
        ticket = await self._floor.wait(entry, key, priority, tuple(substitutes), watch)
        granted = self._entries[ticket.model]
        resident = granted.last
        assert resident is not None, "what is granted has been loaded"
        return ResidentLease(
            resident, self._served(granted), granted.declared, model_id, resident.load_within_s(asked_s),
            lambda: self._floor.feed(events.Released(ticket=ticket)),
        )  # fmt: skip

    def glance(self, model_id: str) -> ResidentLease | None:
        """A lease that counts for nothing, so that the model may leave any moment; None if it is not in memory.

        Raises:
            NotFoundError: no such model.
        """
        entry = self._entry(model_id)
        if entry.resident is None or self._stand(entry) is not Stand.READY:
            return None
        return ResidentLease(entry.resident, self._served(entry), entry.declared, model_id, 0.0, lambda: None)

    async def load(self, model_id: str) -> None:
        """Bring a model in without a request, where those that are idle make room; returns when it is ready.

        Raises:
            BusyError: there is no room that could be made now, or it was let go of meanwhile.
            BercailError: it cannot be loaded; see ``lease``.
        """
        entry = self._entry(model_id)
        self._refuse_if_stopping()
        await self._planner.plan(self._house, entry)
        entry.declined, before, loads = "", entry.failure, entry.loads
        self._floor.feed(events.Preload(model=entry.id))
        # It may have been ready and have left again between two looks.
        while self._stand(entry) is not Stand.READY and entry.loads == loads:
            failure = entry.failure
            if failure is not None and failure is not before and self._stand(entry) is Stand.OUT:
                raise failure
            if entry.declined:
                raise BusyError(entry.declined)
            if not self._is_awaited(entry):
                raise BusyError(f"{entry.id} was let go of before it was ready")
            await self._floor.changed.wait()
            self._refuse_if_stopping()

    def _is_awaited(self, entry: Entry) -> bool:
        """Whether a model that is not in memory is on its way, or is to be."""
        seat = self._floor.seat(entry)
        return seat.stand is not Stand.OUT or bool(seat.line) or seat.past.wanted

    async def unload(self, model_id: str) -> None:
        """Let a model finish what it serves and leave memory; returns when it has. Those who wait for it are refused.

        Whoever asks for it while it leaves has it loaded anew, which is not waited for.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._entry(model_id)
        self._floor.feed(events.Unload(model=entry.id))
        while self._stand(entry) in _GOING and not self._floor.stopping:
            await self._floor.changed.wait()

    def stay(self, model_id: str, stay_s: Seconds) -> str:
        """Let a model that is in memory idle there for ``stay_s`` until it leaves: 0 unloads, infinity is for ever.

        Returns:
            Why that is not done, in words; empty if it is.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._entry(model_id)
        seat = self._floor.seat(entry)
        others = len(seat.running) + len(seat.line)
        if entry.declared is not None and entry.declared.keep in _KEPT:
            return f"{entry.id} stays in memory, says the configuration"
        if not stay_s and others:
            return f"{entry.id} stays in memory: {'another request uses' if others == 1 else f'{others} others use'} it"
        self._floor.feed(events.Stay(model=entry.id, stay_s=stay_s))
        return ""

    async def welcome(self) -> None:
        """Bring in those that are to be in memory from the start; what cannot is told."""
        configuration = self._house.configuration
        read = (f"line {note.line}: {note.text}" for note in configuration.notes)
        for text in (*self._roster.problems, *read):
            self._tell(news.Warned(text=text))
        for entry in self._roster.entries.values():
            if entry.found is None and entry.command is None:
                self._tell(news.LoadFailed(model_id=entry.id, error=entry.error))
        kept = {model.id for model in configuration.models if model.keep in _KEPT}
        for name in dict.fromkeys((*configuration.preload, *sorted(kept))):
            entry = self._entries[name]
            if self._stand(entry) in _ALIVE | _COMING:
                continue
            try:
                await self._planner.plan(self._house, entry)
            except BercailError:  # told where it was found out
                continue
            self._floor.feed(events.Preload(model=entry.id))

    async def reload(self) -> news.Reloaded:
        """Read the configuration anew and serve what it declares; what is wrong changes nothing, and is told.

        Raises:
            SettingsError: it is wrong; tells the file, the line and what to do.
            UsageError: there is none that could be read.
            StoppingError: the server is going down.
        """
        self._refuse_if_stopping()
        if self._source is None:
            hint = "`bercail serve --config FILE` serves one"
            raise UsageError("no configuration is served that could be read anew", hint=hint)
        async with self._reloading:  # one after the other, and each with what the file holds by then
            try:
                loaded = await asyncio.to_thread(self._source.read)
            except BercailError as error:
                self._tell(news.Warned(text=f"nothing was changed: {error}"))
                raise
            self._wait_as(policy_of(loaded.settings.server))
            before, self._loaded = self._loaded, loaded
            return await self.adopt(loaded.configuration, later(self._began, loaded), altered(before, loaded))

    async def adopt(
        self, configuration: Configuration, waiting: tuple[str, ...] = (), otherwise: tuple[str, ...] = ()
    ) -> news.Reloaded:
        """Serve what ``configuration`` declares: only what has changed starts anew, after its requests have ended.

        Args:
            configuration: what holds from now on.
            waiting: keys that were changed and count only from the next start, which is told.
            otherwise: what else was changed and counts at once, in words, which is told as well.
        """
        self._house.door.take_keys(configuration.gateway.api_keys)
        self._house.door.take_assets(configuration.gateway.asset_paths)
        self._house.door.take_sessions(configuration.gateway.session_headers)
        before = self._roster
        self._house = replace(self._house, configuration=configuration)
        had = {name: entry.allotment.cpus for name, entry in self._entries.items() if entry.allotment is not None}
        roster = await asyncio.to_thread(muster, self._house, self._findings, configuration, had)
        changed, added = [], []
        for name, fresh in roster.entries.items():
            known = self._entries.get(name)
            if known is None:
                self._entries[name] = fresh
                added.append(name)
            elif known.take(fresh):
                changed.append(name)
        self._roster = replace(roster, entries={name: self._entries[name] for name in roster.entries})
        profiles = self._profiles.among(configuration.profiles)
        if profiles.active != self._profiles.active:
            self._tell(news.Warned(text=f"the profile {self._profiles.active} is gone, so none is in force"))
        self._profiles = profiles
        alive = [name for name in changed if self._stand(self._entries[name]) in _ALIVE | _COMING]
        for name in alive:
            with contextlib.suppress(BercailError):  # told where it was found out
                await self._planner.plan(self._house, self._entries[name])
        self._introduce(configuration, frozenset(alive))
        gone = tuple(name for name in before.entries if name not in roster.entries)
        reloaded = news.Reloaded(
            changed=tuple(changed), added=tuple(added), gone=gone, later=waiting, altered=otherwise
        )
        self._tell(reloaded)
        await self.welcome()
        await self.read_headers()
        return reloaded

    def _wait_as(self, policy: Policy) -> None:
        """From now on those who wait, or are to, do so as ``policy`` says."""
        terms = self._floor.state.terms
        if policy != terms.policy:
            self._floor.feed(events.TermsChanged(terms=replace(terms, policy=policy)))

    def _introduce(self, configuration: Configuration, reload: frozenset[str]) -> None:
        """Tell the schedule of models whose needs are known, and of the rule that holds beside memory."""
        needs = {name: entry.need() for name, entry in self._roster.entries.items() if entry.is_known}
        if needs or configuration.rule is not None or self._floor.state.terms.needs:
            terms = replace(self._floor.state.terms, needs=needs, leaves=configuration.leaving)
            self._floor.feed(events.TermsChanged(terms=terms, reload=reload & needs.keys()))

    async def read_headers(self) -> None:
        """Read what is not yet read, so that listings tell context lengths and capabilities; what fails is told."""
        for entry in tuple(self._entries.values()):
            if entry.found is not None and entry.model is None and not entry.error:
                try:
                    entry.model = await read(self._house, entry.found)
                except BercailError as error:
                    entry.error = str(error)
                else:
                    entry.error = beyond_its_own(entry.model, entry.wish(self._house.settings.engine).context)
                if entry.error:
                    self._tell(news.LoadFailed(model_id=entry.id, error=entry.error))

    async def close(self) -> None:
        """Stop all engines and refuse whoever waits."""
        await self._floor.close()

    def _refuse_if_stopping(self) -> None:
        if self._floor.stopping:
            raise StoppingError("the server is going down", hint="try again when it is back")

    def _entry(self, model_id: str) -> Entry:
        listed = self._roster.entries
        if not listed:
            lines = nowhere_lines(self._findings)
            raise NotFoundError("; ".join(lines[:-1]), hint=lines[-1], code="no_models")
        if selector := self._roster.selectors.get(model_id):
            return self._entry(self._selected(selector))
        name = self._roster.names.get(model_id, model_id)
        if name in listed:
            return self._entries[name]
        if (owner := meant_by(model_id, self._roster.patterns)) is not None:
            return self._entries[owner]
        names = self._roster.shown()
        if model_id:
            raise NotFoundError(f"no model {model_id!r}", hint=names_there(model_id, names))
        loaded = [name for name in listed if self._entries[name].resident is not None]
        likely = list(listed) if len(listed) == 1 else loaded
        if len(likely) == 1:
            return self._entries[likely[0]]
        which = "several are loaded" if likely else "none is loaded"
        raise NotFoundError(f"the request names no model and {which}", hint=f"name one of: {', '.join(names)}")

    def _selected(self, selector: Selector) -> str:
        """Which of its targets a selector means right now."""
        targets = {name: self._entry(name) for name in selector.targets}
        phases = {name: self._served(entry).phase for name, entry in targets.items()}
        seats = {name: self._floor.seat(entry) for name, entry in targets.items()}
        return select(selector, phases, {name: len(seat.running) + len(seat.line) for name, seat in seats.items()})

    def _served(self, entry: Entry, asked: str = "") -> ServedModel:
        seat = self._floor.seat(entry)
        stand = seat.stand
        phase = Phase.LOADING if stand in _COMING else Phase.FAILED if entry.error else Phase.UNLOADED
        if entry.resident is not None and stand in _ALIVE:
            phase = Phase.FAILED if entry.away else Phase.LOADED
        house, profiles = self._house, self._profiles
        around = Around(
            roster=self._roster, configuration=house.configuration, profiles=profiles, general=house.settings.engine
        )
        load = len(seat.running), len(seat.line)
        return self._sight.see(entry, phase, around, requests=load[0], waiting=load[1], asked=asked)

    def _stand(self, entry: Entry) -> Stand:
        return self._floor.seat(entry).stand
