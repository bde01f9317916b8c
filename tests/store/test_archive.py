"""Texts as files: this user's alone, bounded, and never in the way of requests."""

import json
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from bercail.core.captured import Captured
from bercail.core.errors import StoreError
from bercail.store import FolderArchive

MOST = 4000


def captured(number: int, words: str = "hello") -> Captured:
    return Captured(
        id=number, at_s=1.0, endpoint="chat/completions", path="/v1/chat/completions", model="tiny", key_id="",
        status=200, request_headers=(("user-agent", "x"),), request_body=words.encode(), response_headers=(),
        response_body=None,
    )  # fmt: skip


class Desk:
    """An archive on a real folder, and what it warned of."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self.archive = FolderArchive(folder, most, self.warnings.append)

    def keep(self, *items: Captured) -> "Desk":
        self.archive.open()
        for item in items:
            self.archive.put(item)
        self.archive.close()
        return self

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "texts"


def test_each_is_a_file_of_this_user_alone_as_the_interface_tells_it(folder: Path) -> None:
    desk = Desk(folder).keep(captured(7), captured(8, "two"))
    assert desk.names() == ["7.json", "8.json"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {(folder / name).stat().st_mode & 0o777 for name in desk.names()} == {0o600}
    found = json.loads((folder / "8.json").read_text())
    assert (found["id"], b64decode(found["req_body"]), found["resp_body"]) == (8, b"two", None)
    assert desk.warnings == []


def test_the_oldest_go_also_those_of_an_earlier_server_and_nothing_else(folder: Path) -> None:
    Desk(folder).keep(*(captured(number, "x" * 600) for number in (9, 10)))
    (folder / "notes.txt").write_text("mine" * 2000)
    (folder / ".draft-killed").write_text("half")
    desk = Desk(folder).keep(*(captured(number, "x" * 600) for number in (11, 12, 13)))
    assert desk.names() == ["11.json", "12.json", "13.json", "notes.txt"]
    assert Desk(folder, most=2000).keep().names() == ["13.json", "notes.txt"]


def test_one_that_is_larger_than_all_may_be_is_told_and_left_out(folder: Path) -> None:
    desk = Desk(folder).keep(captured(1), captured(2, "x" * 5000), captured(3, "x" * 5000), captured(4))
    assert desk.names() == ["1.json", "4.json"]
    told, again = desk.warnings
    assert "is more than server.capture_disk; requests go on" in told
    assert again.endswith("lacks the texts of 2 requests")


def test_a_folder_that_cannot_be_written_to_is_told_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="for texts cannot be written to"):
        Desk(tmp_path / "file").keep()


def test_a_folder_that_goes_away_costs_texts_and_nothing_else(folder: Path) -> None:
    desk = Desk(folder)
    desk.archive.open()
    folder.rmdir()
    desk.archive.put(captured(1))
    until(lambda: desk.warnings)
    folder.mkdir()
    desk.archive.put(captured(2))
    desk.archive.close()
    assert desk.names() == ["2.json"]
    told, again = desk.warnings
    assert "requests go on, but their texts are not kept as files" in told
    assert again.endswith("lacks the texts of 1 request")


def test_what_comes_too_fast_for_the_disk_is_counted(folder: Path) -> None:
    warnings: list[str] = []
    archive = FolderArchive(folder, MOST, warnings.append, held=0)
    archive.open()
    archive.put(captured(1))
    archive.close()
    assert list(folder.iterdir()) == []
    assert warnings == [f"{folder} lacks the texts of 1 request"]


def test_nothing_is_kept_before_it_begins_or_after_its_end(folder: Path) -> None:
    desk = Desk(folder)
    desk.archive.put(captured(1))
    desk.archive.close()
    desk.keep(captured(2)).archive.put(captured(3))
    assert desk.names() == ["2.json"]


def until(condition: Callable[[], object]) -> None:
    """Poll: the writer has a thread of its own."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
