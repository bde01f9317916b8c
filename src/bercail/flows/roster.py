"""All models that are served: those that a configuration declares, those of servers elsewhere, and those found."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bercail.core.allotment import allot
from bercail.core.claims import allotment_problems, claims_of, meeting
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Selector, Target, Way
from bercail.core.declared import Declared
from bercail.core.errors import BercailError
from bercail.core.model import Findings
from bercail.core.pattern import is_pattern
from bercail.flows.inspect import resolve
from bercail.flows.resident import Entry
from bercail.ports import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Who is served, and under which names.

    Attributes:
        entries: by id, in the order in which they are listed.
        names: other names, and the id that each means.
        patterns: what stands for many names, and the id that each means.
        selectors: by their names.
        problems: what is found and not served, and what is wrong with shares of the cores, in words.
    """

    entries: Mapping[str, Entry]
    names: Mapping[str, str]
    selectors: Mapping[str, Selector]
    problems: tuple[str, ...] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> tuple[str, ...]:
        """Ids and selectors that whoever asks for another name is told; none that are not to be listed."""
        ids = (name for name, entry in self.entries.items() if not (entry.declared and entry.declared.unlisted))
        return (*ids, *(name for name, one in self.selectors.items() if not one.unlisted))


def muster(
    house: House, findings: Findings, configuration: Configuration, before: Mapping[str, tuple[int, ...]] | None = None
) -> Roster:
    """Everybody. What is declared comes first; what is found under a name that is declared is left out, with a word.

    Args:
        house: what is built here.
        findings: models that were found or named.
        configuration: those that are declared.
        before: CPUs that models were given so far, which they keep where that can be.
    """
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    taken = dict(configuration.routes())
    for declared in configuration.models:
        entries[declared.id] = _declared(house, declared)
    for peer in configuration.peers:
        for model in peer.models:
            source = peer.command(model)
            elsewhere = Declared(
                id=source.model_id, line=peer.line, source=source, upstream_name=model, filters=peer.filters,
                timeouts=peer.timeouts, aliases=_bare(taken, model, source.model_id),
            )  # fmt: skip
            entries[source.model_id] = Entry(id=source.model_id, declared=elsewhere, command=source)
    for found in findings.models:
        if found.id in taken:
            problems.append(f"{found.path} is not served: the configuration has another {found.id}")
        else:
            entries[found.id] = Entry(id=found.id, found=found)
    problems += _share_cores(house, configuration, entries, before)
    names = {
        name: f"{target.id}/{target.model}" if target.way is Way.PEER else target.id
        for name, target in taken.items()
        if target.way is not Way.SELECTOR
    }
    selectors = {selector.id: selector for selector in configuration.selectors}
    patterns = configuration.patterns()
    return Roster(entries=entries, names=names, selectors=selectors, problems=tuple(problems), patterns=patterns)


def also_listed(
    entry: Entry, roster: Roster, configuration: Configuration, pins: Mapping[str, str | None]
) -> dict[str, str]:
    """Other names under which a model is listed: its aliases, if they are to be, and those that a profile gives it.

    A name that a profile gives is left out where a model is listed under it already.
    """
    aliases = entry.declared.aliases if entry.declared and configuration.gateway.aliases_listed else ()
    found = dict.fromkeys((alias for alias in aliases if not is_pattern(alias)), "alias")
    for name, target in pins.items():
        shadows = name in roster.entries or (name in roster.names and configuration.gateway.aliases_listed)
        if target is not None and not shadows and roster.names.get(target, target) == entry.id:
            found[name] = "profile"
    return found


def _bare(taken: Mapping[str, Target], model: str, model_id: str) -> tuple[str, ...]:
    """The name of a peer's model without the peer, if it means that model."""
    target = taken.get(model)
    means_it = target is not None and target.way is Way.PEER and f"{target.id}/{target.model}" == model_id
    return (model,) if means_it else ()


def _share_cores(
    house: House,
    configuration: Configuration,
    entries: Mapping[str, Entry],
    before: Mapping[str, tuple[int, ...]] | None,
) -> tuple[str, ...]:
    """Give those that ask for it a share of the cores; what there is to know of that, in words."""
    found_here = [name for name, entry in entries.items() if entry.declared is None]
    claims, beside = claims_of(configuration, house.settings.engine, found_here), meeting(configuration.rule)
    if not any(claim.is_auto for claim in claims):
        return ()
    shares = allot(house.prober.probe().cpu, claims, beside, before)
    for name, share in shares.items():
        entries[name].allotment = share
    return allotment_problems(claims, shares, beside)


def _declared(house: House, declared: Declared) -> Entry:
    source = declared.source
    if isinstance(source, CommandSpec):
        return Entry(id=declared.id, declared=declared, command=source)
    try:
        found = resolve(house.reader, source.path, house.settings.library.folders)
    except BercailError as error:
        return Entry(id=declared.id, declared=declared, error=str(error), failure=error)
    return Entry(id=declared.id, declared=declared, found=replace(found, id=declared.id))
