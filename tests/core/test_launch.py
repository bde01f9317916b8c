from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.launch import (
    LONGEST_BACKOFF_S,
    MOST_CRASHES,
    STEADY_S,
    Address,
    BackoffOver,
    BecameReady,
    Died,
    Exit,
    Life,
    LifeEvent,
    LifeStep,
    Pause,
    Rest,
    Spawn,
    Stage,
    StartFailed,
    StopAsked,
    next_step,
)

BACKING_OFF = Life(stage=Stage.BACKING_OFF, crashes=2, error="x")
READY = Life(stage=Stage.READY)
STOPPED = Life(stage=Stage.STOPPED)


@pytest.mark.parametrize(
    ("life", "event", "after", "step"),
    [
        (Life(), BecameReady(), READY, Rest()),
        (Life(), StartFailed(error="bad file"), Life(stage=Stage.FAILED, error="bad file"), Rest()),
        (READY, Died(error="x", uptime_s=1), Life(stage=Stage.BACKING_OFF, crashes=1, error="x"), Pause(delay_s=1)),
        (BACKING_OFF, BackoffOver(), Life(stage=Stage.STARTING, crashes=2, error="x"), Spawn()),
        (
            Life(stage=Stage.STARTING, crashes=2, error="x"), BecameReady(),
            Life(stage=Stage.READY, crashes=2), Rest(),
        ),
        (
            Life(stage=Stage.STARTING, crashes=2), StartFailed(error="y"),
            Life(stage=Stage.BACKING_OFF, crashes=3, error="y"), Pause(delay_s=4),
        ),
        (
            Life(stage=Stage.READY, crashes=5), Died(error="x", uptime_s=STEADY_S),
            Life(stage=Stage.BACKING_OFF, crashes=1, error="x"), Pause(delay_s=1),
        ),
        (
            Life(stage=Stage.READY, crashes=5), Died(error="x", uptime_s=STEADY_S - 0.1),
            Life(stage=Stage.FAILED, crashes=6, error="x; gave up after 6 times in a row"), Rest(),
        ),
        (READY, StopAsked(), STOPPED, Rest()),
        (BACKING_OFF, StopAsked(), Life(stage=Stage.STOPPED, crashes=2, error="x"), Rest()),
        (STOPPED, BackoffOver(), STOPPED, Rest()),
        (STOPPED, BecameReady(), STOPPED, Rest()),
        (STOPPED, Died(error="x", uptime_s=1), STOPPED, Rest()),
    ],
)  # fmt: skip
def test_each_event_has_one_answer(life: Life, event: LifeEvent, after: Life, step: LifeStep) -> None:
    assert next_step(life, event) == (after, step)


def test_pauses_double_up_to_a_limit_and_end() -> None:
    life, pauses = READY, []
    while life.stage is not Stage.FAILED:
        life, step = next_step(life, Died(error="x", uptime_s=0))
        pauses += [step.delay_s] if isinstance(step, Pause) else []
        life = next_step(life, BackoffOver())[0] if isinstance(step, Pause) else life
    assert pauses == [1, 2, 4, 8, 16]
    assert life.crashes == MOST_CRASHES


EVENTS = st.one_of(
    st.just(BecameReady()), st.just(BackoffOver()), st.just(StopAsked()), st.builds(StartFailed, error=st.just("x")),
    st.builds(Died, error=st.just("x"), uptime_s=st.floats(0, 100)),
)  # fmt: skip


def test_the_events_drawn_are_all_there_are() -> None:
    assert len(get_args(LifeEvent)) == 5


@given(st.lists(EVENTS, max_size=30))
def test_whatever_happens_pauses_are_bounded_and_a_stopped_engine_stays_so(events: list[LifeEvent]) -> None:
    life = Life()
    for event in events:
        before = life
        life, step = next_step(life, event)
        assert life.crashes <= MOST_CRASHES
        assert isinstance(step, Pause) == (life.stage is Stage.BACKING_OFF and isinstance(event, StartFailed | Died))
        if isinstance(step, Pause):
            assert 1 <= step.delay_s <= LONGEST_BACKOFF_S
        if before.stage is Stage.STOPPED:
            assert (life, step) == (before, Rest())


def test_ends_and_addresses_read_as_words() -> None:
    assert str(Exit(code=-9, log_tail=())) == "killed by signal 9"
    assert str(Exit(code=1, log_tail=())) == "exit status 1"
    assert str(Address(unix_path="/run/e.sock")) == "unix:/run/e.sock"
    assert str(Address(port=8123)) == "127.0.0.1:8123"
