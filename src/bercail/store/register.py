"""The servers that this user runs on this machine: each keeps a small file while it serves."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from bercail.core.errors import StoreError
from bercail.core.server import Server
from bercail.store.files import read_json, remove, write_json
from bercail.store.journal import Entry, Process, Scope, parse_process, parse_scope, sort_entry

_SCHEMA = "bercail.server/1"


class ServerRegister:
    """Implements ``ports.Register``. Never raises: a server runs without it, too.

    Args:
        folder: where the files of all servers are.
        owner: this very process; None if it cannot be told from later ones, and nothing is written then.
        scope: this boot and PID namespace.
        look: who has a process number now, or None.
        warn: hears what could not be written, in words.
    """

    def __init__(
        self,
        folder: Path,
        *,
        owner: Process | None,
        scope: Scope,
        look: Callable[[int], Process | None],
        warn: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._scope = scope
        self._look = look
        self._warn = warn

    def announce(self, url: str, config: str, record: str) -> None:
        """From now on this process serves at ``url``."""
        if self._owner is None:
            return
        entry = {"scope": asdict(self._scope), "owner": asdict(self._owner)}
        told = {"url": url, "config": config, "record": record}
        try:
            write_json(self._file(self._owner), {"schema": _SCHEMA, **entry, **told})
        except StoreError as error:
            self._warn(f"{error}; `bercail ps` and others find this server with --port alone")

    def withdraw(self) -> None:
        """It serves no longer; a second call does nothing."""
        if self._owner is not None:
            self._drop(self._file(self._owner))

    def servers(self) -> tuple[Server, ...]:
        """Those that run now, by their addresses; what dead ones have left is removed."""
        return tuple(sorted(self._living(), key=lambda server: server.url))

    def _living(self) -> Iterator[Server]:
        for path in self._folder.glob("*.json"):
            try:
                told = read_json(path) or {}
            except StoreError:
                continue  # of another version, or just being removed: it is no server that could be asked
            owner, scope, server = parse_process(told.get("owner")), parse_scope(told.get("scope")), _server(told)
            if owner is None or scope is None or server is None:
                continue
            entry = Entry(scope=scope, owner=owner, children=())
            if sort_entry(entry, self._scope, self._look).stale:
                self._drop(path)
            elif scope == self._scope:  # of another host or container nothing can be said
                yield server

    def _file(self, owner: Process) -> Path:
        return self._folder / f"{owner.pid}-{owner.start_ticks}.json"

    def _drop(self, path: Path) -> None:
        try:
            remove(path)
        except StoreError as error:
            self._warn(str(error))


def _server(told: dict[str, object]) -> Server | None:
    """What a file tells, or None if it is none that this version knows."""
    owner, url, config = parse_process(told.get("owner")), told.get("url"), told.get("config")
    if told.get("schema") != _SCHEMA or owner is None or not isinstance(url, str) or not isinstance(config, str):
        return None
    record = told.get("record")  # which servers of an earlier version do not tell
    server = Server(pid=owner.pid, url=url, config=config, record=record if isinstance(record, str) else "")
    try:
        _ = server.address
    except ValueError:
        return None
    return server
