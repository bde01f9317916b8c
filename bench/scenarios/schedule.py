"""Many models, little memory: the scheduler against first come, first served, in one simulated world.

Nothing here is timed: engines, requests and their clock are simulated, so that every figure comes out the same each
time. The baseline is `core.route`: one model in memory, strictly in order of arrival, everything granted at once to an
engine that queues by itself.

1. Two clients, each asking two models in turn that cannot be in memory together, 100 requests each, one every 2 s
   whether answers come or not.
2. The same two send all their requests at once, and a third asks both models, one request each at a time, each as
   soon as the last is answered. Shares are counted until the first of the two has been served completely.
3. Five models on two devices, four clients at random times.

    python -m bench.scenarios.schedule [--json FILE]
"""

import argparse
import platform
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.world import FirstComeFirstServed, Scheduled, Told, World
from bercail.core.line import Ticket
from bercail.core.need import Keep, Need, Policy, Terms
from tools.figures import publish

REQUESTS = 100
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
    policy=Policy(queue_per_key=2000, queue_length=4000, wait_limit_s=7200.0),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    found = {
        "schema": "bercail.bench.schedule/1",
        "python": platform.python_version(),
        "simulated": True,
        "max_wait_s": PAIR.policy.max_wait_s,
        "two_alternating": compared(PAIR, alternating),
        "two_flooding_one_polite": compared(PAIR, flooding),
        "five_models_two_devices": compared(FIVE, mixed),
    }
    publish(found, given.json)
    return 0


def compared(terms: Terms, setting: Callable[[World], None]) -> dict[str, object]:
    """One setting under both, and the ratio of their swaps."""
    ours, baseline = (
        World(terms=terms, policy=policy, load_s=loads(terms), stop_s=2.0, answer_s=answer_s)
        for policy in (Scheduled(terms), FirstComeFirstServed())
    )
    for world in (ours, baseline):
        setting(world)
        world.run()
    first, second = figures(ours), figures(baseline)
    return {
        "scheduler": first,
        "first_come_first_served": second,
        "fewer_loads": len(baseline.starts) / len(ours.starts),
    }


def loads(terms: Terms) -> dict[str, float]:
    return {model: need.reload_s for model, need in terms.needs.items()}


def answer_s(ticket: Ticket) -> float:
    """1 to 3 s, always the same for the same request."""
    return random.Random(ticket.number).uniform(1.0, 3.0)


def alternating(world: World) -> None:
    for number in range(REQUESTS):
        for client, models in (("first", "ab"), ("second", "ba")):
            model = models[number % 2]
            world.at(2.0 * number, lambda model=model, client=client: world.ask(model, client))


def flooding(world: World) -> None:
    def again(world: World, told: Told) -> None:
        if told.ticket.key == "third" and not all(served(world, key) == REQUESTS for key in ("first", "second")):
            world.ask(told.ticket.model, "third")

    world.done = again
    for number in range(REQUESTS):
        for client, models in (("first", "ab"), ("second", "ba")):
            world.at(0.0, lambda model=models[number % 2], client=client: world.ask(model, client))
    for model in "ab":
        world.at(0.0, lambda model=model: world.ask(model, "third"))


def mixed(world: World) -> None:
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
            model = dice.choice(models)
            world.at(at_s, lambda model=model, client=client: world.ask(model, client))


def served(world: World, key: str) -> int:
    return sum(told.ended_s is not None for told in world.told.values() if told.ticket.key == key)


def figures(world: World) -> dict[str, object]:
    waits = [told.granted_s - told.ticket.arrived_s for told in world.told.values() if told.granted_s is not None]
    answers = [told.ended_s - told.ticket.arrived_s for told in world.told.values() if told.ended_s is not None]
    return {
        "loads": len(world.starts),
        "seconds_in_all": max(told.ended_s or 0.0 for told in world.told.values()),
        "longest_wait_until_swap_begins_s": max(told.longest_out_s for told in world.told.values()),
        "wait_for_grant_s": {"median": statistics.median(waits), "max": max(waits)},
        "until_answered_s": {"median": statistics.median(answers), "max": max(answers)},
        "refused": sum(told.refused is not None for told in world.told.values()),
        "share_while_contended": shares(world),
    }


def shares(world: World) -> Mapping[str, float]:
    """Of the seconds of answers, by client, until the first of them has got all of its own."""
    keys = sorted({told.ticket.key for told in world.told.values()})
    end_s = min(max(told.ended_s or 0.0 for told in world.told.values() if told.ticket.key == key) for key in keys)
    had = dict.fromkeys(keys, 0.0)
    for told in world.told.values():
        if told.ended_s is not None and told.ended_s <= end_s:
            had[told.ticket.key] += answer_s(told.ticket)
    return {key: round(seconds / sum(had.values()), 3) for key, seconds in had.items()}


if __name__ == "__main__":
    sys.exit(main())
