"""The record of requests is looked up in a real database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bercail.core.activity import Entry
from bercail.core.errors import StoreError
from bercail.core.history import Column, Wish
from bercail.store import activity
from bercail.store.activity import ActivityLedger

NOW_S = 1_800_000_000.0


def a_ledger(path: Path, days: int = 90) -> ActivityLedger:
    return ActivityLedger(path, days=days, size=1 << 28, warn=pytest.fail, clock=lambda: NOW_S)


def an_entry(number: int, **facts: object) -> Entry:
    told: dict[str, object] = {
        "ended_s": NOW_S + number, "endpoint": "chat/completions", "model": "ab"[number % 2], "key_id": "k",
        "status": 200,
    }  # fmt: skip
    return Entry(**told | facts)  # type: ignore[arg-type] # a test names what it changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "activity.db"


def kept(path: Path, *entries: Entry) -> ActivityLedger:
    ledger = a_ledger(path)
    ledger.open()
    for entry in entries:
        ledger.note(entry)
    ledger.close()
    return ledger


def ids(ledger: ActivityLedger, **wish: object) -> list[int]:
    return [row.id for row in ledger.page(Wish(**wish)).rows]  # type: ignore[arg-type] # as above


def test_an_entry_comes_back_as_it_was_kept(path: Path) -> None:
    whole = an_entry(
        0, aborted=True, prompt_tokens=3, cached_tokens=2, generated_tokens=1, trimmed_tokens=9, queue_s=0.5,
        load_s=0.25, ttft_s=0.75, prefill_tokens_per_s=10.5, decode_tokens_per_s=20.0, total_s=1.0, capture_id=11,
        session="s", path="/v1/chat/completions", content_type="text/event-stream", error="cancelled",
        drafted_tokens=4, accepted_tokens=3,
    )  # fmt: skip
    page = kept(path, whole, an_entry(1)).page(Wish(descending=False))
    assert [row.entry for row in page.rows] == [whole, an_entry(1)]
    assert page.total == 2


def test_pages_follow_each_other_and_tell_how_much_there_is(path: Path) -> None:
    ledger = kept(path, *map(an_entry, range(7)))
    assert ids(ledger, limit=3) == [7, 6, 5]
    assert ids(ledger, limit=3, page=3) == [1]
    assert ids(ledger, limit=3, page=2**53) == []
    assert ledger.page(Wish(limit=1)).total == 7


def test_rows_are_those_that_meet_every_part_of_a_wish(path: Path) -> None:
    ledger = kept(path, *map(an_entry, range(7)))
    assert ids(ledger, models=("a",)) == [7, 5, 3, 1]
    assert ids(ledger, models=("a", "b"), min_id=2, max_id=3) == [3, 2]
    assert ids(ledger, start_s=NOW_S + 2, end_s=NOW_S + 4) == [5, 4, 3]
    assert ids(ledger, start_s=NOW_S + 2, models=("b",), max_id=4) == [4]
    assert ledger.page(Wish(models=("none' OR 1",))).total == 0


@pytest.mark.parametrize("column", Column)
def test_rows_are_sorted_by_every_column_and_those_alike_by_number(path: Path, column: Column) -> None:
    high = {
        "ended_s": NOW_S + 9, "model": "z", "path": "/z", "status": 500, "content_type": "z", "cached_tokens": 9,
        "prompt_tokens": 9, "generated_tokens": 9, "drafted_tokens": 9, "prefill_tokens_per_s": 9.0,
        "decode_tokens_per_s": 9.0, "total_s": 9.0,
    }  # fmt: skip
    ledger = kept(path, an_entry(0), an_entry(0, **high), an_entry(0))
    by_number = column is Column.ID
    assert ids(ledger, sort=column) == ([3, 2, 1] if by_number else [2, 3, 1])
    assert ids(ledger, sort=column, descending=False) == ([1, 2, 3] if by_number else [1, 3, 2])


def test_sums_are_of_all_or_of_one_model_and_unknown_counts_for_nothing(path: Path) -> None:
    ledger = kept(
        path, an_entry(0, prompt_tokens=10, cached_tokens=5, generated_tokens=2), an_entry(2),
        an_entry(1, prompt_tokens=100, generated_tokens=1),
    )  # fmt: skip
    every, one = ledger.tally(""), ledger.tally("a")
    assert (every.requests, every.prompt_tokens, every.cached_tokens, every.generated_tokens) == (3, 110, 5, 3)
    assert (one.requests, one.prompt_tokens) == (2, 10)
    assert (one.prefill, one.decode) == (None, None)
    assert ledger.tally("c").requests == 0


def test_speeds_are_counted_in_parts_of_the_same_width(path: Path) -> None:
    speeds = [*(float(number) for number in range(1, 101)), None]
    ledger = kept(path, *(an_entry(0, decode_tokens_per_s=speed) for speed in speeds))
    spread = ledger.tally("a").decode
    assert spread is not None
    assert (len(spread.bins), sum(spread.bins)) == (8, 100)
    assert (spread.least, spread.most) == (1.0, 100.0)
    assert spread.bins[0] == 13, "from 1 to below 13.375"
    assert (spread.p50, spread.p95, spread.p99) == (50.0, 95.0, 99.0)


def test_equal_speeds_lie_in_one_part(path: Path) -> None:
    spread = kept(path, *(an_entry(0, prefill_tokens_per_s=7.0) for _ in range(3))).tally("").prefill
    assert spread is not None
    assert (spread.bins, spread.width, spread.p99) == ((3, 0, 0, 0, 0), 0.0, 7.0)


def test_the_latest_number_is_known_while_it_is_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "PAUSE_S", 0.0)
    ledger = kept(path, an_entry(0), an_entry(1))
    assert ledger.latest() is None
    again = a_ledger(path)
    again.open()
    assert again.latest() == 2
    again.close()
    off = a_ledger(path, days=0)
    off.open()
    assert off.latest() is None


def test_a_record_that_is_not_there_is_empty_and_a_foreign_one_is_told(path: Path) -> None:
    ledger = a_ledger(path)
    assert (ledger.page(Wish()).total, ledger.tally("").requests) == (0, 0)
    path.write_bytes(b"no database at all, though long enough to be one" * 99)
    with pytest.raises(StoreError, match="cannot be read"):
        ledger.page(Wish())


def test_a_record_of_an_earlier_version_gets_the_new_columns(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        for number, script in enumerate(activity.MIGRATIONS[:4], 1):
            database.executescript(f"{script}; PRAGMA user_version = {number}")
        database.execute(
            "INSERT INTO activity (ended_s, endpoint, model, key_id, status, aborted) VALUES (?, 'x', 'a', '', 200, 0)",
            (NOW_S,),
        )
        database.commit()
    [row] = kept(path).page(Wish()).rows
    assert (row.entry.path, row.entry.content_type, row.entry.drafted_tokens) == ("", "", None)
