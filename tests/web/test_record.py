import json
from typing import Any

import pytest

from bercail.web.record import TAIL_BYTES, Ends, Record


def a_record(**facts: Any) -> Record:
    return Record(endpoint="completions", **facts)


def event(**members: Any) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


TIMED = {"cache_n": 1, "prompt_n": 7, "prompt_per_second": 70.5, "predicted_n": 9, "predicted_per_second": 30.25}


def counts(record: Record) -> tuple[object, object, object]:
    return record.prefill_tokens, record.cached_tokens, record.decode_tokens


def test_counts_and_speeds_are_read_from_the_event_that_ends_an_answer() -> None:
    record = a_record()
    record.read_events(event(choices=[{"finish_reason": None, "text": "a"}]) + event(choices=[], timings=TIMED))
    record.settle()
    assert counts(record) == (7, 1, 9)
    assert (record.prefill_tokens_per_s, record.decode_tokens_per_s) == (70.5, 30.25)
    assert record.charged_tokens == 16


def test_an_engine_that_times_every_token_is_read_once() -> None:
    record = a_record()
    for _ in range(3):
        record.read_events(event(choices=[{"finish_reason": None, "text": "a"}], timings=TIMED))
    record.read_events(event(choices=[{"finish_reason": "stop"}], timings=TIMED))
    assert counts(record) == (7, 1, 9)


def test_choices_add_up_and_their_prompt_counts_once() -> None:
    record = a_record()
    for _ in range(3):
        record.read_events(event(choices=[{"finish_reason": "stop"}], timings=TIMED))
    record.settle(3)
    assert counts(record) == (7, 1, 27)
    bare = a_record()
    bare.read_timings({"prompt_n": 8, "predicted_n": 2})
    bare.settle(2)
    assert counts(bare) == (4, None, 2)


@pytest.mark.parametrize(
    "events",
    [
        event(text='"timings":{"prompt_n":7,"predicted_n":9}'),
        event(timings={"predicted_n": 9}),
        event(timings={"prompt_n": "7", "predicted_n": 9}),
        event(timings={"prompt_n": True, "predicted_n": 9}),
        event(timings=[]),
        b'data: "timings"\n\n',
        b"",
    ],
)
def test_text_and_timings_of_another_shape_count_nothing(events: bytes) -> None:
    record = a_record()
    record.read_events(events)
    assert counts(record) == (None, None, None)


def test_an_answer_that_broke_off_is_counted_as_far_as_it_came() -> None:
    record = a_record()
    record.read_progress(b'data: {"prompt_progress":{"total":90,"cache":10,"processed":20,"time_ms":1}}\n\n')
    record.read_progress(b'data: {"prompt_progress":{"total":90,"cache":10,"processed":60,"time_ms":1}}\n\n')
    record.read_events(event(choices=[{"text": "a"}]) * 4)
    record.settle()
    assert counts(record) == (50, 10, 4)
    assert record.charged_tokens == 54


def test_a_request_that_came_to_no_engine_counts_nothing() -> None:
    record = a_record()
    record.read_progress(b"data: {}\n\n")
    record.settle()
    assert counts(record) == (None, None, None)
    assert record.charged_tokens == 0


def test_one_answer_of_several_choices_is_counted_by_its_usage() -> None:
    record = a_record()
    usage = {"prompt_tokens": 20, "completion_tokens": 18, "prompt_tokens_details": {"cached_tokens": 5}}
    record.read_answer({"timings": TIMED, "usage": usage})
    assert counts(record) == (15, 5, 18)
    assert record.decode_tokens_per_s == 30.25


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 8}, (7, 1, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 9, "prompt_tokens_details": None}, (7, 1, 9)),
        ({"total_tokens": 3}, (7, 1, 9)),
        (None, (7, 1, 9)),
    ],
)
def test_a_usage_that_tells_less_leaves_the_rest_to_the_timings(usage: object, expected: tuple[int, int, int]) -> None:
    record = a_record()
    record.read_answer({"timings": TIMED, "usage": usage})
    assert counts(record) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"usage": {"prompt_tokens": 8, "total_tokens": 8}, "data": ["0" * 20_000]},
        {"data": ["0" * 20_000], "usage": {"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 0}}},
        {"usage": {"prompt_tokens": 8}},
    ],
)
def test_the_usage_of_embeddings_is_found_at_either_end(body: dict[str, Any]) -> None:
    record = a_record()
    record.read_body(json.dumps(body).encode())
    assert (record.prefill_tokens, record.decode_tokens) == (8, 0)


def test_a_body_handed_on_with_timings_tells_them() -> None:
    record = a_record()
    record.read_body(json.dumps({"usage": {"prompt_tokens": 8, "completion_tokens": 9}, "timings": TIMED}).encode())
    assert counts(record) == (7, 1, 9)
    assert record.prefill_tokens_per_s == 70.5


def test_of_several_choices_handed_on_unparsed_the_one_that_is_counted_stands_for_each() -> None:
    record = a_record()
    record.read_body(json.dumps({"usage": {"prompt_tokens": 8, "completion_tokens": 9}, "timings": TIMED}).encode(), 3)
    record.settle()
    assert counts(record) == (7, 1, 27)
    silent = a_record()
    silent.read_body(b"{}", 3)
    assert counts(silent) == (None, None, None)


def test_the_speed_of_a_single_token_is_none() -> None:
    record = a_record()
    record.read_timings(TIMED | {"predicted_n": 1, "predicted_per_second": 1e6})
    assert record.decode_tokens_per_s is None


def test_a_wait_is_split_into_load_and_queue() -> None:
    record = a_record()
    record.waited(5.0, 3.5)
    assert (record.queue_s, record.load_s) == (1.5, 3.5)
    record.waited(1.0, 1.001)  # two clocks
    assert (record.queue_s, record.load_s) == (0.0, 1.0)


def test_what_is_kept_is_what_was_known() -> None:
    record = a_record(model="tiny", key_id="aa", status=200, arrived_s=10.0, ttft_s=0.5)
    record.read_timings(TIMED)
    entry = record.entry(1_700.0, 12.5)
    assert (entry.ended_s, entry.total_s, entry.model, entry.key_id, entry.status) == (1_700.0, 2.5, "tiny", "aa", 200)
    assert (entry.prompt_tokens, entry.cached_tokens, entry.generated_tokens) == (7, 1, 9)
    assert a_record().entry(1.0, 2.0).total_s is None


def test_only_the_first_piece_of_an_answer_counts_and_from_the_end_of_its_request() -> None:
    record = Record(endpoint="x")
    record.first_piece(5.0)
    assert record.ttft_s is None
    record.arrived_s = 3.0
    record.first_piece(5.0)
    record.first_piece(9.0)
    assert record.ttft_s == 2.0


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_of_a_body_handed_on_both_ends_are_kept_however_it_comes(size: int) -> None:
    body = b"".join(b"%07d" % number for number in range(2000))
    ends = Ends()
    for at in range(0, len(body), size):
        ends.add(body[at : at + size])
    assert ends.bytes == body[:TAIL_BYTES] + body[-TAIL_BYTES:]
    short = Ends()
    short.add(b"abc")
    short.add(b"de")
    assert short.bytes == b"abcde"


def test_of_a_stream_handed_on_the_last_timings_count() -> None:
    record = Record(endpoint="upstream")
    record.read_body(
        b'data: {"timings":{"prompt_n":1,"predicted_n":1}}\n\ndata: {"timings":{"prompt_n":1,"predicted_n":2}}'
    )
    assert (record.prefill_tokens, record.decode_tokens) == (1, 2)
