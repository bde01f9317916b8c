"""One model as the scheduler sees it: where it is in its life, who waits for it, who is served, what it holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bercail.core.line import Line, Ticket
from bercail.core.need import Keep, Need, Policy
from bercail.core.units import Bytes, Seconds

NEW_SHARE = 0.25
"""How much a newly observed time counts against all earlier ones."""


class Stand(StrEnum):
    """Where a model is in its life: out of memory, called while others leave for it, and from there to out again."""

    OUT = "out"
    CALLED = "called"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


STAYING = frozenset((Stand.CALLED, Stand.STARTING, Stand.READY))
"""Whose memory is taken, or promised, beyond what is about to leave."""
HOLDING = frozenset((Stand.STARTING, Stand.READY, Stand.DRAINING, Stand.STOPPING))
"""Who may have a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A request being served: whose it is, since when, and what its key was charged."""

    key: str
    begun_s: Seconds
    charged_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What has happened to a model, other than its requests.

    Attributes:
        held: bytes by device that it takes from its start until it is really gone.
        learned: what its last loads have shown that it needs; None before.
        began_s: when it was called, then when its start was asked for.
        ready_s: when it last became ready.
        out_s: when it last ceased to be served.
        load_s: how long its loads take; None before the first.
        not_before_s: it may not start earlier, for it has just failed.
        wanted: it is to come though no request may wait for it.
        resting: it was unloaded by hand, so it comes only when asked for.
        retried: its memory did not suffice, and another try is owed or under way.
        going: it leaves for its own reasons, not for another model that may change its mind.
        stay_s: how long it may idle until it leaves, as a client has asked; None is as its need says.
    """

    held: Mapping[str, Bytes] = field(default_factory=dict)
    learned: Mapping[str, Bytes] | None = None
    began_s: Seconds = 0.0
    ready_s: Seconds = -math.inf
    out_s: Seconds = -math.inf
    load_s: Seconds | None = None
    not_before_s: Seconds = -math.inf
    wanted: bool = False
    resting: bool = False
    retried: bool = False
    going: bool = False
    stay_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A model's part of the state.

    Attributes:
        running: the requests it serves, by the number of their ticket.
        used_s: when a request last began or ended.
        turn_s: the turn of the last one that it was given, on the scale of ``share.Use.had_s``.
        service_s: how long its answers take; None before the first.
    """

    stand: Stand = Stand.OUT
    line: Line = field(default_factory=Line)
    running: Mapping[int, Service] = field(default_factory=dict)
    used_s: Seconds = 0.0
    turn_s: float = 0.0
    service_s: Seconds | None = None
    past: Past = field(default_factory=Past)

    @property
    def busy(self) -> bool:
        """Whether somebody is served or waits."""
        return bool(self.running or self.line)


def averaged(before: Seconds | None, seen: Seconds) -> Seconds:
    """An exponentially weighted mean, ``NEW_SHARE`` for the newest."""
    return seen if before is None else before + NEW_SHARE * (seen - before)


def load_s(need: Need, seat: Seat) -> Seconds:
    """How long a load is expected to take."""
    return need.reload_s if seat.past.load_s is None else seat.past.load_s


def service_s(policy: Policy, seat: Seat) -> Seconds:
    """How long an answer is expected to take."""
    return policy.first_service_s if seat.service_s is None else seat.service_s


def required(need: Need, seat: Seat) -> Mapping[str, Bytes]:
    """Bytes by device for its next start: as learned, else as planned."""
    return need.bytes if seat.past.learned is None else seat.past.learned


def held_until_s(policy: Policy, need: Need, seat: Seat) -> Seconds:
    """Until when a ready model is spared for having just come in."""
    return seat.past.ready_s + min(policy.min_residency_s, load_s(need, seat))


def idle_from_s(policy: Policy, need: Need, seat: Seat) -> Seconds:
    """From when a ready model without requests counts as idle."""
    return seat.used_s + min(policy.linger_s, load_s(need, seat) / 4)


def expires_s(need: Need, seat: Seat) -> Seconds:
    """When a ready model without requests has outlived its time; infinity if never."""
    stay_s = need.ttl_s if seat.past.stay_s is None else seat.past.stay_s
    if stay_s is None or need.keep in (Keep.PINNED, Keep.WARM):
        return math.inf
    return max(seat.past.ready_s, seat.used_s) + stay_s


def entered_s(seat: Seat) -> Seconds:
    """Since when its oldest request waits for it to come in; somebody must wait."""
    return max(seat.line.oldest.arrived_s, seat.past.out_s)


def limited_from_s(seat: Seat, ticket: Ticket) -> Seconds:
    """From when the longest wait that is allowed counts for a request: loading does not."""
    return max(ticket.arrived_s, seat.past.ready_s)


def comes_back(need: Need, seat: Seat) -> bool:
    """Whether it is to be in memory though nobody asks."""
    return seat.past.wanted or (need.keep in (Keep.PINNED, Keep.WARM) and not seat.past.resting)
