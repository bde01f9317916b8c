"""Stories of one event after another; every order of the scheduler is written out in words."""

import math
from dataclasses import replace

import pytest

from bercail.core.events import (
    Ailing,
    Asked,
    Died,
    Event,
    Left,
    Preload,
    Ready,
    Released,
    Reload,
    StartFailed,
    Stay,
    Stopped,
    TermsChanged,
    Tick,
    Unload,
)
from bercail.core.line import Ticket
from bercail.core.need import Keep, Leaves, Need, Policy, Terms, nobody_leaves
from bercail.core.schedule import schedule
from bercail.core.seat import Stand
from bercail.core.turn import Action, Decline, Drain, Grant, Refuse, Resume, Schedule, Start, Stop, WakeAt

POLICY = Policy(first_service_s=2.0)


def need(gpu: int = 6, **more: object) -> Need:
    return replace(Need(bytes={"gpu": gpu}, reload_s=8.0), **more)  # type: ignore[arg-type]  # names of fields


def terms(policy: Policy = POLICY, leaves: Leaves = nobody_leaves, gpu: int = 10, **needs: Need) -> Terms:
    return Terms(needs=needs, budget={"gpu": gpu, "other": 10}, policy=policy, leaves=leaves)


def words(action: Action) -> str:
    match action:
        case Start(model=model, again=again):
            return f"start {model}{' again' if again else ''}"
        case Drain(model=model):
            return f"drain {model}"
        case Resume(model=model):
            return f"resume {model}"
        case Stop(model=model):
            return f"stop {model}"
        case Grant(ticket=ticket):
            return f"grant {ticket.number} {ticket.model}"
        case Refuse(ticket=ticket, status=status, retry_after_s=retry, position=position):
            return f"refuse {ticket.number} {status} {retry} {position}"
        case Decline(model=model):
            return f"decline {model}"
        case WakeAt(at_s=at_s):
            return f"wake {at_s:g}"


class Story:
    """A scheduler and everything it has ordered last."""

    def __init__(self, terms: Terms) -> None:
        self.state = Schedule()
        self.last: tuple[Action, ...] = ()
        self.tickets: dict[int, Ticket] = {}
        self.at(-1000, TermsChanged(terms=terms))

    def at(self, now_s: float, *events: Event) -> list[str]:
        """All orders but alarms."""
        orders: list[Action] = []
        for event in events:
            self.state, actions = schedule(self.state, event, now_s)
            orders += actions
        self.last = tuple(orders)
        return [words(action) for action in orders if not isinstance(action, WakeAt)]

    def ask(self, now_s: float, number: int, model: str, key: str = "", priority: int = 0, *also: str) -> list[str]:
        self.tickets[number] = Ticket(
            number=number, model=model, key=key, priority=priority, arrived_s=now_s, substitutes=also
        )
        return self.at(now_s, Asked(ticket=self.tickets[number]))

    def done(self, now_s: float, number: int, model: str = "") -> list[str]:
        ticket = self.tickets[number]
        return self.at(now_s, Released(ticket=replace(ticket, model=model or ticket.model)))

    def leave(self, now_s: float, number: int) -> list[str]:
        return self.at(now_s, Left(ticket=self.tickets[number]))

    def stand(self, model: str) -> Stand:
        return self.state.seats[model].stand

    def reason(self) -> str:
        (action,) = (action for action in self.last if isinstance(action, Refuse | Decline))
        return action.reason

    def up(self, now_s: float, *models: str) -> "Story":
        """These models have taken 8 s to load, and 2 s to answer a request that ended now."""
        for number, model in enumerate(models, int(1000 + now_s)):
            self.ask(now_s - 10, number, model, "up")
        self.at(now_s - 2, *(Ready(model=model) for model in models))
        for number in range(int(1000 + now_s), int(1000 + now_s) + len(models)):
            self.done(now_s, number)
        return self


def test_the_first_request_starts_its_model_and_is_granted_when_it_is_ready() -> None:
    story = Story(terms(a=need()))
    assert story.ask(0, 1, "a") == ["start a"]
    assert story.ask(1, 2, "a") == []
    assert story.at(8, Ready(model="a")) == ["grant 1 a"]
    assert story.done(9, 1) == ["grant 2 a"]
    assert story.done(10, 2) == []


def test_no_more_run_than_there_are_slots() -> None:
    story = Story(terms(a=need(slots=2))).up(0, "a")
    assert [story.ask(1, number, "a") for number in (1, 2, 3)] == [["grant 1 a"], ["grant 2 a"], []]
    assert story.done(2, 2) == ["grant 3 a"]
    assert story.done(2, 2) == [], "it is released once"


def test_models_that_fit_are_in_memory_side_by_side() -> None:
    story = Story(terms(a=need(4), b=need(6), c=need(1)))
    assert story.ask(0, 1, "a") == ["start a"]
    assert story.ask(0, 2, "b") == ["start b"]
    assert story.ask(0, 3, "c") == []


def test_a_start_waits_until_memory_is_really_free() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    assert story.ask(20, 1, "b") == ["stop a"]
    assert story.at(25, Tick()) == []
    assert story.at(31, Stopped(model="a")) == ["start b"]


def test_unloading_one_stalls_no_other() -> None:
    story = Story(terms(a=need(), b=need(), c=Need(bytes={"other": 9}))).up(0, "a")
    assert story.ask(20, 1, "b") == ["stop a"]
    assert story.ask(21, 2, "c") == ["start c"]
    assert story.at(22, Ready(model="c")) == ["grant 2 c"]
    assert story.at(30, Stopped(model="a")) == ["start b"]


def test_requests_for_a_model_in_memory_are_served_while_another_waits_but_not_for_ever() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    assert story.ask(21, 2, "b") == []
    for number in range(3, 40):
        assert story.ask(20 + number, number, "a") == []
        assert story.done(20 + number, number - 1 if number > 3 else 1) == [f"grant {number} a"]
    assert story.ask(80.9, 50, "a") == []
    assert story.at(81, Tick()) == ["drain a"]
    assert story.done(82, 39) == ["stop a"]
    assert story.at(83, Stopped(model="a")) == ["start b"]
    assert story.at(84, Ready(model="b")) == ["grant 2 b"]
    assert story.done(100, 2) == []
    assert story.at(101, Tick()) == ["stop b"]


def test_the_alarm_is_set_for_the_end_of_the_longest_wait() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    assert WakeAt(at_s=81) in story.last


def test_an_event_after_the_alarm_is_as_good_as_a_tick() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    assert story.ask(90, 3, "a") == ["drain a"]


def test_a_model_that_has_just_come_in_stays_as_long_as_a_load_takes() -> None:
    story = Story(terms(a=need(), b=need()))
    story.ask(0, 1, "a")
    story.at(8, Ready(model="a"))
    assert story.ask(8.5, 2, "b") == []
    assert story.done(9, 1) == []
    assert story.at(15.9, Tick()) == []
    assert story.at(16, Tick()) == ["stop a"]


def test_the_longest_wait_wins_over_the_shortest_stay() -> None:
    story = Story(terms(replace(POLICY, max_wait_s=5.0), a=need(), b=need()))
    story.ask(0, 1, "a")
    story.ask(1, 2, "b")
    assert story.at(8, Ready(model="a")) == ["grant 1 a", "drain a"]


def test_who_was_just_served_may_ask_again() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(20, 2, "b")
    assert story.done(21, 1) == []
    assert story.ask(21.5, 3, "a") == ["grant 3 a"]
    assert story.done(22, 3) == []
    assert story.at(23, Tick()) == ["stop a"]


def test_two_that_wait_for_the_same_memory_begin_early_enough_for_both() -> None:
    story = Story(terms(a=need(), b=need(), c=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    story.ask(22, 3, "c")
    assert WakeAt(at_s=82 - (8 + 2 * 2)) in story.last, "a load and two answers before c must begin"
    assert story.at(70, Tick()) == ["drain a"]


def test_where_not_all_can_begin_in_time_models_keep_their_shortest_stay() -> None:
    policy = replace(POLICY, max_wait_s=10.0)
    story = Story(terms(policy, a=need(), b=need(), c=need()))
    for number, model in enumerate("abc"):
        story.ask(0, number, model)
    assert story.at(20, Ready(model="a")) == ["grant 0 a"]
    assert story.at(27.9, Tick()) == []
    assert story.at(30, Tick()) == ["drain a"]


def test_a_key_that_is_behind_need_not_wait_so_long() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a", "greedy")
    story.ask(20, 2, "b", "polite")
    orders: list[str] = []
    for number in range(3, 30):
        orders += story.ask(20 + number, number, "a", "greedy")
        orders += story.done(20 + number, number - 1 if number > 3 else 1)
        if "drain a" in orders:
            break
    assert 35 <= 20 + number <= 40, "fair_lag_s of service, by whole answers"


def test_a_request_of_high_priority_need_not_wait_for_a_busy_model() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    assert story.ask(21, 2, "b", "", 1) == ["drain a"]


def test_a_greedy_key_and_a_polite_one_take_turns() -> None:
    story = Story(terms(a=need())).up(0, "a")
    for number in range(1, 6):
        story.ask(1, number, "a", "greedy")
    story.ask(1, 6, "a", "polite")
    story.ask(1, 7, "a", "polite")
    assert {6, 7} <= set(served(story, 2.0, 1)[:5])


def served(story: Story, now_s: float, running: int) -> list[int]:
    """One after another, each for 1 s: the numbers of those who wait, in the order in which they are granted."""
    order = []
    while story.state.waiting:
        (granted,) = story.done(now_s, running)
        running = int(granted.split()[1])
        order.append(running)
        now_s += 1
    return order


def test_priority_goes_first_and_the_others_age() -> None:
    story = Story(terms(replace(POLICY, priority_s=3.0), a=need())).up(0, "a")
    story.ask(1, 1, "a", "x")
    story.ask(1, 2, "a", "x")
    for number in range(3, 9):
        story.ask(1, number, "a", "x", 1)
    order = served(story, 2.0, 1)
    assert order[0] == 3
    assert order.index(2) == 4, "passed by 3 s of service, reckoned when the turns came"


def test_weights_divide_service() -> None:
    story = Story(terms(replace(POLICY, weights={"big": 3.0}), a=need())).up(0, "a")
    story.ask(1, 0, "a", "other")
    for number in range(1, 9):
        story.ask(1, number, "a", "big")
        story.ask(1, 10 + number, "a", "small")
    assert sum(number < 10 for number in served(story, 3.0, 0)[:8]) == 6


def test_a_request_that_leaves_while_its_model_loads_does_not_stop_the_load() -> None:
    story = Story(terms(a=need(), b=need()))
    story.ask(0, 1, "a")
    assert story.leave(1, 1) == []
    assert story.ask(2, 2, "b") == []
    assert story.at(8, Ready(model="a")) == []
    assert story.at(16, Tick()) == ["stop a"]


def test_a_request_that_leaves_before_the_swap_lets_the_other_model_stay() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    assert story.at(81, Tick()) == ["drain a"]
    assert story.ask(82, 3, "a") == []
    assert story.leave(83, 2) == ["resume a"]
    assert story.done(84, 1) == ["grant 3 a"]


def test_one_of_several_leaves() -> None:
    story = Story(terms(a=need())).up(0, "a")
    for number in (1, 2, 3, 4):
        story.ask(1, number, "a")
    assert story.leave(2, 3) == []
    assert story.leave(2, 2) == []
    assert story.leave(2, 2) == [], "once"
    assert story.leave(3, 1) == ["grant 4 a"], "it had been granted"
    assert story.state.waiting == 0


def test_a_model_that_dies_while_it_drains_frees_its_memory() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    story.at(81, Tick())
    assert story.at(82, Died(model="a", reason="killed")) == ["start b"]
    assert story.done(83, 1) == [], "it is lost already"


def test_a_model_that_dies_comes_again_after_a_pause_with_those_who_wait() -> None:
    story = Story(terms(a=need())).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(20, 2, "a")
    assert story.at(21, Died(model="a", reason="killed", retry_s=4.0)) == []
    assert WakeAt(at_s=25) in story.last
    assert story.at(24.9, Tick()) == []
    assert story.at(25, Tick()) == ["start a"]
    assert story.at(30, Ready(model="a")) == ["grant 2 a"]


def test_a_model_that_is_given_up_refuses_those_who_wait_until_somebody_asks_again() -> None:
    story = Story(terms(a=need(keep=Keep.PINNED)))
    assert story.at(0, Tick()) == []
    assert story.stand("a") is Stand.STARTING
    story.ask(0, 1, "a")
    assert story.at(1, Died(model="a", reason="broken")) == ["refuse 1 503 None 1"]
    assert story.reason() == "broken"
    assert story.at(2, Tick()) == []
    assert story.ask(3, 2, "a") == ["start a"]


def test_a_start_that_fails_refuses_those_who_wait() -> None:
    story = Story(terms(a=need()))
    story.ask(0, 1, "a")
    story.ask(0, 2, "a")
    assert story.at(1, StartFailed(model="a", reason="bad file")) == ["refuse 1 503 None 1", "refuse 2 503 None 1"]
    assert story.stand("a") is Stand.OUT


def test_out_of_memory_evicts_the_others_and_tries_once_again() -> None:
    story = Story(terms(a=need(3), b=need(6))).up(0, "a")
    story.ask(1, 1, "a", "up")
    assert story.ask(2, 2, "b") == ["start b"]
    failed = StartFailed(model="b", reason="out of memory", out_of_memory=True)
    assert story.at(5, failed) == ["drain a"], "before its shortest stay is over, for b has had its wait"
    assert story.done(6, 1) == ["stop a"]
    assert story.at(7, Stopped(model="a")) == ["start b again"]
    assert story.state.seats["b"].past.held == {"gpu": 8}, "more than the 7 that were free"
    assert story.at(9, failed) == ["refuse 2 503 None 1"]
    assert story.ask(10, 3, "b") == ["start b"], "later it may be tried again"


def test_out_of_memory_on_one_device_corrects_that_one() -> None:
    story = Story(terms(a=Need(bytes={"gpu": 8, "other": 4})))
    story.ask(0, 1, "a")
    failed = StartFailed(model="a", reason="no", out_of_memory=True, device="other")
    assert story.at(1, failed) == ["start a again"]
    assert story.state.seats["a"].past.held == {"gpu": 8, "other": 10}


def test_a_model_that_ran_out_of_memory_is_tried_again_also_where_there_has_become_less() -> None:
    story = Story(terms(a=need(3)))
    story.ask(0, 1, "a")
    failed = StartFailed(model="a", reason="killed", out_of_memory=True)
    assert story.at(1, failed) == ["start a again"]
    assert story.state.seats["a"].past.held == {"gpu": 10}, "all there is"
    story.at(2, failed)
    story.at(3, TermsChanged(terms=terms(a=need(3), gpu=8)))
    assert story.ask(4, 2, "a") == ["start a"]
    assert story.state.seats["a"].past.held == {"gpu": 8}
    story.at(5, StartFailed(model="a", reason="broken"))
    story.at(6, TermsChanged(terms=terms(a=need(3), gpu=2)))
    assert story.ask(7, 3, "a") == ["refuse 3 503 None None"]
    assert story.reason() == "a needs 3 B on gpu, and there are at most 2 B"


def test_what_a_load_was_seen_to_take_ends_the_caution_after_one_that_ran_out_of_memory() -> None:
    story = Story(terms(a=need(3), b=need(5)))
    story.ask(0, 1, "a")
    assert story.at(1, StartFailed(model="a", reason="killed", out_of_memory=True)) == ["start a again"]
    assert story.ask(2, 2, "b") == []
    assert story.at(3, Ready(model="a", bytes={"gpu": 3})) == ["grant 1 a", "start b"]


def test_what_a_model_really_takes_counts_from_then_on() -> None:
    story = Story(terms(a=need(6), b=need(4), c=need(1)))
    story.ask(0, 1, "a")
    story.at(5, Ready(model="a", bytes={"gpu": 9}))
    assert story.ask(6, 2, "b") == []
    assert story.ask(6, 3, "c") == ["start c"]


def test_a_model_that_took_more_than_planned_can_come_again() -> None:
    story = Story(terms(a=need(6), b=need(6)))
    story.ask(0, 1, "a")
    story.at(5, Ready(model="a", bytes={"gpu": 12}))
    story.at(5, Unload(model="a"))
    story.done(6, 1)
    story.at(7, Stopped(model="a"))
    assert story.ask(8, 2, "a") == ["start a"]


def test_a_pinned_model_that_grows_rules_others_out_with_the_numbers() -> None:
    story = Story(terms(a=need(4, keep=Keep.PINNED), b=need(6)))
    story.ask(0, 1, "a")
    story.ask(0, 2, "b")
    story.at(1, Unload(model="b"))
    story.at(2, Stopped(model="b"))
    story.state = replace(story.state, seats={**story.state.seats})
    story.at(2, Unload(model="b"))
    assert story.at(3, Ready(model="a", bytes={"gpu": 5})) == ["grant 1 a"]
    assert story.ask(4, 3, "b") == ["refuse 3 503 None None"]
    assert story.reason() == "b needs 6 B on gpu, and there are at most 5 B beside the pinned models"


def test_who_waits_for_a_model_that_is_ruled_out_meanwhile_is_refused() -> None:
    story = Story(terms(a=need(4, keep=Keep.PINNED), b=need(6), c=need(6)))
    story.ask(0, 1, "c")
    story.ask(0, 2, "b")
    assert story.at(3, Ready(model="a", bytes={"gpu": 5})) == ["refuse 2 503 None 1", "refuse 1 503 None 1"]


def test_a_pinned_model_is_never_evicted() -> None:
    story = Story(terms(a=need(6, keep=Keep.PINNED), b=need(4), c=need(4)))
    story.at(1, Ready(model="a"))
    story.ask(1, 1, "b")
    story.at(2, Ready(model="b"))
    story.ask(3, 2, "c")
    assert story.at(63, Tick()) == ["drain b"]


def test_what_never_fits_is_refused_at_once() -> None:
    story = Story(terms(a=need(11), b=Need(bytes={"nowhere": 1})))
    assert story.ask(0, 1, "a") == ["refuse 1 503 None None"]
    assert story.reason() == "a needs 11 B on gpu, and there are at most 10 B"
    assert story.ask(0, 2, "b") == ["refuse 2 503 None None"]
    assert story.ask(0, 3, "c") == ["refuse 3 503 None None"]
    assert story.reason() == "c is not configured"


def test_evictable_ones_go_first_then_those_unused_for_longest() -> None:
    both = Story(terms(a=need(5), b=need(5, keep=Keep.EVICTABLE), c=need(5))).up(0, "a", "b")
    assert both.ask(30, 1, "c") == ["stop b"]
    story = Story(terms(a=need(5), b=need(5), c=need(5))).up(0, "a").up(20, "b")
    assert story.ask(40, 1, "c") == ["stop a"]


def test_idle_ones_go_before_busy_ones_and_low_priority_before_high() -> None:
    story = Story(terms(a=need(5, priority=1), b=need(5), c=need(5))).up(0, "a", "b")
    assert story.ask(30, 1, "c") == ["stop b"]
    story = Story(terms(a=need(5, keep=Keep.EVICTABLE), b=need(5), c=need(5))).up(0, "a", "b")
    story.ask(30, 1, "a")
    assert story.ask(30, 2, "c") == ["stop b"]


def test_a_model_that_wants_a_busy_and_an_idle_one_gone_waits_for_the_busy_one() -> None:
    story = Story(terms(a=need(5), b=need(5), c=need(10))).up(0, "a", "b")
    story.ask(30, 1, "a")
    assert story.ask(31, 2, "c") == []
    assert story.at(91, Tick()) == ["drain a", "stop b"]
    assert story.at(92, Stopped(model="b")) == []
    assert story.done(93, 1) == ["stop a"]
    assert story.at(94, Stopped(model="a")) == ["start c"]


def only_one(target: str, running: frozenset[str]) -> frozenset[str]:
    return running - {target}


def b_sends_a_away(target: str, running: frozenset[str]) -> frozenset[str]:
    return running & {"a"} if target == "b" else frozenset()


def test_a_rule_sends_models_away_though_memory_suffices() -> None:
    story = Story(terms(leaves=only_one, a=need(1), b=need(1))).up(0, "a")
    assert story.ask(20, 1, "b") == ["stop a"]
    assert story.at(21, Stopped(model="a")) == ["start b"]
    assert story.ask(22, 2, "a") == []


def test_a_rule_against_a_pinned_model_refuses() -> None:
    story = Story(terms(leaves=only_one, a=need(1, keep=Keep.PINNED), b=need(1)))
    assert story.ask(0, 1, "b") == ["refuse 1 503 None None"]
    assert story.reason() == "b may not be in memory beside a, which is pinned"


def test_a_rule_of_one_direction_does_not_lock_those_who_are_called() -> None:
    rule = b_sends_a_away
    story = Story(terms(leaves=rule, a=Need(bytes={"other": 1}), b=need(10), c=need(10))).up(0, "c")
    assert story.ask(20, 1, "b") == ["stop c"]
    assert story.ask(21, 2, "a") == ["start a"]
    assert story.at(22, Stopped(model="c")) == []
    assert story.at(30, Ready(model="a")) == ["grant 2 a"]
    assert story.done(31, 2) == []
    assert story.at(39, Tick()) == ["stop a"]
    assert story.at(40, Stopped(model="a")) == ["start b"]


def test_unload_while_starting_stops_it_and_refuses_who_waits() -> None:
    story = Story(terms(a=need(), b=need()))
    story.ask(0, 1, "a")
    story.ask(0, 2, "b")
    assert story.at(1, Unload(model="a")) == ["refuse 1 503 None 1", "stop a"]
    assert story.at(2, Ready(model="a")) == [], "too late"
    assert story.at(3, Stopped(model="a")) == ["start b"]


def test_unload_lets_the_running_ones_finish() -> None:
    story = Story(terms(a=need())).up(0, "a")
    story.ask(1, 1, "a")
    story.ask(1, 2, "a")
    assert story.at(2, Unload(model="a")) == ["refuse 2 503 None 1", "drain a"]
    assert story.at(2, Unload(model="a")) == []
    assert story.ask(3, 3, "a") == []
    assert story.done(4, 1) == ["stop a"]
    assert story.at(5, Stopped(model="a")) == ["start a"]


def test_unload_of_what_is_called_or_out() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.ask(20, 1, "b")
    assert story.at(20, Unload(model="b")) == ["refuse 1 503 None 1"]
    assert story.at(21, Stopped(model="a")) == []
    assert story.at(21, Unload(model="b"), Unload(model="nobody")) == []


def test_a_start_that_fails_while_it_is_told_to_stop_is_gone() -> None:
    story = Story(terms(a=need(), b=need()))
    story.ask(0, 1, "a")
    story.at(1, Unload(model="a"))
    assert story.ask(1, 2, "b") == []
    assert story.at(2, StartFailed(model="a", reason="stopped")) == ["start b"]


def test_reload_of_a_model_keeps_those_who_wait() -> None:
    story = Story(terms(a=need())).up(0, "a")
    story.ask(1, 1, "a")
    story.ask(1, 2, "a")
    assert story.at(2, Reload(model="a")) == ["drain a"]
    assert story.done(3, 1) == ["stop a"]
    assert story.at(4, Stopped(model="a")) == ["start a"]
    assert story.at(5, Ready(model="a")) == ["grant 2 a"]
    story.done(6, 2)
    assert story.at(7, Reload(model="a")) == ["stop a"]
    assert story.at(8, Stopped(model="a")) == ["start a"], "it was in"


def test_a_new_configuration_while_a_model_loads() -> None:
    story = Story(terms(a=need(), b=need(3)))
    story.ask(0, 1, "a")
    story.ask(0, 2, "b")
    unchanged = TermsChanged(terms=terms(a=need(), b=need(3)))
    assert story.at(1, unchanged) == []
    changed = TermsChanged(terms=terms(a=need(7), b=need(3)), reload=frozenset("a"))
    assert story.at(2, changed) == ["stop a"]
    assert story.at(3, Stopped(model="a")) == ["start a"]
    assert story.state.seats["a"].past.held == {"gpu": 7}
    assert story.at(4, Ready(model="a")) == ["grant 1 a"]


def test_a_configuration_without_a_model_lets_it_go() -> None:
    story = Story(terms(a=need(), b=need(), c=need())).up(0, "a")
    story.ask(1, 1, "a")
    story.ask(1, 2, "a")
    story.ask(1, 3, "b")
    assert story.at(2, TermsChanged(terms=terms(c=need()))) == ["refuse 2 503 None 1", "drain a", "refuse 3 503 None 1"]
    assert story.at(2, Preload(model="a")) == ["decline a"]
    assert story.ask(3, 4, "c") == []
    assert story.done(4, 1) == ["stop a"]
    assert story.at(5, Stopped(model="a")) == ["start c"]
    assert set(story.state.seats) == {"c"}


def test_a_configuration_with_more_slots_serves_more_and_one_too_small_refuses() -> None:
    story = Story(terms(a=need(5), b=need(10))).up(0, "a")
    story.ask(1, 1, "a")
    story.ask(1, 2, "a")
    story.ask(1, 3, "b")
    more = terms(gpu=9, a=need(5, slots=2), b=need(10, keep=Keep.PINNED))
    assert story.at(2, TermsChanged(terms=more)) == ["refuse 3 503 None 1", "grant 2 a", "decline b"]


def test_too_many_of_one_key_hear_429_and_too_many_in_all_503() -> None:
    story = Story(terms(replace(POLICY, queue_per_key=2, queue_length=3), a=need())).up(0, "a")
    for number in (1, 2, 3):
        story.ask(1, number, "a", "x")
    assert story.ask(1, 4, "a", "x") == ["refuse 4 429 2 3"]
    assert story.reason() == "2 requests of this key wait already, as many as may"
    assert story.ask(1, 5, "a", "y") == []
    assert story.ask(1, 6, "a", "z") == ["refuse 6 503 2 3"]
    assert story.reason() == "3 requests wait already, as many as may"


def test_loading_is_no_reason_to_refuse() -> None:
    story = Story(terms(replace(POLICY, wait_limit_s=30.0), a=need()))
    story.ask(0, 1, "a")
    assert story.at(1000, Tick()) == []
    assert story.at(1001, Ready(model="a")) == ["grant 1 a"]


def test_the_time_of_a_load_does_not_count_for_the_longest_wait_allowed() -> None:
    story = Story(terms(replace(POLICY, wait_limit_s=30.0), a=need()))
    story.ask(0, 1, "a")
    story.ask(0, 2, "a")
    assert story.at(100, Ready(model="a")) == ["grant 1 a"]
    assert story.at(129, Tick()) == []
    assert story.at(130, Tick()) == ["refuse 2 503 2 1"]


def test_who_waits_too_long_is_refused() -> None:
    story = Story(terms(replace(POLICY, wait_limit_s=30.0), a=need())).up(0, "a")
    story.ask(1, 1, "a")
    story.ask(2, 2, "a")
    story.ask(3, 3, "a")
    assert story.state.wake_s <= 32
    assert story.at(31.9, Tick()) == []
    assert story.at(32, Tick()) == ["refuse 2 503 4 1"]
    assert story.reason() == "waited 30 s for a, the most that is allowed"
    assert story.at(33, Tick()) == ["refuse 3 503 2 1"]


def test_a_time_to_live_counts_from_the_last_request_and_from_the_load() -> None:
    story = Story(terms(a=need(ttl_s=30.0)))
    story.ask(0, 1, "a")
    story.leave(1, 1)
    story.at(100, Ready(model="a"))
    assert WakeAt(at_s=130) in story.last
    assert story.at(129, Tick()) == []
    story.ask(129.5, 2, "a")
    assert story.at(131, Tick()) == []
    story.done(140, 2)
    assert WakeAt(at_s=170) in story.last
    assert story.at(170, Tick()) == ["stop a"]


@pytest.mark.parametrize("keep", [Keep.PINNED, Keep.WARM])
def test_what_is_kept_has_no_time_to_live(keep: Keep) -> None:
    story = Story(terms(a=need(ttl_s=30.0, keep=keep)))
    story.at(1, Ready(model="a"))
    assert story.at(1000, Tick()) == []


def test_a_warm_model_comes_back_when_nobody_waits_for_its_room() -> None:
    story = Story(terms(a=need(6, keep=Keep.WARM), b=need(6), c=need(6)))
    story.at(1, Ready(model="a"))
    assert story.ask(20, 1, "b") == ["stop a"]
    assert story.at(21, Stopped(model="a")) == ["start b"]
    assert story.at(22, Ready(model="b")) == ["grant 1 b"]
    story.done(23, 1)
    assert story.at(60, Tick()) == [], "it evicts nobody"
    story.ask(60, 2, "c")
    story.leave(60, 2)
    assert story.at(61, Unload(model="b")) == []
    assert story.at(62, Stopped(model="b")) == ["start a"]
    story.at(63, Ready(model="a"))
    assert story.at(64, Unload(model="a")) == ["stop a"]
    assert story.at(65, Stopped(model="a"), Tick()) == [], "until it is asked for"


def test_preload_takes_the_place_of_an_idle_model_only() -> None:
    story = Story(terms(a=need(), b=need(), c=need(11))).up(0, "a")
    assert story.at(20, Preload(model="b")) == ["stop a"]
    assert story.at(21, Stopped(model="a")) == ["start b"]
    assert story.at(21, Preload(model="b")) == []
    story.at(22, Ready(model="b"))
    story.ask(40, 1, "b")
    assert story.at(41, Preload(model="a")) == []
    assert story.at(1000, Tick()) == []
    assert story.at(1000, Preload(model="c")) == ["decline c"]
    assert story.reason() == "c needs 11 B on gpu, and there are at most 10 B"


def test_a_preload_that_is_called_off_or_fails_with_a_pause() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    story.at(20, Preload(model="b"))
    assert story.at(21, Unload(model="b"), Stopped(model="a")) == []
    assert story.at(22, Preload(model="b")) == ["start b"]
    assert story.at(23, StartFailed(model="b", reason="busy", retry_s=5.0)) == []
    assert story.at(28, Tick()) == ["start b"]


def test_a_preload_is_not_lost_while_the_model_still_leaves() -> None:
    story = Story(terms(a=need())).up(0, "a")
    assert story.at(20, Unload(model="a")) == ["stop a"]
    assert story.at(20, Preload(model="a"), Reload(model="a")) == []
    assert story.at(21, Stopped(model="a")) == ["start a"]


def test_two_that_fit_together_need_not_begin_one_after_the_other() -> None:
    story = Story(terms(a=need(10), b=need(5), c=need(5))).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    story.ask(22, 3, "c")
    assert story.at(80.9, Tick()) == []
    assert story.at(81, Tick()) == ["drain a"]


def test_small_requests_may_be_answered_by_a_substitute_that_is_ready() -> None:
    story = Story(terms(a=need(), b=need())).up(0, "a")
    assert story.ask(20, 1, "b", "", 0, "nobody", "a") == ["grant 1 a"]
    assert story.ask(20, 2, "b", "", 0, "a") == []
    assert story.leave(21, 2) == []
    assert story.leave(21, 1) == [], "known by its first model too"
    assert not story.state.seats["a"].busy
    assert story.ask(21.5, 3, "b", "", 0, "nobody") == [], "a has just been used"
    assert story.at(22, Tick()) == ["stop a"]


def test_an_overdue_model_keeps_its_room_from_those_behind_it() -> None:
    story = Story(terms(replace(POLICY, max_wait_s=30.0), a=need(6), b=need(8), c=need(4)))
    story.ask(0, 1, "a")
    story.ask(0, 2, "b")
    assert story.at(30, Tick()) == [], "a still loads"
    assert story.ask(31, 3, "c") == []
    assert story.at(32, Ready(model="a")) == ["grant 1 a", "drain a"]
    assert story.done(33, 1) == ["stop a"]
    assert story.at(34, Stopped(model="a")) == ["start b"]


def test_two_on_other_devices_do_not_wait_for_each_other() -> None:
    story = Story(terms(a=need(), b=need(), c=Need(bytes={"other": 8}), d=Need(bytes={"other": 8}))).up(0, "a", "c")
    story.ask(20, 1, "a")
    story.ask(20, 2, "b")
    assert story.ask(21, 3, "d") == ["stop c"]


def test_what_is_called_gives_way_when_memory_turns_out_smaller() -> None:
    story = Story(terms(gpu=12, a=need(4), b=need(6), c=need(6))).up(0, "c")
    story.ask(20, 1, "a")
    assert story.stand("a") is Stand.STARTING
    assert story.ask(21, 2, "b") == ["stop c"]
    story.at(22, Ready(model="a", bytes={"gpu": 7}))
    assert story.stand("b") is Stand.OUT
    assert story.at(23, Stopped(model="c")) == []
    assert story.done(24, 1) == []
    assert story.at(31, Tick()) == ["stop a"]


def test_it_drains_on_for_others_that_still_want_it() -> None:
    story = Story(terms(gpu=12, a=need(10), b=need(5), c=need(5))).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    story.ask(21, 3, "c")
    assert story.at(81, Tick()) == ["drain a"]
    assert story.leave(82, 2) == []
    assert story.leave(82, 3) == ["resume a"]


def test_it_drains_on_for_a_rule_that_still_wants_it() -> None:
    story = Story(terms(leaves=only_one, a=need(1), b=need(1))).up(0, "a")
    story.ask(20, 1, "a")
    story.ask(21, 2, "b")
    assert story.at(81, Tick()) == ["drain a"]
    assert story.at(82, Tick()) == []


def test_a_model_that_ails_leaves_and_comes_again_after_a_pause_once_its_memory_is_free() -> None:
    story = Story(terms(a=need(slots=2))).up(80, "a")
    assert story.at(90, Ailing(model="a", reason="no answer", retry_s=4.0)) == ["stop a"]
    assert story.ask(91, 1, "a") == [], "it waits for the next one"
    assert story.at(92, Stopped(model="a")) == []
    assert story.at(94, Tick()) == ["start a"]
    assert story.at(95, Ready(model="a")) == ["grant 1 a"]


def test_a_model_that_ails_finishes_first_what_it_serves() -> None:
    story = Story(terms(a=need(slots=2))).up(80, "a")
    story.ask(85, 1, "a")
    assert story.at(90, Ailing(model="a", reason="no answer", retry_s=1.0)) == ["drain a"]
    assert story.done(95, 1) == ["stop a"]


def test_a_model_that_ails_too_often_leaves_until_it_is_asked_for() -> None:
    story = Story(terms(a=need(slots=1))).up(80, "a")
    story.ask(85, 1, "a")
    story.ask(86, 2, "a")
    assert story.at(90, Ailing(model="a", reason="no answer")) == ["refuse 2 503 None 1", "drain a"]
    assert story.done(95, 1) == ["stop a"]
    assert story.at(96, Stopped(model="a"), Tick()) == []
    assert story.ask(99, 3, "a") == ["start a"]


def test_a_model_that_is_on_its_way_out_ails_in_vain() -> None:
    story = Story(terms(a=need())).up(80, "a")
    story.at(90, Unload(model="a"))
    assert story.at(91, Ailing(model="a", reason="no answer", retry_s=1.0)) == []
    assert story.at(92, Stopped(model="a"), Tick()) == []


def test_a_client_may_say_how_long_a_model_idles_until_it_leaves() -> None:
    story = Story(terms(a=need(ttl_s=100.0))).up(0, "a")
    assert story.at(1, Stay(model="a", stay_s=5.0)) == []
    assert WakeAt(at_s=5) in story.last
    assert story.at(5, Tick()) == ["stop a"]
    story.at(6, Stopped(model="a"))
    story.up(30, "a")
    assert story.at(60, Tick()) == [], "the next time it is as its need says"
    assert story.at(61, Stay(model="a", stay_s=math.inf)) == []
    assert story.at(500, Tick()) == []
    assert story.at(501, Stay(model="a", stay_s=0)) == ["stop a"]


def test_a_model_that_may_idle_no_more_leaves_when_its_last_request_ends() -> None:
    story = Story(terms(a=need())).up(0, "a")
    story.ask(1, 1, "a")
    assert story.at(2, Stay(model="a", stay_s=0)) == []
    assert story.done(3, 1) == ["stop a"]


def test_what_is_pinned_stays_whatever_a_client_says() -> None:
    story = Story(terms(a=need(keep=Keep.PINNED))).up(0, "a")
    assert story.at(1, Stay(model="a", stay_s=0)) == []
