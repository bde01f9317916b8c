import errno
from pathlib import Path

import pytest

from bercail.core.errors import StoreError
from bercail.store.files import read_json, remove, translate


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EACCES, "no_permission"),
        (errno.EPERM, "no_permission"),
        (errno.EROFS, "read_only"),
        (errno.ENOTDIR, "in_the_way"),
    ],
)
def test_each_trouble_has_its_code_and_says_what_to_do(number: int, code: str) -> None:
    error = translate(OSError(number, "reason"), "/a cannot be written")
    assert (error.code, error.message) == (code, "/a cannot be written: reason")
    assert error.hint


def test_other_trouble_is_told_as_the_system_tells_it() -> None:
    error = translate(OSError(errno.EIO, "Input/output error"), "/a cannot be read")
    assert error.message == "/a cannot be read: Input/output error"
    assert error.code == "store"


def test_a_folder_is_no_file_to_read_or_to_delete(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(StoreError, match="cannot be deleted"):
        remove(tmp_path)
