"""What is asked of the record of requests, and how it is told."""

import pytest

from bercail.core.activity import Entry
from bercail.core.errors import UsageError
from bercail.core.history import (
    Column,
    Page,
    Row,
    Spread,
    Tally,
    Wish,
    bins_for,
    model_of,
    page_document,
    tally_document,
    wish_of,
)


def test_a_query_that_asks_for_nothing_means_the_newest_requests() -> None:
    assert wish_of(()) == Wish(page=1, limit=25, sort=Column.ID, descending=True)
    assert wish_of([(name, "") for name in ("page", "model", "start", "order", "min_id")]) == Wish()


def test_all_that_can_be_asked_is_understood() -> None:
    query = [
        ("page", "3"), ("limit", "999"), ("sort", "gen_speed"), ("order", "desc"), ("model", "a"), ("model", "b"),
        ("start", "2027-01-15T09:00:00 01:00"), ("end", "2027-01-15T08:00:01.5Z"), ("min_id", "0"), ("max_id", "9"),
    ]  # fmt: skip
    assert wish_of(query) == Wish(
        page=3, limit=999, sort=Column.GENERATION_SPEED, models=("a", "b"), start_s=1_800_000_000.0,
        end_s=1_800_000_001.5, min_id=0, max_id=9,
    )  # fmt: skip
    assert wish_of([("page", "2"), ("page", "4")]).page == 4
    assert not wish_of([("order", "asc")]).descending


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("page", "0", "page is a whole number, 1 or more, not '0'"),
        ("page", "99999999999999999999", "page is a whole number"),
        ("limit", "1000", "limit is a whole number, 1 to 999, not '1000'"),
        ("limit", "1_0", "limit is a whole number"),
        ("min_id", "-1", "min_id is a whole number, 0 or more, not '-1'"),
        ("max_id", "²", "max_id is a whole number"),
        ("sort", "name", "sort is one of id, time, model, req_path"),
        ("order", "up", "order is one of asc, desc, not 'up'"),
        ("start", "yesterday", "start: 'yesterday' is no moment"),
        ("end", "2027-01-15T08:00:00", "end: '2027-01-15T08:00:00' is no moment"),
    ],
)
def test_what_means_nothing_is_refused_by_name(name: str, value: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        wish_of([(name, value)])
    assert caught.value.message.startswith(words)


def test_what_nobody_asks_for_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(UsageError, match=r"'modle' asks for nothing here \(did you mean model\?\)"):
        wish_of([("modle", "a")])
    with pytest.raises(UsageError, match="there is page, limit"):
        wish_of([("colour", "red")])
    with pytest.raises(UsageError, match=r"there is model\)"):
        model_of([("page", "1")])


def test_sums_are_of_the_model_that_is_named() -> None:
    assert model_of(()) == ""
    assert model_of([("model", "a/b")]) == "a/b"


BARE = Entry(ended_s=1_800_000_000.25, endpoint="embeddings", model="e", key_id="", status=500)
WHOLE = Entry(
    ended_s=1_800_000_000.0, endpoint="chat/completions", model="m", key_id="k", status=200, aborted=True,
    prompt_tokens=3, cached_tokens=2, generated_tokens=1, trimmed_tokens=9, queue_s=0.5, load_s=0.0, ttft_s=0.75,
    prefill_tokens_per_s=10.5, decode_tokens_per_s=20.0, total_s=1.0004, capture_id=11, session="s",
    path="/v1/chat/completions", content_type="text/event-stream", error="cancelled", drafted_tokens=4,
    accepted_tokens=3,
)  # fmt: skip


def test_a_page_is_told_in_the_members_of_llama_swap_and_ours() -> None:
    page = Page(rows=(Row(id=8, entry=WHOLE),), total=51)
    assert page_document(page, Wish(page=2, limit=25)) == {
        "data": [
            {
                "id": 8, "timestamp": "2027-01-15T08:00:00.000Z", "model": "m", "req_path": "/v1/chat/completions",
                "resp_content_type": "text/event-stream", "resp_status_code": 200,
                "tokens": {
                    "cache_tokens": 2, "draft_tokens": 4, "draft_acc_tokens": 3, "input_tokens": 3, "output_tokens": 1,
                    "prompt_per_second": 10.5, "tokens_per_second": 20.0,
                },
                "duration_ms": 1000, "has_capture": True, "error_msg": "cancelled", "metadata": {"session": "s"},
                "endpoint": "chat/completions", "key_id": "k", "aborted": True, "queue_ms": 500, "load_ms": 0,
                "ttft_ms": 750, "trimmed_tokens": 9, "capture_id": 11,
            }
        ],
        "page": 2, "limit": 25, "total": 51, "total_pages": 3,
    }  # fmt: skip


def test_unknown_is_minus_one_in_its_members_and_null_in_ours() -> None:
    told = page_document(Page(rows=(Row(id=1, entry=BARE),), total=1), Wish())["data"]
    assert isinstance(told, list)
    row = told[0]
    assert set(row["tokens"].values()) == {-1}
    assert (row["duration_ms"], row["timestamp"]) == (-1, "2027-01-15T08:00:00.250Z")
    assert (row["queue_ms"], row["ttft_ms"], row["capture_id"], row["metadata"]) == (None, None, None, {})
    assert page_document(Page(rows=(), total=0), Wish())["total_pages"] == 0


def test_sums_are_told_with_how_speeds_are_spread() -> None:
    spread = Spread(bins=(1, 0, 0, 0, 1), least=10.0, most=20.0, p50=10.0, p95=20.0, p99=20.0)
    tally = Tally(requests=2, prompt_tokens=30, cached_tokens=4, generated_tokens=5, prefill=None, decode=spread)
    assert tally_document(tally) == {
        "total_requests": 2, "total_input_tokens": 30, "total_output_tokens": 5, "total_cache_tokens": 4,
        "prompt_histogram": None,
        "gen_histogram": {
            "bins": [1, 0, 0, 0, 1], "min": 10.0, "max": 20.0, "binSize": 2.0, "p50": 10.0, "p95": 20.0, "p99": 20.0,
        },
    }  # fmt: skip


@pytest.mark.parametrize(("count", "bins"), [(1, 5), (16, 5), (17, 6), (1024, 11), (10**9, 20)])
def test_values_are_sorted_into_as_many_parts_as_sturges_says(count: int, bins: int) -> None:
    assert bins_for(count) == bins
