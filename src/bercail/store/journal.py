"""The children of every running server on disk, so that the next start finds what outlived a killed one.

A process is known by its number *and* the moment it started: numbers are used again. Both mean something only within
one boot of one host and one PID namespace, so entries carry those too.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bercail.core.errors import StoreError
from bercail.store.files import read_json, remove, write_json

_SCHEMA = "bercail.children/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that may be gone.

    Attributes:
        pid: its number.
        start_ticks: when it started, in clock ticks since boot.
        argv0: the program, for people.
    """

    pid: int
    start_ticks: int
    argv0: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child of a server.

    Attributes:
        stop_argv: a command that stops what the process alone does not (``docker stop NAME``); empty if none is needed.
    """

    process: Process
    stop_argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where process numbers mean what they say.

    Attributes:
        host: name of the host.
        boot: identity of this boot.
        namespace: identity of the PID namespace.
    """

    host: str
    boot: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one server wrote: itself and its children."""

    scope: Scope
    owner: Process
    children: tuple[Child, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """What is to be done with the children in an entry.

    Attributes:
        orphans: of a dead server and alive, or with a command to stop them.
        stale: the entry says nothing any more and its file can go (after the orphans have been ended).
    """

    orphans: tuple[Child, ...]
    stale: bool


def sort_entry(entry: Entry, here: Scope, look: Callable[[int], Process | None]) -> Sorted:
    """Which children of ``entry`` are orphans; ``look`` tells who has a process number now.

    Another boot leaves nothing alive, except what has a command to stop it. Of another host (home folders are shared
    over networks) or another PID namespace we can say nothing.
    """
    if entry.scope.host != here.host:
        return Sorted(orphans=(), stale=False)
    if entry.scope.boot != here.boot:
        return Sorted(orphans=tuple(child for child in entry.children if child.stop_argv), stale=True)
    if entry.scope.namespace != here.namespace or is_alive(entry.owner, look(entry.owner.pid)):
        return Sorted(orphans=(), stale=False)
    orphans = (child for child in entry.children if child.stop_argv or is_alive(child.process, look(child.process.pid)))
    return Sorted(orphans=tuple(orphans), stale=True)


class ChildJournal:
    """Writes down our children, and reads what other servers left. Never raises: a server runs without it, too.

    Args:
        folder: where the files of all servers are.
        owner: this very process; None if it cannot be told from later ones, and nothing is written then.
        scope: this boot and PID namespace.
        look: who has a process number now, or None.
        end: ends an orphan; True if it did.
        warn: hears what could not be read or written, in words.
    """

    def __init__(
        self,
        folder: Path,
        *,
        owner: Process | None,
        scope: Scope,
        look: Callable[[int], Process | None],
        end: Callable[[Child], bool],
        warn: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._scope = scope
        self._look = look
        self._end = end
        self._warn = warn
        self._children: dict[int, Child] = {}

    def record(self, pid: int, *, stop_argv: tuple[str, ...] = ()) -> None:
        """A child runs; if it has ended already there is nothing to write down."""
        process = self._look(pid)
        if process is not None:
            self._children[pid] = Child(process=process, stop_argv=stop_argv)
            self._write()

    def forget(self, pid: int) -> None:
        """It has ended; a second call does nothing."""
        if self._children.pop(pid, None) is not None:
            self._write()

    def reconcile(self) -> tuple[str, ...]:
        """End what dead servers left running; what was ended, in words."""
        ended: list[str] = []
        for path, entry in self._entries():
            verdict = sort_entry(entry, self._scope, self._look)
            gone = [self._try_to_end(orphan) for orphan in verdict.orphans]
            ended.extend(
                f"{orphan.process.argv0} (pid {orphan.process.pid}), left by a server that was killed"
                for orphan, done in zip(verdict.orphans, gone, strict=True)
                if done
            )
            if verdict.stale and all(gone):
                self._attempt(partial(remove, path))
        return tuple(ended)

    def _try_to_end(self, orphan: Child) -> bool:
        done = self._end(orphan)
        if not done:
            process = orphan.process
            self._warn(f"{process.argv0} (pid {process.pid}) was left by a killed server and could not be ended")
        return done

    def _entries(self) -> Iterator[tuple[Path, Entry]]:
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError as error:
            self._warn(f"{self._folder} cannot be read: {error.strerror}")
            return
        for path in paths:
            try:
                entry = parse_entry(read_json(path) or {})
            except StoreError as error:
                self._warn(str(error))
                continue
            if entry is None:
                self._warn(f"{path} is no list of children that this version knows; it is left alone")
            elif entry.owner != self._owner:
                yield path, entry

    def _write(self) -> None:
        if self._owner is None:
            return
        path = self._folder / f"{self._owner.pid}-{self._owner.start_ticks}.json"
        entry = Entry(scope=self._scope, owner=self._owner, children=tuple(self._children.values()))
        if self._children:
            self._attempt(lambda: write_json(path, {"schema": _SCHEMA, **asdict(entry)}))
        else:
            self._attempt(lambda: remove(path))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except StoreError as error:
            self._warn(f"{error}; engines that outlive a killed server would not be found")


def parse_entry(value: dict[str, object]) -> Entry | None:
    """The entry in a file, or None if it is none that this version knows."""
    scope, owner, children = parse_scope(value.get("scope")), parse_process(value.get("owner")), value.get("children")
    if value.get("schema") != _SCHEMA or owner is None or scope is None or not isinstance(children, list):
        return None
    read = [_child(child) for child in children]
    known = tuple(child for child in read if child is not None)
    return Entry(scope=scope, owner=owner, children=known) if len(known) == len(read) else None


def parse_scope(value: object) -> Scope | None:
    """The scope in a file, or None if it is none."""
    if not isinstance(value, dict):
        return None
    host, boot, namespace = value.get("host"), value.get("boot"), value.get("namespace")
    if not (isinstance(host, str) and isinstance(boot, str) and isinstance(namespace, str)):
        return None
    return Scope(host=host, boot=boot, namespace=namespace)


def _child(value: object) -> Child | None:
    if not isinstance(value, dict):
        return None
    process, words = parse_process(value.get("process")), value.get("stop_argv")
    if process is None or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return Child(process=process, stop_argv=tuple(str(word) for word in words))


def parse_process(value: object) -> Process | None:
    """The process in a file, or None if it is none."""
    if not isinstance(value, dict):
        return None
    pid, start_ticks, argv0 = value.get("pid"), value.get("start_ticks"), value.get("argv0")
    if type(pid) is not int or type(start_ticks) is not int or not isinstance(argv0, str) or pid <= 1:
        return None
    return Process(pid=pid, start_ticks=start_ticks, argv0=argv0)


def is_alive(written: Process, now: Process | None) -> bool:
    """Whether who has a process number now is the process that was written down."""
    return now is not None and (now.pid, now.start_ticks) == (written.pid, written.start_ticks)
