from pathlib import Path

import pytest

from bercail.core.errors import StoreError
from bercail.store import find_paths, make_private

HOME = Path("/home/ada")


def test_without_xdg_variables_the_folders_are_in_their_usual_places() -> None:
    paths = find_paths({"TMPDIR": "/var/tmp"}, home=HOME, system="Linux", user_id=1000)
    assert paths.config == HOME / ".config/bercail"
    assert paths.state == HOME / ".local/state/bercail"
    assert paths.cache == HOME / ".cache/bercail"
    assert paths.runtime == Path("/var/tmp/bercail-1000")


def test_xdg_variables_are_followed(tmp_path: Path) -> None:
    environment = {
        "XDG_CONFIG_HOME": "/c",
        "XDG_STATE_HOME": "/s",
        "XDG_CACHE_HOME": "/k",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    paths = find_paths(environment, home=HOME, system="Linux", user_id=1000)
    assert (paths.config, paths.state, paths.cache) == (Path("/c/bercail"), Path("/s/bercail"), Path("/k/bercail"))
    assert paths.runtime == tmp_path / "bercail"


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_relative_xdg_folders_are_not_heeded(value: str) -> None:
    assert (
        find_paths({"XDG_CONFIG_HOME": value}, home=HOME, system="Linux", user_id=1).config == HOME / ".config/bercail"
    )


def test_a_runtime_folder_that_is_gone_is_not_used(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "gone"), "TMPDIR": str(tmp_path)}
    assert find_paths(environment, home=HOME, system="Linux", user_id=7).runtime == tmp_path / "bercail-7"


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_other_systems_have_four_folders_of_our_own(system: str) -> None:
    paths = find_paths({}, home=HOME, system=system, user_id=None)
    folders = {paths.config, paths.state, paths.cache, paths.runtime}
    assert len(folders) == 4
    assert all("bercail" in str(folder) for folder in folders)


def test_a_private_folder_is_for_this_user_alone(tmp_path: Path) -> None:
    user_id = tmp_path.stat().st_uid
    folder = make_private(tmp_path / "a" / "b", user_id=user_id)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_others_may_write_to_is_closed(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    make_private(open_folder, user_id=tmp_path.stat().st_uid)
    assert open_folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_somebody_else_or_a_link_is_refused(tmp_path: Path) -> None:
    user_id = tmp_path.stat().st_uid
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="somebody else or is a link"):
        make_private(tmp_path / "link", user_id=user_id)
    with pytest.raises(StoreError, match="somebody else"):
        make_private(tmp_path / "real", user_id=user_id + 1)


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        make_private(tmp_path / "file" / "below", user_id=None)
    assert caught.value.code == "in_the_way"
