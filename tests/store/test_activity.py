import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from bercail.core.activity import Entry, Grouping, Spent
from bercail.core.errors import StoreError
from bercail.store import activity
from bercail.store.activity import ActivityLedger

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


def an_entry(**facts: object) -> Entry:
    plain = Entry(
        ended_s=NOW_S, endpoint="chat/completions", model="tiny", key_id="aa", status=200, prompt_tokens=10,
        cached_tokens=5, generated_tokens=3, queue_s=0.5, load_s=0.0, ttft_s=0.25, prefill_tokens_per_s=100.0,
        decode_tokens_per_s=20.0, total_s=1.0,
    )  # fmt: skip
    return replace(plain, **facts)  # type: ignore[arg-type] # a test names what it changes


class Desk:
    """A ledger on a real database, and what it warned of."""

    def __init__(self, path: Path, **facts: object) -> None:
        self.path = path
        self.warnings: list[str] = []
        given: dict[str, object] = {"days": 90, "size": 1 << 28} | facts
        self.ledger = ActivityLedger(path, warn=self.warnings.append, clock=lambda: NOW_S, **given)  # type: ignore[arg-type] # as above

    def keep(self, *entries: Entry) -> "Desk":
        self.ledger.open()
        for entry in entries:
            self.ledger.note(entry)
        self.ledger.close()
        return self

    def count(self) -> int:
        with closing(sqlite3.connect(self.path)) as database:
            return int(database.execute("SELECT count(*) FROM activity").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "activity.db"


def until(condition: Callable[[], object]) -> None:
    """Poll: the writer has a thread of its own."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_totals_add_up_by_model_key_and_day(path: Path) -> None:
    desk = Desk(path).keep(
        an_entry(),
        an_entry(status=503, prompt_tokens=None, cached_tokens=None, generated_tokens=None, ttft_s=None,
                 decode_tokens_per_s=None),
        an_entry(model="other", key_id="", ttft_s=0.75, decode_tokens_per_s=40.0, prompt_tokens=100),
        an_entry(model="tiny", ended_s=NOW_S - 2 * DAY_S),
    )  # fmt: skip
    models = desk.ledger.totals(Grouping.MODEL, 0.0)
    assert [(one.name, one.requests, one.failed) for one in models] == [("other", 1, 0), ("tiny", 3, 1)]
    assert (models[1].prompt_tokens, models[1].cached_tokens, models[1].generated_tokens) == (20, 10, 6)
    assert (models[1].ttft_s, models[1].decode_tokens_per_s) == (0.25, 20.0)
    keys = desk.ledger.totals(Grouping.KEY, NOW_S - DAY_S)
    assert [(one.name, one.requests) for one in keys] == [("", 1), ("aa", 2)]
    days = [datetime.fromtimestamp(at_s).strftime("%Y-%m-%d") for at_s in (NOW_S, NOW_S - 2 * DAY_S)]  # noqa: DTZ006
    assert [one.name for one in desk.ledger.totals(Grouping.DAY, 0.0)] == days
    assert not desk.warnings


def test_what_was_waited_in_line_and_for_loads_is_no_part_of_the_answer(path: Path) -> None:
    desk = Desk(path).keep(
        an_entry(queue_s=1.0, load_s=0.0, ttft_s=1.5), an_entry(queue_s=0.0, load_s=2.0, ttft_s=2.25),
        an_entry(queue_s=None, load_s=None, ttft_s=0.375), an_entry(queue_s=2.0, load_s=4.0, ttft_s=None),
    )  # fmt: skip
    [one] = desk.ledger.totals(Grouping.MODEL, 0.0)
    assert (one.loads, one.load_s, one.queue_s) == (2, 3.0, 1.0)
    assert (one.answer_s, one.ttft_s) == (0.375, 1.375)
    assert desk.ledger.totals(Grouping.DAY, 0.0)[0].answer_s == 0.375


def test_a_total_of_requests_that_tell_nothing_has_no_means(path: Path) -> None:
    [one] = Desk(path).keep(an_entry(ttft_s=None, decode_tokens_per_s=None)).ledger.totals(Grouping.MODEL, 0.0)
    assert (one.ttft_s, one.decode_tokens_per_s) == (None, None)


def test_what_keys_were_charged_for_comes_back_by_the_minute(path: Path) -> None:
    base_s = NOW_S - NOW_S % 60
    desk = Desk(path).keep(
        an_entry(ended_s=base_s + 1), an_entry(ended_s=base_s + 59), an_entry(ended_s=base_s + 61, prompt_tokens=None),
        an_entry(ended_s=base_s + 2, key_id=""), an_entry(ended_s=base_s - 900, key_id="bb"),
    )  # fmt: skip
    assert desk.ledger.spent(base_s) == (
        Spent(key_id="aa", at_s=base_s + 59, tokens=26),
        Spent(key_id="aa", at_s=base_s + 61, tokens=3),
    )


def test_nothing_is_asked_of_a_database_that_is_not_there(path: Path) -> None:
    desk = Desk(path)
    assert desk.ledger.totals(Grouping.DAY, 0.0) == ()
    assert desk.ledger.spent(0.0) == ()
    desk.ledger.note(an_entry())
    desk.ledger.close()
    assert not path.exists()


def test_no_days_is_no_record(path: Path) -> None:
    Desk(path, days=0).keep(an_entry())
    assert not path.exists()


def test_the_database_is_this_users_alone_in_wal_and_can_be_opened_again(path: Path) -> None:
    Desk(path).keep(an_entry())
    assert path.stat().st_mode & 0o777 == 0o600
    desk = Desk(path).keep(an_entry())
    assert desk.count() == 2
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA user_version").fetchone() == (len(activity.MIGRATIONS),)


def test_what_is_older_than_the_days_is_forgotten(path: Path) -> None:
    desk = Desk(path, days=2).keep(*(an_entry(ended_s=NOW_S - age * DAY_S) for age in (0.0, 1.9, 2.1, 400.0)))
    assert desk.count() == 2
    assert not desk.warnings


def test_a_database_that_grows_too_large_forgets_its_oldest_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "TRIM_ROWS", 1)
    size = 400 * 1024
    desk = Desk(path, size=size).keep(*(an_entry(ended_s=NOW_S + second) for second in range(6000)))
    assert 0 < desk.count() < 6000
    assert path.stat().st_size <= size + 64 * 1024
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT max(ended_s) FROM activity").fetchone() == (NOW_S + 5999,)
    assert all("reached 400.0 KiB" in text for text in desk.warnings)
    counts = [int(word) for text in desk.warnings for word in text.split() if word.isdigit()]
    assert sum(counts) == 6000 - desk.count()


@pytest.mark.parametrize("damage", ["text", "page"])
def test_a_damaged_database_is_moved_aside_with_a_word(path: Path, damage: str) -> None:
    Desk(path).keep(*(an_entry(ended_s=NOW_S + second) for second in range(500)))
    data = path.read_bytes()
    path.write_bytes(b"no database at all" * 100 if damage == "text" else data[:8192] + b"\xff" * 4096 + data[12288:])
    broken = path.read_bytes()
    desk = Desk(path).keep(an_entry())
    assert desk.count() == 1
    aside = path.with_name("activity.db.damaged-1")
    assert aside.read_bytes() == broken
    assert [str(aside) in text for text in desk.warnings] == [True]
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="moves a damaged one aside"):
        desk.ledger.totals(Grouping.DAY, 0.0)
    Desk(path).keep(an_entry())
    assert path.with_name("activity.db.damaged-2").exists()


def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    Desk(path).keep(an_entry())
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer Bercail"):
        Desk(path).ledger.open()
    assert Desk(path).count() == 1


def test_an_older_schema_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Desk(path).keep(an_entry())
    newer = (*activity.MIGRATIONS, "ALTER TABLE activity ADD COLUMN more INTEGER DEFAULT 7")
    monkeypatch.setattr(activity, "MIGRATIONS", newer)  # a version that does not exist yet
    Desk(path).keep(an_entry())
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT more FROM activity").fetchall() == [(7,), (7,)]
        assert database.execute("PRAGMA user_version").fetchone() == (len(newer),)


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Desk(tmp_path / "file" / "activity.db").ledger.open()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond 4 KiB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_once_and_costs_only_the_record(path: Path) -> None:
    desk = Desk(path)
    desk.ledger.open()
    with full_disk():
        desk.ledger.note(an_entry())
        until(lambda: len(desk.warnings) == 1)
        desk.ledger.note(an_entry())
        until(lambda: not desk.ledger._waiting and desk.ledger._unwritten == 2)
    assert "are not recorded" in desk.warnings[0]
    desk.ledger.note(an_entry())
    desk.ledger.close()
    assert len(desk.warnings) == 2
    assert "written to again: 2 requests were not recorded" in desk.warnings[1]
    assert desk.count() == 1


def test_more_than_can_wait_is_dropped_counted_and_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "PAUSE_S", 30.0)  # until the ledger is closed
    monkeypatch.setattr(activity, "HELD", 3)
    desk = Desk(path).keep(*(an_entry() for _ in range(5)))
    assert desk.count() == 3
    assert ["2 requests were not recorded" in text for text in desk.warnings] == [True]


def test_another_server_may_write_at_the_same_time(path: Path) -> None:
    one, two = Desk(path), Desk(path)
    one.ledger.open()
    two.ledger.open()
    for _ in range(200):
        one.ledger.note(an_entry())
        two.ledger.note(an_entry())
    one.ledger.close()
    two.ledger.close()
    assert one.count() == 400
    assert not one.warnings + two.warnings


def test_servers_that_begin_at_the_same_moment_make_one_database(tmp_path: Path) -> None:
    for number in range(10):
        desks = [Desk(tmp_path / str(number) / "activity.db") for _ in range(4)]
        together = threading.Barrier(len(desks))

        def begin(desk: Desk, together: threading.Barrier = together) -> None:
            together.wait()
            desk.keep(an_entry())

        with ThreadPoolExecutor(len(desks)) as threads:
            list(threads.map(begin, desks))
        assert desks[0].count() == len(desks)
        assert not [text for desk in desks for text in desk.warnings]


def test_an_entry_is_in_the_database_soon_without_a_close(path: Path) -> None:
    desk = Desk(path)
    desk.ledger.open()
    desk.ledger.note(an_entry())
    until(lambda: desk.count() == 1)
    assert desk.count() == 1
    desk.ledger.close()


def test_the_database_of_another_program_is_left_as_it_was(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE activity (id INTEGER)")
        database.commit()
    with pytest.raises(StoreError, match="another program's database") as caught:
        Desk(path).keep(an_entry())
    assert caught.value.code == "not_ours"
    assert Desk(path).count() == 0
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (0,)


def test_sums_are_told_by_session(path: Path) -> None:
    desk = Desk(path).keep(an_entry(session="work"), an_entry(session="work"), an_entry())
    found = desk.ledger.totals(Grouping.SESSION, 0)
    assert [(total.name, total.requests) for total in found] == [("work", 2), ("", 1)]
