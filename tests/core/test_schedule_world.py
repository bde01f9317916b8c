"""The scheduler in a world of engines that load, answer, fail, die and stop; the world checks every order itself."""

import math
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bench.contention import FIVE, PAIR, alternating, compared, flooding, mixed
from bench.world import Scheduled, World
from bercail.core.events import Preload, Reload, StartFailed, TermsChanged, Unload
from bercail.core.line import Ticket
from bercail.core.need import Keep, Need, Policy, Terms
from bercail.core.review import review
from bercail.core.seat import HOLDING, Stand
from bercail.core.turn import Drain, Start, Stop, Turn

POLICY = Policy(queue_per_key=6, queue_length=12, wait_limit_s=300.0, max_wait_s=40.0)


def apart(target: str, running: frozenset[str]) -> frozenset[str]:
    """``wide`` and ``tall`` may not be in memory together."""
    return running & {"wide", "tall"} - {target} if target in ("wide", "tall") else frozenset()


TERMS = Terms(
    needs={
        "pinned": Need(bytes={"x": 3}, keep=Keep.PINNED, slots=2, reload_s=4.0),
        "warm": Need(bytes={"y": 4}, keep=Keep.WARM, slots=2, reload_s=3.0),
        "wide": Need(bytes={"x": 3, "y": 3}, slots=2, reload_s=8.0),
        "slim": Need(bytes={"x": 3}, reload_s=60.0),
        "tall": Need(bytes={"x": 7}, priority=1, ttl_s=20.0, reload_s=6.0),
        "small": Need(bytes={"y": 3}, keep=Keep.EVICTABLE, slots=3, ttl_s=50.0, reload_s=2.0),
        "other": Need(bytes={"y": 7}, reload_s=9.0),
    },
    budget={"x": 10, "y": 8},
    policy=POLICY,
    leaves=apart,
)
MODELS = st.sampled_from(sorted(TERMS.needs))
LOADS_S = {model: need.reload_s for model, need in TERMS.needs.items()}


def answer_s(ticket: Ticket) -> float:
    return 1.0 + ticket.number % 5


class Machine(RuleBasedStateMachine):
    """Clients, people and accidents at random."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduled = Scheduled()
        self.world = World(terms=TERMS, policy=self.scheduled, load_s=LOADS_S, stop_s=2.0, answer_s=answer_s)
        self.sent_out: set[str] = set()

    @rule(model=MODELS, key=st.sampled_from("xyz"), priority=st.integers(0, 1), also=st.none() | MODELS)
    def ask(self, model: str, key: str, priority: int, also: str | None) -> None:
        self.world.ask(model, key, priority, () if also is None else (also,))

    @rule(model=MODELS, key=st.sampled_from("xyz"), count=st.integers(2, 5))
    def ask_often(self, model: str, key: str, count: int) -> None:
        for _ in range(count):
            self.world.ask(model, key)

    @precondition(lambda self: any(self.unfinished()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.world.leave(data.draw(st.sampled_from(self.unfinished())))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(self.world.now_s + seconds)

    @rule(model=MODELS, out_of_memory=st.booleans(), retry_s=st.none() | st.just(2.0))
    def spoil(self, model: str, out_of_memory: bool, retry_s: float | None) -> None:
        failure = StartFailed(model=model, reason="spoilt", out_of_memory=out_of_memory, retry_s=retry_s)
        self.world.spoilt[model] = failure

    @precondition(lambda self: any(engine.up for engine in self.world.engines.values()))
    @rule(data=st.data(), retry_s=st.none() | st.just(3.0))
    def die(self, data: st.DataObject, retry_s: float | None) -> None:
        up = sorted(model for model, engine in self.world.engines.items() if engine.up)
        self.world.die(data.draw(st.sampled_from(up)), retry_s)

    @rule(event=st.sampled_from([Unload, Preload, Reload]), model=MODELS)
    def by_hand(self, event: type[Unload | Preload | Reload], model: str) -> None:
        self.sent_out.add(model)
        self.world.feed(event(model=model))

    @rule(reload=st.frozensets(MODELS, max_size=2), slots=st.integers(1, 3))
    def configure(self, reload: frozenset[str], slots: int) -> None:
        needs = {**TERMS.needs, "small": replace(TERMS.needs["small"], slots=slots)}
        self.world.terms = replace(TERMS, needs=needs)
        self.sent_out |= reload
        self.world.feed(TermsChanged(terms=self.world.terms, reload=reload))

    def unfinished(self) -> list[int]:
        return [
            number for number, told in self.world.told.items() if told.open or (told.granted_s and not told.ended_s)
        ]

    @invariant()
    def the_state_is_the_world(self) -> None:
        """Who stands where a process may be has one, and holds no less than it takes."""
        seats = self.scheduled.state.seats
        assert {model for model, seat in seats.items() if seat.stand in HOLDING} == set(self.world.engines)
        waiting = sum(len(seat.line) for seat in seats.values())
        assert self.scheduled.state.waiting == waiting == sum(told.open for told in self.world.told.values())
        uses = self.scheduled.state.shares.uses.values()
        assert sum(use.waiting for use in uses) == waiting
        assert sum(use.running for use in uses) == sum(len(seat.running) for seat in seats.values())
        assert all(use.waiting >= 0 <= use.running for use in uses)

    @invariant()
    def pinned_models_are_never_evicted(self) -> None:
        leaving = self.scheduled.state.seats["pinned"].stand in (Stand.DRAINING, Stand.STOPPING)
        assert not leaving or "pinned" in self.sent_out

    @invariant()
    def a_free_slot_serves_at_once(self) -> None:
        for model, seat in self.scheduled.state.seats.items():
            slots = self.world.terms.needs[model].slots
            assert seat.stand is not Stand.READY or not seat.line or len(seat.running) >= slots

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        if self.world.terms is TERMS:  # fewer slots after a new configuration run down by themselves
            assert not any(engine.queued for engine in self.world.engines.values())

    @invariant()
    def the_alarm_is_set_while_somebody_waits(self) -> None:
        state = self.scheduled.state
        idle = not any(seat.stand in (Stand.STARTING, Stand.CALLED) for seat in state.seats.values())
        assert not (state.waiting and idle) or state.wake_s < math.inf

    @invariant()
    def nobody_is_kept_waiting_by_models_that_could_go(self) -> None:
        """A review on the spot of an overdue model, with the state as it is, finds nothing that it could take."""
        state, now_s = self.scheduled.state, self.world.now_s
        for model, seat in state.seats.items():
            if seat.stand is Stand.OUT and seat.line and seat.past.not_before_s <= now_s:
                since_s = max(seat.line.oldest.arrived_s, seat.past.out_s)
                if since_s + POLICY.max_wait_s <= now_s:
                    turn = Turn.begin(state, now_s)
                    review(turn)
                    assert not [action for action in turn.actions if isinstance(action, Start | Stop | Drain)], model

    def teardown(self) -> None:
        """Everybody is served or told why not, in bounded time."""
        self.world.spoilt.clear()
        begin_s = self.world.now_s
        self.world.run(begin_s + 2 * POLICY.wait_limit_s)
        assert not any(told.open for told in self.world.told.values())
        for told in self.world.told.values():
            assert told.left or told.refused or told.ended_s is not None
        assert self.scheduled.state.shares.active == ()


TestTheWorldAtRandom = Machine.TestCase
TestTheWorldAtRandom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


TWO = Terms(
    needs={name: Need(bytes={"x": 6}, slots=2, reload_s=5.0) for name in ("a", "b")},
    budget={"x": 10},
    policy=replace(POLICY, queue_per_key=100, queue_length=100, wait_limit_s=1e6),
)


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_swap_begins_later_than_the_longest_wait(asks: list[tuple[float, str, str]]) -> None:
    world = World(terms=TWO, policy=Scheduled(), load_s={"a": 5.0, "b": 5.0}, answer_s=answer_s)
    at_s = 0.0
    for gap_s, model, key in asks:
        at_s += gap_s
        world.at(at_s, partial(world.ask, model, key))
    world.run()
    assert all(told.ended_s is not None for told in world.told.values())
    assert max(told.longest_out_s for told in world.told.values()) <= POLICY.max_wait_s + 1e-6


def test_two_alternating_clients_cost_five_times_fewer_loads_and_nobody_waits_too_long() -> None:
    found = compared(PAIR, alternating)
    assert found.fewer_loads >= 5
    assert found.scheduler.longest_wait_until_swap_begins_s <= 60 + 1e-6
    assert found.scheduler.refused == 0


def test_a_polite_client_gets_its_share_beside_two_that_flood() -> None:
    found = compared(PAIR, flooding).scheduler
    assert found.share_while_contended["third"] == pytest.approx(1 / 3, rel=0.2)
    assert found.refused == 0


def test_five_models_on_two_devices_serve_everybody_with_fewer_loads() -> None:
    found = compared(FIVE, mixed)
    assert found.fewer_loads >= 5
    assert found.scheduler.refused == 0
    assert found.scheduler.longest_wait_until_swap_begins_s <= 60
