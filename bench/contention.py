"""Clients that want more models than memory holds, under the scheduler and first come, first served."""

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from bench.world import FirstComeFirstServed, Scheduled, Told, World
from bercail.core.line import Ticket
from bercail.core.need import Keep, Need, Policy, Terms

REQUESTS = 100
STOP_S = 2.0
PAIR = Terms(
    needs={name: Need(bytes={"gpu": 10}, slots=2, reload_s=8.0) for name in ("a", "b")},
    budget={"gpu": 16},
    policy=Policy(queue_per_key=2 * REQUESTS),
)
FIVE = Terms(
    needs={
        "small": Need(bytes={"gpu0": 4}, slots=4, reload_s=3.0, keep=Keep.EVICTABLE),
        "embed": Need(bytes={"gpu1": 2}, slots=8, reload_s=2.0),
        "code": Need(bytes={"gpu0": 10}, slots=2, reload_s=8.0),
        "chat": Need(bytes={"gpu1": 12}, slots=2, reload_s=10.0),
        "large": Need(bytes={"gpu0": 8, "gpu1": 12}, slots=1, reload_s=20.0),
    },
    budget={"gpu0": 16, "gpu1": 16},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of all requests. Shares are of the seconds of answers until the first client has all of its own."""

    loads: int
    seconds_in_all: float
    longest_wait_until_swap_begins_s: float
    wait_for_grant_median_s: float
    wait_for_grant_max_s: float
    until_answered_median_s: float
    until_answered_max_s: float
    refused: int
    share_while_contended: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same requests under both."""

    scheduler: Outcome
    first_come_first_served: Outcome

    @property
    def fewer_loads(self) -> float:
        """How many times."""
        return self.first_come_first_served.loads / self.scheduler.loads


def compared(terms: Terms, requests: Callable[[World], None]) -> Comparison:
    """The same requests under both."""
    outcomes = []
    for policy in (Scheduled(), FirstComeFirstServed()):
        load_s = {model: need.reload_s for model, need in terms.needs.items()}
        world = World(terms=terms, policy=policy, load_s=load_s, stop_s=STOP_S, answer_s=answer_s)
        requests(world)
        world.run()
        outcomes.append(outcome(world))
    return Comparison(scheduler=outcomes[0], first_come_first_served=outcomes[1])


def answer_s(ticket: Ticket) -> float:
    """1 to 3 s, always the same for the same request."""
    return random.Random(ticket.number).uniform(1.0, 3.0)


def alternating(world: World) -> None:
    """Two clients ask for two models in turn, each once every 2 s, whether answers come or not."""
    for number in range(REQUESTS):
        world.at(2.0 * number, partial(world.ask, "ab"[number % 2], "first"))
        world.at(2.0 * number, partial(world.ask, "ba"[number % 2], "second"))


def flooding(world: World) -> None:
    """The same two ask all at once; a third has one request at each model, and the next once it is answered."""

    def again(world: World, told: Told) -> None:
        if told.ticket.key == "third" and any(answered(world, key) < REQUESTS for key in ("first", "second")):
            world.ask(told.ticket.model, "third")

    world.done = again
    for number in range(REQUESTS):
        world.at(0.0, partial(world.ask, "ab"[number % 2], "first"))
        world.at(0.0, partial(world.ask, "ba"[number % 2], "second"))
    for model in "ab":
        world.at(0.0, partial(world.ask, model, "third"))


def mixed(world: World) -> None:
    """Four clients at random times over five models."""
    dice = random.Random(5)
    for client, models, gap_s, count in (
        ("agent", ("code", "small"), 3.0, 300),
        ("chat", ("chat", "embed"), 6.0, 150),
        ("batch", ("large",), 60.0, 15),
        ("all", ("small", "embed", "code", "chat"), 10.0, 90),
    ):
        at_s = 0.0
        for _ in range(count):
            at_s += dice.expovariate(1 / gap_s)
            world.at(at_s, partial(world.ask, dice.choice(models), client))


def answered(world: World, key: str) -> int:
    """How many requests of a key are done."""
    return sum(told.ended_s is not None for told in world.told.values() if told.ticket.key == key)


def outcome(world: World) -> Outcome:
    """What became of all requests."""
    waits = [told.granted_s - told.ticket.arrived_s for told in world.told.values() if told.granted_s is not None]
    answers = [told.ended_s - told.ticket.arrived_s for told in world.told.values() if told.ended_s is not None]
    return Outcome(
        loads=len(world.starts),
        seconds_in_all=max(told.ended_s or 0.0 for told in world.told.values()),
        longest_wait_until_swap_begins_s=max(told.longest_out_s for told in world.told.values()),
        wait_for_grant_median_s=statistics.median(waits),
        wait_for_grant_max_s=max(waits),
        until_answered_median_s=statistics.median(answers),
        until_answered_max_s=max(answers),
        refused=sum(told.refused is not None for told in world.told.values()),
        share_while_contended=shares(world),
    )


def shares(world: World) -> Mapping[str, float]:
    """Of the seconds of answers, by client, until the first of them has got all of its own."""
    keys = sorted({told.ticket.key for told in world.told.values()})
    end_s = min(max(told.ended_s or 0.0 for told in world.told.values() if told.ticket.key == key) for key in keys)
    had = dict.fromkeys(keys, 0.0)
    for told in world.told.values():
        if told.ended_s is not None and told.ended_s <= end_s:
            had[told.ticket.key] += answer_s(told.ticket)
    return {key: seconds / sum(had.values()) for key, seconds in had.items()}
