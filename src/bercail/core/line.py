"""The requests that wait for one model: a lane for each key and priority, the lane whose turn it is first."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bercail.core.units import Seconds

LaneName: TypeAlias = tuple[str, int]
"""Key and priority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One request's place.

    Attributes:
        number: unique, rising with arrival.
        key: whose share it counts for.
        priority: 0 is ordinary; the higher, the sooner.
        substitutes: models that may answer instead if they are ready and its own is not, the best first.
    """

    number: int
    model: str
    key: str = ""
    priority: int = 0
    arrived_s: Seconds = 0.0
    substitutes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Requests of one key and priority, oldest first; never empty. ``tag`` is when its turn comes, in service."""

    tag: float
    tickets: tuple[Ticket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Who waits for one model.

    Finding a lane is a look-up or a bisection; a change copies the references of one lane and of the lanes, which the
    lengths allowed by the policy bound.

    Attributes:
        order: tag, number of the oldest ticket and name of every lane, in the order of service.
    """

    lanes: Mapping[LaneName, Lane] = field(default_factory=dict)
    order: tuple[tuple[float, int, LaneName], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.order)

    def __len__(self) -> int:
        return sum(len(lane.tickets) for lane in self.lanes.values())

    def __iter__(self) -> Iterator[Ticket]:
        """In the order of arrival."""
        return iter(sorted((ticket for lane in self.lanes.values() for ticket in lane.tickets), key=_number))

    @property
    def first(self) -> Ticket:
        """Whose turn it is; there must be one."""
        return self.lanes[self.order[0][2]].tickets[0]

    @property
    def first_tag(self) -> float:
        """When that turn came."""
        return self.order[0][0]

    @property
    def oldest(self) -> Ticket:
        """Who came first; there must be one."""
        return min((lane.tickets[0] for lane in self.lanes.values()), key=_number)

    def has(self, ticket: Ticket) -> bool:
        """Whether it waits here."""
        lane = self.lanes.get((ticket.key, ticket.priority))
        return lane is not None and _place(lane, ticket) < len(lane.tickets)

    def with_ticket(self, ticket: Ticket, tag: float) -> "Line":
        """With one more; ``tag`` counts only if its lane is new."""
        name = (ticket.key, ticket.priority)
        lane = self.lanes.get(name)
        if lane is not None:
            longer = Lane(tag=lane.tag, tickets=(*lane.tickets, ticket))
            return Line(lanes={**self.lanes, name: longer}, order=self.order)
        lanes = {**self.lanes, name: Lane(tag=tag, tickets=(ticket,))}
        return Line(lanes=lanes, order=_inserted(self.order, (tag, ticket.number, name)))

    def without(self, ticket: Ticket, tag: float | None = None) -> "Line":
        """With one less; if it stood first in its lane, the next turn there comes at ``tag``, by default unchanged."""
        name = (ticket.key, ticket.priority)
        lane = self.lanes[name]
        place = _place(lane, ticket)
        rest = lane.tickets[:place] + lane.tickets[place + 1 :]
        lanes = dict(self.lanes)
        if place:
            lanes[name] = Lane(tag=lane.tag, tickets=rest)
            return Line(lanes=lanes, order=self.order)
        at = bisect_left(self.order, (lane.tag, ticket.number, name))
        order = self.order[:at] + self.order[at + 1 :]
        if not rest:
            del lanes[name]
            return Line(lanes=lanes, order=order)
        next_tag = lane.tag if tag is None else tag
        lanes[name] = Lane(tag=next_tag, tickets=rest)
        return Line(lanes=lanes, order=_inserted(order, (next_tag, rest[0].number, name)))

    def position(self, ticket: Ticket) -> int:
        """Which in the order of service it will be, 1 for the next, if all take as long and the lanes alternate."""
        mine = (ticket.key, ticket.priority)
        depth = _place(self.lanes[mine], ticket)
        ahead, before = depth, 1
        for _, _, name in self.order:
            if name == mine:
                before = 0
            else:
                ahead += min(len(self.lanes[name].tickets), depth + before)
        return ahead + 1


def _number(ticket: Ticket) -> int:
    return ticket.number


def _place(lane: Lane, ticket: Ticket) -> int:
    """Where it stands in the lane, or the lane's length."""
    at = bisect_left(lane.tickets, ticket.number, key=_number)
    found = at < len(lane.tickets) and lane.tickets[at].number == ticket.number
    return at if found else len(lane.tickets)


def _inserted(
    order: tuple[tuple[float, int, LaneName], ...], entry: tuple[float, int, LaneName]
) -> tuple[tuple[float, int, LaneName], ...]:
    at = bisect_left(order, entry)
    return (*order[:at], entry, *order[at:])
