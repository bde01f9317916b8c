from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bercail.core.route import (
    Asked,
    Crashed,
    Gone,
    Grant,
    Left,
    Load,
    Loaded,
    Released,
    Residency,
    RouteAction,
    RouteEvent,
    RouteState,
    Ticket,
    Unload,
    route,
)

A1, A2, B3 = (Ticket(number=number, model_id=model) for number, model in ((1, "a"), (2, "a"), (3, "b")))
LOADING = RouteState(residency=Residency.LOADING, resident="a", waiting=(A1,))
READY = RouteState(residency=Residency.READY, resident="a")


def ready(running: int, *waiting: Ticket) -> RouteState:
    return RouteState(residency=Residency.READY, resident="a", running=running, waiting=waiting)


@pytest.mark.parametrize(
    ("state", "event", "after", "actions"),
    [
        (RouteState(), Asked(ticket=A1), LOADING, [Load(model_id="a")]),
        (LOADING, Asked(ticket=B3), RouteState(residency=Residency.LOADING, resident="a", waiting=(A1, B3)), []),
        (LOADING, Loaded(), ready(1), [Grant(ticket=A1)]),
        (LOADING, Left(ticket=A1), RouteState(residency=Residency.LOADING, resident="a"), []),
        (LOADING, Gone(), LOADING, [Load(model_id="a")]),
        (READY, Asked(ticket=A1), ready(1), [Grant(ticket=A1)]),
        (READY, Asked(ticket=B3), RouteState(residency=Residency.UNLOADING, resident="a", waiting=(B3,)), [Unload()]),
        (ready(1), Asked(ticket=B3), ready(1, B3), []),
        (ready(1, B3), Asked(ticket=A2), ready(1, B3, A2), []),
        (ready(2, B3), Released(), ready(1, B3), []),
        (
            ready(1, B3), Released(),
            RouteState(residency=Residency.UNLOADING, resident="a", waiting=(B3,)), [Unload()],
        ),
        (ready(1, B3, A2), Left(ticket=B3), ready(2), [Grant(ticket=A2)]),
        (ready(2), Crashed(), RouteState(residency=Residency.LOADING, resident="a"), []),
        (ready(2), Gone(), RouteState(), []),
        (
            RouteState(residency=Residency.UNLOADING, resident="a", waiting=(B3, A2)), Gone(),
            RouteState(residency=Residency.LOADING, resident="b", waiting=(B3, A2)), [Load(model_id="b")],
        ),
    ],
)  # fmt: skip
def test_each_event_has_one_answer(
    state: RouteState, event: RouteEvent, after: RouteState, actions: Sequence[RouteAction]
) -> None:
    assert route(state, event) == (after, tuple(actions))


class House(RuleBasedStateMachine):
    """Requests that come and go at random, engines that load, fail and die at random."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RouteState()
        self.queue: list[Ticket] = []
        self.granted: set[int] = set()
        self.leases = 0
        self.in_memory: set[str] = set()
        self.born = 0

    def feed(self, event: RouteEvent) -> None:
        self.state, actions = route(self.state, event)
        for action in actions:
            match action:
                case Grant(ticket=ticket):
                    assert self.state.resident == ticket.model_id
                    assert self.in_memory == {ticket.model_id}
                    assert self.queue[0] == ticket, "out of order"
                    assert ticket.number not in self.granted, "granted twice"
                    self.queue.pop(0)
                    self.granted.add(ticket.number)
                    self.leases += 1
                case Load(model_id=model_id):
                    assert not self.in_memory, "two residents"
                    self.in_memory = {model_id}
                case Unload():
                    assert self.leases == 0, "taken away from under a request"

    @rule(model=st.sampled_from("abc"))
    def arrive(self, model: str) -> None:
        self.born += 1
        ticket = Ticket(number=self.born, model_id=model)
        self.queue.append(ticket)
        self.feed(Asked(ticket=ticket))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.queue))
        self.queue.remove(ticket)
        self.feed(Left(ticket=ticket))

    @precondition(lambda self: self.leases)
    @rule()
    def release(self) -> None:
        self.leases -= 1
        self.feed(Released())

    @precondition(lambda self: self.state.residency is Residency.LOADING)
    @rule()
    def load(self) -> None:
        self.feed(Loaded())

    @precondition(lambda self: self.state.residency is Residency.READY)
    @rule(event=st.sampled_from([Crashed(), Gone()]))
    def die(self, event: Crashed | Gone) -> None:
        self.leases = 0
        if isinstance(event, Gone):
            self.in_memory.clear()
        self.feed(event)

    @precondition(lambda self: self.state.residency in (Residency.LOADING, Residency.UNLOADING))
    @rule()
    def go(self) -> None:
        """Unloaded, or it never came up."""
        self.in_memory.clear()
        self.feed(Gone())

    @invariant()
    def nothing_is_lost(self) -> None:
        assert list(self.state.waiting) == self.queue
        assert self.state.running == self.leases >= 0
        assert self.in_memory == ({self.state.resident} if self.state.resident else set())

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if self.queue:
            assert self.state.residency is not Residency.EMPTY
            assert self.state.residency is not Residency.READY or self.leases
        if self.queue and self.state.residency is Residency.READY:
            assert self.queue[0].model_id != self.state.resident

    def teardown(self) -> None:
        """If every engine comes up and every request ends, everybody is served."""
        waiting = {ticket.number for ticket in self.queue}
        for _ in range(4 * len(self.queue) + 4):
            while self.leases:
                self.release()
            if self.state.residency is Residency.LOADING:
                self.load()
            elif self.state.residency is Residency.UNLOADING:
                self.go()
        assert not self.queue
        assert waiting <= self.granted


TestRequestsAndEnginesAtRandom = House.TestCase
TestRequestsAndEnginesAtRandom.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
