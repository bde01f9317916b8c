import json
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bercail.core.access import Key, KeyWish, Limits, Scope, mint
from bercail.core.errors import NotFoundError, StoreError
from bercail.store.keys import LOOK_S, FileKeyring, read_keys, write_keys


def a_key(number: int = 1, **facts: object) -> Key:
    wish = KeyWish(name=f"key {number}", scopes=(Scope.INFERENCE,))
    return replace(mint(wish, number.to_bytes(4, "big") + bytes(32), 5.0)[0], **facts)  # type: ignore[arg-type] # a test names what it changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


class Rings:
    """A keyring and what it warned of."""

    def __init__(self, path: Path) -> None:
        self.warnings: list[str] = []
        self.now_s = 0.0
        self.ring = FileKeyring(path, self.warnings.append, self._clock)

    def _clock(self) -> float:
        """Every look comes late enough to be one."""
        self.now_s += LOOK_S
        return self.now_s


def test_keys_come_back_as_they_were_kept(path: Path) -> None:
    full = a_key(
        2, scopes=(Scope.MODELS, Scope.ADMIN), models=("qwen*",), priority=3, expires_s=9.5, revoked_s=7.25,
        limits=Limits(tokens_per_minute=10, tokens_per_day=20, concurrency=1),
    )  # fmt: skip
    ring = Rings(path).ring
    ring.add(a_key(1))
    ring.add(full)
    assert ring.keys() == {"00000001": a_key(1), "00000002": full}
    assert ring.place == str(path)


def test_the_file_is_this_users_alone_and_holds_no_key(path: Path) -> None:
    key, token = mint(KeyWish(name="me"), bytes(range(36)), 0.0)
    Rings(path).ring.add(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    assert key.hash in path.read_text()


def test_without_a_file_no_key_was_ever_made(path: Path) -> None:
    assert Rings(path).ring.keys() is None


def test_a_server_sees_what_another_process_added_and_revoked(path: Path) -> None:
    server, owner = Rings(path).ring, Rings(path).ring
    assert server.keys() is None
    owner.add(a_key())
    assert server.keys() == {"00000001": a_key()}
    assert owner.revoke("00000001", 8.0).revoked_s == 8.0
    assert (server.keys() or {})["00000001"].revoked_s == 8.0


def test_the_file_is_looked_at_only_so_often(path: Path) -> None:
    now_s = [0.0]
    server = FileKeyring(path, print, lambda: now_s[0])
    assert server.keys() is None
    Rings(path).ring.add(a_key())
    now_s[0] = LOOK_S / 2
    assert server.keys() is None
    now_s[0] = LOOK_S
    assert server.keys() == {"00000001": a_key()}


def test_what_it_changes_itself_is_seen_at_once(path: Path) -> None:
    ring = FileKeyring(path, print, lambda: 5.0)
    assert ring.keys() is None
    ring.add(a_key())
    assert ring.keys() == {"00000001": a_key()}
    ring.revoke("00000001", 8.0)
    assert (ring.keys() or {})["00000001"].revoked_s == 8.0


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    ring = Rings(path).ring
    ring.add(a_key())
    assert ring.keys() is ring.keys()


def test_a_file_that_vanishes_lets_nobody_in_and_is_told_once(path: Path) -> None:
    rings = Rings(path)
    rings.ring.add(a_key())
    rings.ring.keys()
    path.unlink()
    assert rings.ring.keys() == {}
    assert rings.ring.keys() == {}
    assert [str(path) in text for text in rings.warnings] == [True]


def test_a_file_that_becomes_unreadable_leaves_the_known_keys_in_force_and_is_told_once(path: Path) -> None:
    rings = Rings(path)
    rings.ring.add(a_key())
    rings.ring.keys()
    path.write_text("{")
    assert rings.ring.keys() == {"00000001": a_key()}
    assert rings.ring.keys() == {"00000001": a_key()}
    assert ["stay in force" in text for text in rings.warnings] == [True]


def test_a_file_that_never_was_readable_is_an_error_not_an_open_door(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        Rings(path).ring.keys()


def test_a_key_that_is_not_there_cannot_be_revoked(path: Path) -> None:
    with pytest.raises(NotFoundError, match="0000000f"):
        Rings(path).ring.revoke("0000000f", 1.0)


def test_an_id_is_never_given_twice(path: Path) -> None:
    ring = Rings(path).ring
    ring.add(a_key())
    with pytest.raises(StoreError, match="already"):
        ring.add(a_key())


def test_a_file_that_others_may_write_is_not_trusted(path: Path) -> None:
    Rings(path).ring.add(a_key())
    path.chmod(0o622)
    with pytest.raises(StoreError, match="others may write"):
        Rings(path).ring.keys()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be changed"):
        Rings(tmp_path / "file" / "keys.json").ring.add(a_key())


ROW = {"id": "00000001", "name": "x", "hash": "0" * 64, "scopes": ["inference"], "created_s": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scope": ["admin"]}, "key 1: unknown member 'scope'.*scopes"),
        ({"zzz": 1}, "known: id, name"),
        ({"scopes": []}, "key 1: expected `array` of length >= 1"),
        ({"scopes": ["root"]}, "invalid enum value 'root'"),
        ({"tokens_per_day": 0}, "expected `int` >= 1"),
        ({"hash": "short"}, "matching regex"),
        ({"id": "../../etc"}, "matching regex"),
        ({"created_s": "now"}, "expected `float`, got `str`"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place(path: Path, change: dict[str, object], words: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": "bercail.keys/1", "keys": [ROW | change]}))
    path.chmod(0o600)
    with pytest.raises(StoreError, match=words):
        read_keys(path)


@pytest.mark.parametrize(
    "document",
    [{"schema": "bercail.keys/2", "keys": []}, {"schema": "bercail.keys/1"}, {"keys": {}},
     {"schema": "bercail.keys/1", "keys": [ROW, ROW]}, {"schema": "bercail.keys/1", "keys": [5]}],
)  # fmt: skip
def test_another_shape_is_refused(path: Path, document: object) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    with pytest.raises(StoreError):
        read_keys(path)


def test_many_who_write_at_once_lose_no_key(path: Path) -> None:
    threads = [threading.Thread(target=Rings(path).ring.add, args=(a_key(number),)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(path) or {}) == 12
    assert not {item.name for item in path.parent.iterdir()} - {"keys.json", "keys.lock"}


def test_an_empty_list_of_keys_is_not_none(path: Path) -> None:
    write_keys(path, {})
    assert Rings(path).ring.keys() == {}
