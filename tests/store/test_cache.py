import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.errors import StoreError
from bercail.ports import Cache
from bercail.store import FileCache
from bercail.store.files import read_json, write_json

KEY = "llama.cpp-b1-abc"

# Writes under a limit on file sizes, or as a user who owns nothing, and says which error came.
CHILD = """
import os, resource, sys
from pathlib import Path
from bercail.core.errors import StoreError
from bercail.store import FileCache
folder, trouble = Path(sys.argv[1]), sys.argv[2]
if trouble == "disk_full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
elif os.getuid() == 0:
    os.setuid(65534)
try:
    FileCache(folder, print).put("template", "k", {"why": "x" * 1000})
except StoreError as error:
    sys.stdout.write(error.code + "|" + error.hint)
"""


def quiet(folder: Path) -> FileCache:
    return FileCache(folder, pytest.fail)


def test_the_cache_has_the_shape_of_its_port(tmp_path: Path) -> None:
    cache: Cache = quiet(tmp_path)
    assert callable(cache.get)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    quiet(tmp_path).put("template", KEY, {"usable": True, "why": "é\ud800"})
    assert quiet(tmp_path).get("template", KEY) == {"usable": True, "why": "é\ud800"}


def test_nothing_kept_is_none(tmp_path: Path) -> None:
    cache = quiet(tmp_path / "none")
    assert cache.get("template", KEY) is None
    cache.put("bandwidth", KEY, {})
    assert cache.get("template", KEY) is None


def test_a_later_value_replaces_an_earlier_one_and_leaves_no_draft(tmp_path: Path) -> None:
    cache = quiet(tmp_path)
    cache.put("template", KEY, {"n": 1})
    cache.put("template", KEY, {"n": 2})
    assert cache.get("template", KEY) == {"n": 2}
    assert len(list((tmp_path / "template").iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * (2 << 20)])
def test_a_damaged_file_is_absent_after_a_warning(tmp_path: Path, data: bytes) -> None:
    quiet(tmp_path).put("template", KEY, {"n": 1})
    (file,) = (tmp_path / "template").iterdir()
    file.write_bytes(data)
    heard: list[str] = []
    assert FileCache(tmp_path, heard.append).get("template", KEY) is None
    assert len(heard) == 1
    assert str(file) in heard[0]


def test_a_file_of_another_version_or_key_is_absent(tmp_path: Path) -> None:
    cache = quiet(tmp_path)
    cache.put("template", KEY, {"n": 1})
    (file,) = (tmp_path / "template").iterdir()
    for change in ({"schema": "bercail.cache/2"}, {"key": "other"}, {"value": 5}):
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        assert cache.get("template", KEY) is None
        cache.put("template", KEY, {"n": 1})


@given(kind=st.text())
def test_a_kind_never_leads_out_of_the_folder(kind: str) -> None:
    cache = FileCache(Path("/nowhere"), lambda _: None)
    try:
        assert cache.get(kind, KEY) is None
    except ValueError:
        assert not (kind.isascii() and kind.isalpha() and kind.islower())


def test_a_file_in_the_way_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "template").write_text("")
    with pytest.raises(StoreError) as caught:
        quiet(tmp_path).put("template", KEY, {})
    assert caught.value.code == "in_the_way"
    assert str(tmp_path) in caught.value.message


@pytest.mark.skipif(sys.platform == "win32", reason="limits and users are those of Unix")
@pytest.mark.parametrize("trouble", ["disk_full", "no_permission"])
def test_a_full_disk_and_a_closed_folder_are_told_apart(tmp_path: Path, trouble: str) -> None:
    tmp_path.chmod(0o500 if trouble == "no_permission" else 0o700)
    command = [sys.executable, "-c", CHILD, str(tmp_path), trouble]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True, env={**os.environ})
    code, _, hint = ended.stdout.partition("|")
    assert code == trouble
    assert hint
    tmp_path.chmod(0o700)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"n": object()})
    assert read_json(tmp_path / "a.json") == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_our_files_are_for_us_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {})
    assert (tmp_path / "new" / "a.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
