import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.route import Phase
from bercail.web.metrics import TTFT_BOUNDS_S, Metrics, Record
from fakes.host import served

SAMPLE = re.compile(r'[a-z_]+(\{([a-z_]+="(\\.|[^"\\])*",?)*\})? [0-9.e+]+')


def lines(*records: Record) -> list[str]:
    metrics = Metrics()
    for record in records:
        metrics.add(record)
    return metrics.text((served(), served("b", phase=Phase.UNLOADED))).decode().splitlines()


@given(st.text(max_size=8))
def test_every_line_is_one_that_prometheus_reads(name: str) -> None:
    name = name.replace("\r", "").replace("\x0b", "").replace("\x0c", "")
    metrics = Metrics()
    metrics.add(Record(endpoint="completions", model=name, status=200, aborted=True, ttft_s=0.3, decode_tokens=1))
    for line in metrics.text(()).decode().removesuffix("\n").split("\n"):
        assert line.startswith(("# HELP bercail_", "# TYPE bercail_")) or SAMPLE.fullmatch(line), line


def test_requests_are_counted_by_model_endpoint_and_status() -> None:
    one = Record(endpoint="completions", model="a", status=200)
    found = lines(one, one, Record(endpoint="completions", model="a", status=499, aborted=True))
    assert 'bercail_requests_total{model="a",endpoint="completions",status="200"} 2' in found
    assert 'bercail_requests_total{model="a",endpoint="completions",status="499"} 1' in found
    assert 'bercail_requests_aborted_total{model="a"} 1' in found
    assert 'bercail_model_loaded{model="tiny"} 1' in found
    assert 'bercail_model_loaded{model="b"} 0' in found


def test_buckets_of_the_time_to_the_first_token_add_up() -> None:
    times = [0.01, 0.05, 0.3, 1000.0]
    found = lines(*(Record(endpoint="completions", model="a", status=200, ttft_s=time_s) for time_s in times))
    counts = [int(line.rsplit(" ", 1)[1]) for line in found if "_bucket{" in line]
    assert counts == sorted(counts)
    assert len(counts) == len(TTFT_BOUNDS_S) + 1
    assert 'bercail_time_to_first_token_seconds_bucket{model="a",le="0.05"} 2' in found
    assert 'bercail_time_to_first_token_seconds_bucket{model="a",le="+Inf"} 4' in found
    assert 'bercail_time_to_first_token_seconds_count{model="a"} 4' in found
    assert 'bercail_time_to_first_token_seconds_sum{model="a"} 1000.360000' in found


def test_what_did_not_happen_is_not_counted() -> None:
    found = lines(Record(endpoint="completions", model="a", status=503))
    assert not [line for line in found if line.startswith(("bercail_time", "bercail_decode_tokens_total{"))]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b'..."timings":{"cache_n":1,"prompt_n":7,"predicted_n":9}}\n\n', (7, 9)),
        (b'"timings": {"prompt_n": 1, "predicted_n": 2} "timings": {"prompt_n": 3, "predicted_n": 4}', (3, 4)),
        (b'{"text":"\\"timings\\":{\\"prompt_n\\":7,\\"predicted_n\\":9}"}', (None, None)),
        (b'"timings":{"predicted_n":9}', (None, None)),
        (b'"prompt_n":7,"predicted_n":9', (None, None)),
        (b"", (None, None)),
    ],
)
def test_tokens_are_read_from_the_last_timings_and_from_no_text(tail: bytes, expected: tuple[object, object]) -> None:
    record = Record(endpoint="completions")
    record.read_timings(tail)
    assert (record.prefill_tokens, record.decode_tokens) == expected


@pytest.mark.parametrize("timings", [None, [], {}, {"prompt_n": "7", "predicted_n": 1}])
def test_timings_of_another_shape_leave_the_counts_unknown(timings: object) -> None:
    record = Record(endpoint="completions")
    record.read_counts(timings)
    assert (record.prefill_tokens, record.decode_tokens) == (None, None)
