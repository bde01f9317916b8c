"""One step of the scheduler: a request that comes and one that goes, on a model that is ready.

Two cases: one model and nobody waiting, and 20 models with 1,000 requests waiting, of 50 keys, half of them for models
that are out. The baseline of both is `bench.first_come` with one model and nobody waiting; for the second also the same
with 1,000 waiting. All in one process, interleaved, one round thrown away.

    python -m bench.micro.schedule [--runs N] [--json FILE]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import first_come
from bercail.core.events import Asked, Event, Ready, Released, TermsChanged
from bercail.core.line import Ticket
from bercail.core.need import Need, Policy, Terms
from bercail.core.schedule import schedule
from bercail.core.turn import Grant, Schedule, Start
from tools.figures import publish

STEPS = 2000
MODELS = 20
WAITING = 1000
KEYS = 50
SLOTS = 4


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="rounds that count; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    cases = {
        "route": routed(0),
        "one_model": OneModel().steps,
        "route_1000_waiting": routed(WAITING),
        "models_20_waiting_1000": Crowd().steps,
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.runs + 1):
        for name, work in cases.items():
            begin = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - begin) / STEPS * 1e6)
    counted = {name: found[1:] for name, found in times.items()}
    report: dict[str, object] = {"schema": "bercail.bench.schedule_micro/1", "runs": given.runs, "steps": STEPS}
    for name, found in counted.items():
        ratios = [ours / theirs for ours, theirs in zip(found, counted["route"], strict=True)]
        report[name] = {
            "us_per_request": {"median": statistics.median(found), "min": min(found), "max": max(found)},
            "ratio_to_route": statistics.median(ratios),
        }
    publish(report, given.json)
    return 0


def routed(waiting: int) -> Callable[[], None]:
    """One request comes and one goes, on the resident; so many wait for another model."""
    full = first_come.RouteState(residency=first_come.Residency.READY, resident="a", running=1)
    for number in range(waiting):
        full, _ = first_come.route(full, first_come.Asked(ticket=first_come.Ticket(number=number, model_id="b")))

    def steps() -> None:
        state = full
        for number in range(waiting, waiting + STEPS):
            ticket = first_come.Ticket(number=number, model_id="a")
            state, _ = first_come.route(state, first_come.Asked(ticket=ticket))
            state, _ = first_come.route(state, first_come.Left(ticket=ticket) if waiting else first_come.Released())

    return steps


class OneModel:
    """One model, ready, nobody waiting."""

    def __init__(self) -> None:
        terms = Terms(needs={"a": Need(bytes={"gpu": 1}, slots=SLOTS)}, budget={"gpu": 1})
        self.state, _ = schedule(Schedule(), TermsChanged(terms=terms), 0.0)
        first = Ticket(number=0, model="a")
        for event in (Asked(ticket=first), Ready(model="a"), Released(ticket=first)):
            self.state, _ = schedule(self.state, event, 0.0)
        self.number = 0

    def steps(self) -> None:
        """One comes, one goes."""
        state = self.state
        for number in range(self.number + 1, self.number + 1 + STEPS):
            now_s = number * 1e-3
            ticket = Ticket(number=number, model="a", arrived_s=now_s)
            state, _ = schedule(state, Asked(ticket=ticket), now_s)
            state, _ = schedule(state, Released(ticket=ticket), now_s)
        self.state, self.number = state, self.number + STEPS


class Crowd:
    """Half of the models ready, all slots busy; as many wait for those as for the others."""

    def __init__(self) -> None:
        names = [f"m{at:02}" for at in range(MODELS)]
        policy = Policy(queue_per_key=2 * WAITING, queue_length=2 * WAITING, max_wait_s=1e6, wait_limit_s=1e7)
        needs = {name: Need(bytes={"gpu": 1}, slots=SLOTS) for name in names}
        self.state, self.now_s, self.number = Schedule(), 0.0, 0
        self.running: list[Ticket] = []
        self.feed(TermsChanged(terms=Terms(needs=needs, budget={"gpu": MODELS // 2}, policy=policy)))
        while self.state.waiting < WAITING:
            self.ask(names[self.number % MODELS])

    def feed(self, event: Event) -> None:
        """One event, 1 ms after the last."""
        self.now_s += 1e-3
        self.state, actions = schedule(self.state, event, self.now_s)
        for action in actions:
            if isinstance(action, Grant):
                self.running.append(action.ticket)
            elif isinstance(action, Start):
                self.feed(Ready(model=action.model))

    def ask(self, model: str) -> None:
        """One comes."""
        self.number += 1
        key = f"k{self.number % KEYS}"
        self.feed(Asked(ticket=Ticket(number=self.number, model=model, key=key, arrived_s=self.now_s)))

    def steps(self) -> None:
        """One goes, so another is granted, and one comes."""
        for _ in range(STEPS):
            done = self.running.pop(0)
            self.feed(Released(ticket=done))
            self.ask(done.model)


if __name__ == "__main__":
    sys.exit(main())
