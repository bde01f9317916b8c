"""What requests have taken, in a SQLite database: one writer, nothing waits for it, and it stays within its bounds."""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from bercail.core.activity import Entry, Grouping, Spent, Total
from bercail.core.errors import StoreError
from bercail.core.history import Page, Tally, Wish
from bercail.core.units import Bytes, Seconds, format_bytes
from bercail.store.files import alone, make_folder, translate
from bercail.store.history import COLUMNS, EMPTY, read_page, read_tally

T = TypeVar("T")

MIGRATIONS = (
    """
    CREATE TABLE activity (
        id INTEGER PRIMARY KEY,
        ended_s REAL NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, key_id TEXT NOT NULL,
        status INTEGER NOT NULL, aborted INTEGER NOT NULL,
        prompt_tokens INTEGER, cached_tokens INTEGER, generated_tokens INTEGER,
        queue_s REAL, load_s REAL, ttft_s REAL, prefill_tokens_per_s REAL, decode_tokens_per_s REAL, total_s REAL
    );
    CREATE INDEX activity_ended ON activity (ended_s);
    """,
    "ALTER TABLE activity ADD COLUMN trimmed_tokens INTEGER",
    "ALTER TABLE activity ADD COLUMN capture_id INTEGER",
    "ALTER TABLE activity ADD COLUMN session TEXT NOT NULL DEFAULT ''",
    """
    ALTER TABLE activity ADD COLUMN path TEXT NOT NULL DEFAULT '';
    ALTER TABLE activity ADD COLUMN content_type TEXT NOT NULL DEFAULT '';
    ALTER TABLE activity ADD COLUMN error TEXT NOT NULL DEFAULT '';
    ALTER TABLE activity ADD COLUMN drafted_tokens INTEGER;
    ALTER TABLE activity ADD COLUMN accepted_tokens INTEGER;
    """,
)
"""What makes each version of the schema from the one before; the number of those applied is ``user_version``."""

HELD = 10_000
"""Entries that wait for the writer at most; more are dropped, counted and told."""
PAUSE_S: Seconds = 0.2
"""Entries are gathered for so long before they are written in one transaction."""
TRIM_S: Seconds = 3600.0
"""So often what is too old or too much is forgotten."""
TRIM_ROWS = 5000
"""Or after so many entries."""
CLOSE_S: Seconds = 10.0
BUSY_S: Seconds = 5.0
_SHARE = 10
"""What is too much is forgotten by tenths."""

_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_row = attrgetter(*COLUMNS)
_INSERT = f"INSERT INTO activity ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - our own words
_TOTALS = """
    SELECT {group}, count(*) AS requests, sum(status >= 400), total(prompt_tokens) AS prompt, total(cached_tokens),
        total(generated_tokens) AS generated, total(trimmed_tokens), total(load_s > 0), avg(queue_s),
        avg(nullif(load_s, 0)), avg(max(ttft_s - ifnull(queue_s, 0) - ifnull(load_s, 0), 0)), avg(ttft_s),
        avg(decode_tokens_per_s)
    FROM activity WHERE ended_s >= ? GROUP BY 1 ORDER BY {order}
"""
_GROUPS = {
    Grouping.DAY: "date(ended_s, 'unixepoch', 'localtime')",
    Grouping.MODEL: "model",
    Grouping.KEY: "key_id",
    Grouping.SESSION: "session",
}


class ActivityLedger:
    """Implements ``ports.Ledger``.

    Args:
        path: the database.
        days: what is older is forgotten; 0 keeps no record at all.
        size: the oldest entries are forgotten when the database is larger.
        warn: hears in words what went wrong; service goes on.
        clock: unix seconds.
    """

    def __init__(
        self, path: Path, *, days: int, size: Bytes, warn: Callable[[str], None], clock: Callable[[], Seconds]
    ) -> None:
        self._path = path
        self._days = days
        self._size = size
        self._warn = warn
        self._clock = clock
        self._waiting: deque[Entry] = deque()
        self._called = threading.Event()
        self._ending = threading.Event()
        self._writer: threading.Thread | None = None
        # Counts of one thread each: of the one that notes, and of the writer.
        self._dropped = self._unwritten = self._told = 0
        self._failing = False
        self._latest = 0

    @property
    def place(self) -> str:
        """The whole path of the database."""
        return str(self._path.absolute())

    def open(self) -> None:
        """Begin to write; until then, and after a failure to begin, nothing is kept.

        Raises:
            StoreError: the database cannot be used.
        """
        if not self._days:
            return
        try:
            make_folder(self._path.parent)
            self._path.touch(mode=0o600)
        except OSError as error:
            raise translate(error, f"{self._path} cannot be written") from error
        with closing(self._sound()) as database:  # what is wrong with it is known before the first request
            self._latest = _last_id(database)
        self._writer = threading.Thread(target=self._write_on, name="activity", daemon=True)
        self._writer.start()

    def note(self, entry: Entry) -> None:
        """Keep an entry, soon; never waits."""
        if self._writer is None:
            return
        if len(self._waiting) >= HELD:
            self._dropped += 1
            return
        self._waiting.append(entry)
        if not self._called.is_set():
            self._called.set()

    def close(self) -> None:
        """Write what waits, and let go of the database."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._ending.set()
        self._called.set()
        writer.join(CLOSE_S)
        if writer.is_alive():
            self._warn(f"{self._path} was not written to its end: the disk is too slow")

    def totals(self, grouping: Grouping, since_s: Seconds) -> tuple[Total, ...]:
        """Sums of what ended since; by day the newest first, else the most tokens first.

        Raises:
            StoreError: the database cannot be read.
        """
        group = _GROUPS[grouping]
        order = "1 DESC" if grouping is Grouping.DAY else "prompt + generated DESC, requests DESC, 1"
        rows = self._read(_TOTALS.format(group=group, order=order), since_s)
        return tuple(
            Total(
                name=str(name), requests=requests, failed=failed, prompt_tokens=int(prompt), cached_tokens=int(cached),
                generated_tokens=int(generated), trimmed_tokens=int(trimmed), loads=int(loads), queue_s=queue_s,
                load_s=load_s, answer_s=answer_s, ttft_s=ttft_s, decode_tokens_per_s=decode,
            )
            for (
                name, requests, failed, prompt, cached, generated, trimmed, loads, queue_s, load_s, answer_s, ttft_s,
                decode,
            ) in rows
        )  # fmt: skip

    def spent(self, since_s: Seconds) -> tuple[Spent, ...]:
        """What keys were charged for since, by the minute, the oldest first.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = self._read(
            "SELECT key_id, max(ended_s), total(prompt_tokens) + total(generated_tokens) FROM activity"
            " WHERE ended_s >= ? AND key_id != '' GROUP BY key_id, CAST(ended_s / 60 AS INTEGER) ORDER BY 2",
            since_s,
        )
        return tuple(Spent(key_id=str(key_id), at_s=at_s, tokens=int(tokens)) for key_id, at_s, tokens in rows)

    def latest(self) -> int | None:
        """The number of the latest request that was written, 0 for none; None while nothing is recorded."""
        return None if self._writer is None else self._latest

    def page(self, wish: Wish) -> Page:
        """The requests that meet a wish.

        Raises:
            StoreError: the database cannot be read.
        """
        return self._ask(partial(read_page, wish=wish), Page(rows=(), total=0))

    def tally(self, model: str) -> Tally:
        """Sums of all requests, or of those of one model if it is named.

        Raises:
            StoreError: the database cannot be read.
        """
        return self._ask(partial(read_tally, model=model), EMPTY)

    def _read(self, query: str, since_s: Seconds) -> list[Any]:
        return self._ask(lambda database: database.execute(query, (since_s,)).fetchall(), [])

    def _ask(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """What a question finds; ``nothing`` where there is no database yet.

        Raises:
            StoreError: it cannot be read.
        """
        if not self._path.is_file():
            return nothing
        try:
            with closing(self._connect()) as database:
                return question(database)
        except sqlite3.Error as error:
            hint = "a server that starts moves a damaged one aside" if _is_damaged(error) else ""
            raise StoreError(f"{self._path} cannot be read: {error}", hint=hint) from error

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_S)
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut costs the last entries, never the database
        return database

    def _sound(self) -> sqlite3.Connection:
        """The database, of the newest schema; a damaged one is moved aside and told of.

        Raises:
            StoreError: it cannot be used.
        """
        with alone(self._path):  # two servers that begin at once would both make it, or both move it aside
            try:
                return self._current()
            except sqlite3.DatabaseError as error:
                if not _is_damaged(error):
                    raise StoreError(f"{self._path} cannot be used: {error}") from error
            return self._anew()

    def _anew(self) -> sqlite3.Connection:
        """A new database in the place of a damaged one.

        Raises:
            StoreError: it cannot be made.
        """
        aside = _free_name(self._path)
        try:
            self._path.replace(aside)
            for end in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self._path}{end}").replace(f"{aside}{end}")
            self._path.touch(mode=0o600)
            database = self._current()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path} is damaged, and cannot be replaced: {error}") from error
        self._warn(f"the record of requests was damaged: a new one was begun, the old one is {aside}")
        return database

    def _current(self) -> sqlite3.Connection:
        database = self._connect()
        try:
            [(verdict,)] = database.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise _damage(str(verdict))
            self._migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        [(version,)] = database.execute("PRAGMA user_version").fetchall()
        if version > len(MIGRATIONS):
            hint = "use that, or move the file away"
            raise StoreError(f"{self._path} was made by a newer Bercail", hint=hint, code="newer_schema")
        if not version:
            if database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                hint = "name a file of its own; the record of another program cannot be gone on with"
                raise StoreError(f"{self._path} is another program's database", hint=hint, code="not_ours")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            database.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")

    def _write_on(self) -> None:
        """The writer's thread: gather, write, now and then forget."""
        database: sqlite3.Connection | None = None
        trimmed_s, rows = -TRIM_S, 0
        while True:
            self._called.wait()
            self._called.clear()
            self._ending.wait(PAUSE_S)
            ending = self._ending.is_set()
            entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                database = database or self._sound()
                with database:
                    database.executemany(_INSERT, map(_row, entries))
                rows += len(entries)
                self._latest = _last_id(database)
                self._recovered()
                if self._clock() - trimmed_s >= TRIM_S or rows >= TRIM_ROWS:
                    self._trim(database)
                    trimmed_s, rows = self._clock(), 0
            except (sqlite3.Error, StoreError) as error:
                self._failed(error, len(entries))
                if database is not None and _is_damaged(error):
                    database.close()
                    database = None
            if ending and not self._waiting:
                break
        if database is not None:
            database.close()

    def _failed(self, error: Exception, entries: int) -> None:
        self._unwritten += entries
        if not self._failing:
            self._failing = True
            self._warn(f"{self._path}: {error}; requests go on, but are not recorded")

    def _recovered(self) -> None:
        if dropped := self._dropped + self._unwritten - self._told:
            self._told += dropped
            what = "1 request was" if dropped == 1 else f"{dropped} requests were"
            self._warn(f"{self._path} is written to again: {what} not recorded")
        self._failing = False

    def _trim(self, database: sqlite3.Connection) -> None:
        """Forget what is older than the days, and the oldest tenth while the database is too large."""
        with database:
            database.execute("DELETE FROM activity WHERE ended_s < ?", (self._clock() - self._days * 86_400,))
        forgotten = 0
        while _used_bytes(database) > self._size:
            [(count,)] = database.execute("SELECT count(*) FROM activity").fetchall()
            if not count:
                break
            oldest = "DELETE FROM activity WHERE id IN (SELECT id FROM activity ORDER BY ended_s, id LIMIT ?)"
            with database:
                tenth = max(1, count // _SHARE)
                forgotten += database.execute(oldest, (tenth,)).rowcount
        database.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
        if forgotten:
            limit = format_bytes(self._size)
            self._warn(f"the record of requests reached {limit}: its {forgotten} oldest entries were forgotten")


def _last_id(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT ifnull(max(id), 0) FROM activity").fetchone()[0])


def _used_bytes(database: sqlite3.Connection) -> Bytes:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _is_damaged(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _DAMAGED


def _damage(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
