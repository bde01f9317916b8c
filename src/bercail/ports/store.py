"""What is kept between requests and runs, and the files that a person writes."""

from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from bercail.core.access import Key
from bercail.core.activity import Entry, Grouping, Spent, Total
from bercail.core.captured import Captured
from bercail.core.configuration import Configuration, Loaded
from bercail.core.history import Page, Tally, Wish
from bercail.core.log import Excerpt
from bercail.core.options import Settings
from bercail.core.server import Server
from bercail.core.tree import Texts
from bercail.core.units import Seconds


class Cache(Protocol):
    """Small facts worth keeping between runs; losing them costs time, never correctness."""

    def get(self, kind: str, key: str) -> dict[str, object] | None:
        """What was kept, or None."""
        ...

    def put(self, kind: str, key: str, value: dict[str, object]) -> None:
        """Keep it.

        Raises:
            StoreError: it cannot be written.
        """
        ...


class Shelf(Protocol):
    """Keeps what engines save of their contexts, within a budget."""

    @property
    def place(self) -> str:
        """Where engines write to, with a slash at its end; empty if nothing is kept.

        Raises:
            StoreError: it cannot be made.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether it is there."""
        ...

    def drop(self, name: str) -> None:
        """Delete it; nothing if it is not there."""
        ...

    def settle(self) -> None:
        """See to what was written: nobody else may read it, and the budget holds."""
        ...


class Log(Protocol):
    """What we and engines say: the latest lines of each."""

    def add(self, source: str, text: str) -> None:
        """Keep a line of ``source``: a model's engine, or ours if it is empty."""
        ...

    def since(self, place: Mapping[str, int], wanted: Callable[[str], bool]) -> Excerpt:
        """What the sources that are wanted have said since ``place``; an empty one is the beginning."""
        ...

    async def wait(self, last: int) -> bool:
        """Returns when there is a line after number ``last``; False if nobody says anything any more."""
        ...

    def close(self) -> None:
        """Nothing more is told to those who follow."""
        ...


class Journal(Protocol):
    """Remembers children on disk, so that the next start can end what outlived a killed server."""

    def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
        """A child runs; ``stop_argv`` ends what its process alone does not."""
        ...

    def forget(self, pid: int) -> None:
        """It has ended."""
        ...

    def reconcile(self) -> tuple[str, ...]:
        """End what dead servers left running; what was ended, in words."""
        ...


class Register(Protocol):
    """The servers of ours that this user runs on this machine."""

    def announce(self, url: str, config: str, record: str) -> None:
        """This process serves at ``url``.

        Args:
            url: where a program on this machine reaches it.
            config: whole path of the file that was named to it, or empty.
            record: that of its record of requests; empty if it keeps none.
        """
        ...

    def withdraw(self) -> None:
        """It serves no longer; a second call does nothing."""
        ...

    def servers(self) -> tuple[Server, ...]:
        """Those that run now."""
        ...


class Keyring(Protocol):
    """The API keys of this server."""

    @property
    def place(self) -> str:
        """Where they are kept."""
        ...

    def keys(self) -> Mapping[str, Key] | None:
        """Every key by its id as of a moment ago, revoked ones too; None if none was ever made. Cheap.

        Raises:
            StoreError: they cannot be read, and never could.
        """
        ...

    def add(self, key: Key) -> None:
        """Keep a new key.

        Raises:
            StoreError: it cannot be kept.
        """
        ...

    def revoke(self, key_id: str, wall_s: Seconds) -> Key:
        """Put a key out of force at ``wall_s`` (unix seconds).

        Raises:
            NotFoundError: there is no such key.
            StoreError: it cannot be written.
        """
        ...


class Ledger(Protocol):
    """The record of what requests have taken."""

    @property
    def place(self) -> str:
        """Its whole path."""
        ...

    def open(self) -> None:
        """Begin to record.

        Raises:
            StoreError: it cannot; nothing is recorded then.
        """
        ...

    def note(self, entry: Entry) -> None:
        """Record an entry soon; never waits, never fails."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...

    def totals(self, grouping: Grouping, since_s: Seconds) -> tuple[Total, ...]:
        """Sums of what ended since ``since_s`` (unix seconds); by day the newest first, else the most tokens first.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def spent(self, since_s: Seconds) -> tuple[Spent, ...]:
        """What keys were charged for since, the oldest first.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def latest(self) -> int | None:
        """The number of the latest request in the record, 0 if it is empty; None while nothing is recorded. Cheap."""
        ...

    def page(self, wish: Wish) -> Page:
        """The requests that meet a wish.

        Raises:
            StoreError: it cannot be read.
        """
        ...

    def tally(self, model: str) -> Tally:
        """Sums of all requests, or of those of one model if it is named.

        Raises:
            StoreError: it cannot be read.
        """
        ...


class Archive(Protocol):
    """Keeps texts of requests and answers beyond the end of the server."""

    def open(self) -> None:
        """Begin.

        Raises:
            StoreError: it cannot; nothing would be kept.
        """
        ...

    def put(self, captured: Captured) -> None:
        """Keep one soon; never waits, never fails."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...


class Configurations(Protocol):
    """Reads configurations, and looks for what they name."""

    def gather(self, file: str | None, folder: str | None) -> Texts:
        """The texts of a file, and of every file of a folder, which are read as one; ``file`` may be the folder.

        Raises:
            SettingsError: one cannot be read, there is none, or one is named twice.
        """
        ...

    def read(self, texts: Texts) -> Configuration:
        """The configuration that files hold together, settings beside it checked as well.

        Raises:
            SettingsError: something in it is wrong; tells the line and what to do.
        """
        ...

    def look(self, file: str | None, folder: str | None) -> Hashable | None:
        """Something that differs once one of them is another, or has been written to; None while one is not there."""
        ...

    def load(self, texts: Texts, given: Mapping[str, object]) -> Loaded:
        """The same with the settings in force: those of the files, of the environment, and ``given`` ones by key.

        Raises:
            SettingsError: as ``read``; or a variable or a given value is wrong.
        """
        ...

    def settings(self, texts: Texts) -> Settings:
        """The settings that files make by themselves, whatever the environment says.

        Raises:
            SettingsError: as ``read``.
        """
        ...

    def has_file(self, path: str, file: str) -> bool:
        """Whether a path that ``file`` names leads to a file or folder; it may begin where ``file`` lies."""
        ...

    def has_program(self, name: str, path: str | None) -> bool:
        """Whether a program can be started; ``path`` are the folders searched, or None for those of this process."""
        ...
