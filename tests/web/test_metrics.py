import re

from hypothesis import given
from hypothesis import strategies as st

from bercail.core.route import Phase
from bercail.web.metrics import TTFT_BOUNDS_S, Metrics
from bercail.web.record import Record
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


def test_who_runs_and_who_waits_is_told_by_model_also_of_one_that_is_gone() -> None:
    metrics = Metrics()
    metrics.queued.update({"tiny": 3, "gone": 1, "left": 0})
    metrics.running["b"] += 2
    found = metrics.text((served(), served("b"))).decode().splitlines()
    for line in (
        'bercail_requests_queued{model="tiny"} 3',
        'bercail_requests_queued{model="b"} 0',
        'bercail_requests_queued{model="gone"} 1',
        'bercail_requests_running{model="b"} 2',
    ):
        assert line in found
    assert not [line for line in found if 'model="left"' in line]


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


def test_speeds_waits_and_cached_tokens_are_told_by_model() -> None:
    found = lines(
        Record(endpoint="completions", model="a", status=200, queue_s=0.25, load_s=1.5, cached_tokens=7,
               decode_tokens_per_s=12.0),
        Record(endpoint="completions", model="a", status=200, queue_s=0.5, load_s=0.0, decode_tokens_per_s=5000.0),
    )  # fmt: skip
    assert 'bercail_queue_seconds_total{model="a"} 0.750000' in found
    assert 'bercail_load_wait_seconds_total{model="a"} 1.500000' in found
    assert 'bercail_cached_tokens_total{model="a"} 7' in found
    assert 'bercail_decode_tokens_per_second_bucket{model="a",le="15"} 1' in found
    assert 'bercail_decode_tokens_per_second_bucket{model="a",le="+Inf"} 2' in found


def test_the_state_of_every_model_is_told_with_its_loads_and_swaps() -> None:
    models = (served("a", planned_bytes=5, loads=3, swaps=2), served("b", phase=Phase.FAILED))
    found = Metrics().text(models).decode().splitlines()
    assert 'bercail_model_state{model="a",state="loaded"} 1' in found
    assert 'bercail_model_state{model="b",state="failed"} 1' in found
    assert sum(line.startswith("bercail_model_state{") and line.endswith(" 1") for line in found) == 2
    assert [line for line in found if line.startswith("bercail_model_planned_bytes{")] == [
        'bercail_model_planned_bytes{model="a"} 5'
    ]
    assert 'bercail_model_loads_total{model="a"} 3' in found
    assert 'bercail_model_swaps_total{model="a"} 2' in found


def test_requests_for_models_that_are_not_ours_share_one_label() -> None:
    found = lines(Record(endpoint="completions", status=404), Record(endpoint="completions", status=404))
    assert 'bercail_requests_total{model="(none)",endpoint="completions",status="404"} 2' in found
