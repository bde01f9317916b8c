from hypothesis import given
from hypothesis import strategies as st

from bercail.core.quota import SLOTS, Window

SPAN_S = 60.0
ROUNDING_S = 1e-6
STEPS = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 500)), max_size=40)
"""Seconds that pass, and the tokens of a request that comes then."""


def test_a_charge_counts_for_a_span_and_at_most_a_slot_longer() -> None:
    window = Window(span_s=SPAN_S).charged(10, 100.5)
    assert window.spent(100.5) == 10
    assert window.spent(100.5 + SPAN_S) == 10
    assert window.spent(101.0 + SPAN_S) == 0


def test_charges_of_one_slot_are_one_and_old_ones_are_dropped() -> None:
    window = Window(span_s=SPAN_S).charged(1, 0.1).charged(2, 0.9).charged(3, 1.0)
    assert window.slots == ((0, 3), (1, 3))
    assert window.charged(5, 200.0).slots == ((200, 5),)


def test_there_is_no_wait_while_anything_is_left() -> None:
    window = Window(span_s=SPAN_S).charged(9, 0.0)
    assert window.wait_s(10, 0.0) == 0
    assert window.wait_s(9, 0.0) == 61


def test_the_wait_ends_with_the_oldest_charges_that_stand_in_the_way() -> None:
    window = Window(span_s=SPAN_S).charged(5, 0.0).charged(5, 10.0).charged(5, 20.0)
    assert window.wait_s(11, 20.0) == 41
    assert window.wait_s(10, 20.0) == 51
    assert window.wait_s(10, 65.0) == 6
    assert window.wait_s(1, 20.0) == 61


@given(STEPS, st.integers(1, 1000))
def test_no_span_sees_more_than_the_limit_and_one_answer(steps: list[tuple[float, int]], limit: int) -> None:
    window, now_s = Window(span_s=SPAN_S), 0.0
    admitted: list[tuple[float, int]] = []
    for pause_s, tokens in steps:
        now_s += pause_s
        if window.wait_s(limit, now_s) == 0:
            window = window.charged(tokens, now_s)
            admitted.append((now_s, tokens))
        assert len(window.slots) <= 2 * SLOTS + 2
    for start_s, _ in admitted:
        inside = [tokens for at_s, tokens in admitted if 0 <= at_s - start_s < SPAN_S - ROUNDING_S]
        assert sum(inside) - inside[-1] < limit


@given(STEPS, st.integers(1, 1000), st.floats(0, 100))
def test_after_the_wait_there_is_room_and_a_second_before_there_is_not(
    steps: list[tuple[float, int]], limit: int, later_s: float
) -> None:
    window, now_s = Window(span_s=SPAN_S), 0.0
    for pause_s, tokens in steps:
        now_s += pause_s
        window = window.charged(tokens, now_s)
    now_s += later_s
    wait_s = window.wait_s(limit, now_s)
    assert window.wait_s(limit, now_s + wait_s) == 0
    if wait_s > 1:
        assert window.wait_s(limit, now_s + wait_s - 1) > 0
