"""When an engine that was ready counts as ill."""

import pytest

from bercail.core.pulse import MOST_MISSED, MOST_MISSED_AT_WORK, Pulse, is_ill, missed

SILENT, WRONG = Pulse(words="no answer", silent=True), Pulse(words="GET /health gives 500")


@pytest.mark.parametrize(
    ("pulse", "at_work", "aside", "expected"),
    [
        (Pulse(), False, False, 0),
        (Pulse(), True, True, 0),
        (WRONG, False, False, 3),
        (WRONG, True, False, 3),
        (SILENT, False, False, 3),
        (SILENT, True, True, 3),
        (SILENT, True, False, 2),
    ],
)
def test_one_good_answer_is_enough_and_silence_at_work_may_mean_nothing(
    pulse: Pulse, at_work: bool, aside: bool, expected: int
) -> None:
    assert missed(2, pulse, at_work=at_work, aside=aside) == expected


def test_an_engine_is_given_more_time_while_requests_would_be_lost_with_it() -> None:
    assert [is_ill(count, at_work=False) for count in (MOST_MISSED - 1, MOST_MISSED)] == [False, True]
    assert [is_ill(count, at_work=True) for count in (MOST_MISSED_AT_WORK - 1, MOST_MISSED_AT_WORK)] == [False, True]
