"""The folder of saved contexts."""

import os
from pathlib import Path

import pytest

from bercail.core.errors import StoreError
from bercail.store import FolderShelf


def test_files_are_this_users_alone_and_the_longest_unused_go(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "deep" / "slots", 25)
    place = Path(shelf.place)
    assert shelf.place.endswith("/")
    assert place.stat().st_mode & 0o777 == 0o700
    for number in range(3):
        path = place / f"{number}.slot"
        path.write_bytes(bytes(10))
        path.chmod(0o644)
        os.utime(path, (number, number))
    (place / "else").write_bytes(bytes(100))
    shelf.settle()
    assert not shelf.has("0.slot")
    assert shelf.has("1.slot")
    assert (place / "2.slot").stat().st_mode & 0o777 == 0o600
    assert (place / "else").exists(), "only what is ours is touched"
    shelf.drop("1.slot")
    shelf.drop("1.slot")
    assert not shelf.has("1.slot")


def test_with_no_budget_nothing_is_made(tmp_path: Path) -> None:
    assert FolderShelf(tmp_path / "slots", 0).place == ""
    assert not (tmp_path / "slots").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="for saved contexts cannot be made"):
        _ = FolderShelf(tmp_path / "file" / "slots", 1).place
