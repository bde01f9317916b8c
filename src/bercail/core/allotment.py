"""Which cores each model gets that asks for ``cores: auto``: those of the machine, shared out.

Models that may be in memory side by side get physical cores of their own, as many as the others and as near to each
other as can be: whole NUMA nodes before whole level-3 caches (the CCDs of AMD's) before single cores, and never fast
and slow ones of a hybrid processor mixed. Models that never meet may have the same ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from bercail.core.cpulist import format_cpulist, parse_cpulist
from bercail.core.machine import Cpu, NumaNode

AUTO = "auto"
"""What asks for a share of the machine's cores, in the place of a list of CPUs."""

FAST, SLOW = 2, 1
"""What a core is worth where a processor has two types: capacities of 1024 stand against 530 to 731 (RK3588, GB10)."""

ANY_NODE = "no node was named"

Core: TypeAlias = tuple[int, ...]
"""The usable CPUs of a physical core."""
Part: TypeAlias = tuple[Core, ...]
"""Cores for one model, or for several that never meet."""
Beside: TypeAlias = Callable[[str, str], bool]
"""Whether two models may be in memory side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one model asks for.

    Attributes:
        cores: ``auto``, a list of CPUs, or None for no wish.
        numa: a node that it is to be kept to, or None.
    """

    id: str
    cores: str | None = None
    numa: int | None = None

    @property
    def is_auto(self) -> bool:
        """Whether it asks for a share."""
        return self.cores == AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """The share of one model.

    Attributes:
        cpus: it is kept to; empty is all that may be used.
        node: NUMA node that all its memory comes from, or None.
        because: why these.
        memory: why its memory comes from there.
        refusal: why there is none, or empty.
    """

    cpus: tuple[int, ...] = ()
    node: int | None = None
    because: str = ""
    memory: str = ANY_NODE
    refusal: str = ""

    def without_node(self) -> "Allotment":
        """The same cores, and memory from wherever there is some."""
        return replace(self, node=None, memory=f"more than NUMA node {self.node} has, so from all of them")


@dataclass(frozen=True, slots=True)
class _Team:
    """Models that share cores out among themselves: each may be beside another of them, and beside nobody else.

    Attributes:
        roles: of each; those of one role never meet.
    """

    roles: Mapping[str, int]
    beside: Mapping[str, tuple[str, ...]]

    @property
    def count(self) -> int:
        """How many shares are needed."""
        return max(self.roles.values()) + 1


def alone(cpu: Cpu, numa: int | None = None) -> Allotment:
    """The share of the only model there is; ``numa`` is the node that it is to be kept to, or None."""
    return allot(cpu, (Claim(id="", cores=AUTO, numa=numa),), lambda one, other: False)[""]


def allot(
    cpu: Cpu, claims: Sequence[Claim], beside: Beside, before: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Allotment]:
    """A share for everyone who asks for one.

    Those that are to be kept to a NUMA node share out that first; what others name themselves is left out for all that
    may be beside them. Nothing depends on how busy the machine is: the same question has the same answer.

    Args:
        cpu: the processor as it may be used.
        claims: of all models that may run here, in the order in which they are to be served.
        beside: whether two of them may be in memory side by side.
        before: what they had so far; whoever can keep it does.
    """
    taken = {claim.id: _named(cpu, claim) for claim in claims if not claim.is_auto}
    found: dict[str, Allotment] = {}
    asking = [claim for claim in claims if claim.is_auto]
    for node in (*sorted({claim.numa for claim in asking if claim.numa is not None}), None):
        ids = [claim.id for claim in asking if claim.numa == node]
        round_found: dict[str, Allotment] = {}
        for team in _teams(ids, beside):
            others = {
                name: cpus for name, cpus in taken.items() if cpus and any(beside(name, own) for own in team.roles)
            }
            round_found |= _shared(cpu, team, others, before or {}, node)
        found |= round_found
        taken |= {name: frozenset(share.cpus) for name, share in round_found.items()}
    return {claim.id: found[claim.id] for claim in asking}


def roaming(claims: Sequence[Claim], beside: Beside) -> tuple[str, ...]:
    """Those that are kept to no cores and may be beside somebody who was given some of his own."""
    autos = [claim.id for claim in claims if claim.is_auto]
    free = (claim.id for claim in claims if claim.cores is None and claim.numa is None)
    return tuple(name for name in free if any(beside(name, auto) for auto in autos))


def _named(cpu: Cpu, claim: Claim) -> frozenset[int]:
    """The CPUs that a claim names itself."""
    if claim.cores is not None:
        return frozenset(parse_cpulist(claim.cores) or ())
    return frozenset(_node_cpus(cpu, claim.numa)) if claim.numa is not None else frozenset()


def _node_cpus(cpu: Cpu, number: int) -> tuple[int, ...]:
    return next((node.cpus for node in cpu.nodes if node.id == number), ())


def _teams(ids: Sequence[str], beside: Beside) -> tuple[_Team, ...]:
    """The models in teams, those of each in the order in which they came."""
    met = {one: tuple(other for other in ids if other != one and beside(one, other)) for one in ids}
    teams: list[_Team] = []
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            continue
        reached = [one]
        for name in reached:
            reached += [other for other in met[name] if other not in reached]
        seen.update(reached)
        members = [name for name in ids if name in reached]
        teams.append(_Team(_roles(members, met), {name: met[name] for name in members}))
    return tuple(teams)


def _roles(members: Sequence[str], met: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """The first role of each that nobody has whom it may meet."""
    roles: dict[str, int] = {}
    for name in members:
        others = {roles[other] for other in met[name] if other in roles}
        roles[name] = next(role for role in range(len(members)) if role not in others)
    return roles


def _shared(
    cpu: Cpu, team: _Team, others: Mapping[str, frozenset[int]], before: Mapping[str, tuple[int, ...]], node: int | None
) -> dict[str, Allotment]:
    """The shares of a team beside what others have."""
    within = set(cpu.logical_cpus if node is None else _node_cpus(cpu, node))
    gone = frozenset().union(*others.values()).intersection(within)
    if team.count == 1 and not gone and node is None:
        because = "all usable: no other model that is given cores may be in memory beside it"
        return {name: Allotment(because=because) for name in team.roles}
    free = [core for core in _cores(cpu) if within.issuperset(core) and not gone.intersection(core)]
    parts = _parts(cpu, _granted(cpu, free, team.count), team.count)
    by_role = _as_before(parts, team, before)
    held = _widened(cpu, team, by_role)
    return {
        name: _allotment(cpu, name, team, held[name], [name for name, cpus in others.items() if cpus & within])
        if name in held
        else Allotment(refusal=_none_left(name, team, len(free), others))
        for name in team.roles
    }


def _cores(cpu: Cpu) -> tuple[Core, ...]:
    """The physical cores; every CPU counts as one where it is hidden which belong together."""
    return cpu.cores or tuple((number,) for number in cpu.logical_cpus)


def _granted(cpu: Cpu, free: Sequence[Core], count: int) -> Sequence[Core]:
    """No more cores than the CPU quota lets work at once, unless everybody could not have one then."""
    return free if cpu.quota_cpus is None else free[: max(count, int(cpu.quota_cpus))]


def _parts(cpu: Cpu, cores: Sequence[Core], count: int) -> tuple[Part, ...]:
    """As many parts, or one for each core if there are fewer: of fast cores or of slow ones, the smallest the best."""
    fast = [core for core in cores if set(core).intersection(cpu.fast_cpus)]
    slow = [core for core in cores if not set(core).intersection(cpu.fast_cpus)]
    count = min(count, len(cores))

    def least(quick: int) -> tuple[float, int]:
        worths = [FAST * (len(fast) // quick)] if quick else []
        worths += [SLOW * (len(slow) // (count - quick))] if count > quick else []
        return min(worths, default=0), quick

    quick = max((n for n in range(count + 1) if n <= len(fast) and count - n <= len(slow)), key=least)
    levels = _levels(cpu)
    return (*_cut(fast, quick, levels), *_cut(slow, count - quick, levels))


Level: TypeAlias = Sequence[tuple[int, ...]]


def _levels(cpu: Cpu) -> tuple[Level, ...]:
    """CPUs of NUMA nodes and of level-3 caches, the wider ones first: some caches serve several nodes."""
    nodes: Level = [node.cpus for node in cpu.nodes]
    return tuple(sorted((nodes, cpu.l3_groups), key=len))


def _cut(cores: Sequence[Core], count: int, levels: Sequence[Level]) -> tuple[Part, ...]:
    """``count`` parts, no more than there are cores: whole units of the first level, or some within each of them.

    Whichever leaves the smallest part largest; of equals, what leaves no core idle.
    """
    if not count:
        return ()
    if not levels:
        return _runs([[core] for core in cores], count)
    units = _units(cores, levels[0])
    ways = [_within(units, count, levels[1:])]
    if count <= len(units):
        ways.append(_runs(units, count))
    return max(ways, key=lambda parts: (min(map(len, parts)), sum(map(len, parts))))


def _units(cores: Sequence[Core], level: Level) -> list[list[Core]]:
    """The cores by unit; those that are in none are one of their own."""
    units: dict[int, list[Core]] = {}
    for core in cores:
        index = next((index for index, cpus in enumerate(level) if core[0] in cpus), len(level))
        units.setdefault(index, []).append(core)
    return list(units.values())


def _within(units: Sequence[Sequence[Core]], count: int, levels: Sequence[Level]) -> tuple[Part, ...]:
    """Parts that each lie within a unit: the next one always where there is most room for it."""
    shares = [0] * len(units)
    for _ in range(count):
        roomiest = max(range(len(units)), key=lambda index: len(units[index]) / (shares[index] + 1))
        shares[roomiest] += 1
    return tuple(part for unit, share in zip(units, shares, strict=True) for part in _cut(unit, share, levels))


def _runs(units: Sequence[Sequence[Core]], count: int) -> tuple[Part, ...]:
    """The units in their order, cut into ``count`` runs as even as whole units allow."""
    total = sum(map(len, units))
    parts: list[Part] = []
    begin = filled = 0
    for number in range(1, count + 1):
        end, last = begin, len(units) - (count - number)
        while end < last and (
            end == begin or number == count or _nearer(filled, len(units[end]), total, number, count)
        ):
            filled += len(units[end])
            end += 1
        parts.append(tuple(core for unit in units[begin:end] for core in unit))
        begin = end
    return tuple(parts)


def _nearer(filled: int, more: int, total: int, number: int, count: int) -> bool:
    """Whether ``more`` cores bring the first ``number`` of ``count`` runs nearer to their share of ``total``."""
    return abs((filled + more) * count - total * number) <= abs(filled * count - total * number)


def _as_before(parts: Sequence[Part], team: _Team, before: Mapping[str, tuple[int, ...]]) -> dict[int, Part]:
    """A part for each role, as far as there are any: the one with most of the CPUs that those in it had before."""
    had: dict[int, set[int]] = {}
    for name, role in team.roles.items():
        had.setdefault(role, set()).update(before.get(name, ()))
    pairs = product(range(team.count), range(len(parts)))
    ranked = sorted(pairs, key=lambda pair: (-len(had[pair[0]].intersection(_cpus(parts[pair[1]]))), *pair))
    found: dict[int, Part] = {}
    left = set(range(len(parts)))
    for role, index in ranked:
        if role not in found and index in left:
            found[role] = parts[index]
            left.remove(index)
    return found


def _widened(cpu: Cpu, team: _Team, by_role: Mapping[int, Part]) -> dict[str, Part]:
    """Everybody's part, with those beside which he has nobody."""
    held = {name: {role} for name, role in team.roles.items() if role in by_role}
    fast = set(cpu.fast_cpus)
    for name, roles in held.items():
        kind = bool(fast.intersection(_cpus(by_role[team.roles[name]])))
        used = set().union(*(held.get(other, ()) for other in team.beside[name]))
        roles |= {
            role for role, part in by_role.items() if role not in used and bool(fast.intersection(_cpus(part))) == kind
        }
    return {name: tuple(core for role in sorted(roles) for core in by_role[role]) for name, roles in held.items()}


def _cpus(part: Iterable[Core]) -> tuple[int, ...]:
    return tuple(sorted(number for core in part for number in core))


def _allotment(cpu: Cpu, name: str, team: _Team, part: Part, others: Sequence[str]) -> Allotment:
    cpus = _cpus(part)
    node = _home(cpu, cpus)
    mates = sorted({*team.beside[name], *others})
    verb = "has" if len(mates) == 1 else "have"
    near = f"; {listed(mates)} may be in memory beside it and {verb} others" if mates else ""
    quota = "" if cpu.quota_cpus is None else f"; the CPU quota is {cpu.quota_cpus:g}"
    several = "these cores are of several nodes" if len(cpu.nodes) > 1 else ANY_NODE
    return Allotment(
        cpus=cpus,
        node=node.id if node else None,
        because=f"auto: {_words(cpu, part)}{near}{quota}",
        memory="the node of these cores" if node else several,
    )


def _home(cpu: Cpu, cpus: Sequence[int]) -> NumaNode | None:
    """The NUMA node that all of them are of, where there is more than one."""
    return next((node for node in cpu.nodes if set(node.cpus).issuperset(cpus)), None) if len(cpu.nodes) > 1 else None


def _words(cpu: Cpu, part: Part) -> str:
    """What a part is made of."""
    cpus, count = set(_cpus(part)), len(part)
    nodes = [node for node in cpu.nodes if cpus.issuperset(node.cpus)]
    if len(cpu.nodes) > 1 and cpus == {number for node in nodes for number in node.cpus}:
        return f"all of NUMA node{'' if len(nodes) == 1 else 's'} {format_cpulist(node.id for node in nodes)}"
    kind = "core" if not cpu.fast_cpus else "performance core" if cpus & set(cpu.fast_cpus) else "efficiency core"
    cores = f"{count} {kind}{'' if count == 1 else 's'}"
    whole = [group for group in cpu.l3_groups if cpus.issuperset(group)]
    if cpus == {number for group in whole for number in group}:
        return f"{cores}, all of {len(whole)} L3 cache{'' if len(whole) == 1 else 's'}"
    within_one = len(cpu.l3_groups) > 1 and any(cpus.issubset(group) for group in cpu.l3_groups)
    return f"{cores} of one L3 cache" if within_one else cores


def _none_left(name: str, team: _Team, free: int, others: Iterable[str]) -> str:
    beside = f" beside {listed(sorted(others))}" if others else ""
    return (
        f"cores auto: {listed(list(team.roles))} need {team.count} shares, for they may be in memory side by side, and "
        f"{free} core{' is' if free == 1 else 's are'} left{beside}, so {name} gets none; put those that need not meet "
        "into a group of which one is in memory at a time, or give it cores by hand"
    )


MOST_NAMED = 4


def listed(names: Sequence[str]) -> str:
    """The names, or the first ones of many."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_NAMED - 1])} and {len(names) - MOST_NAMED + 1} more"
