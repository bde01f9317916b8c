"""Files that are no GGUF: what they are instead, and what to do."""

from collections.abc import Callable
from typing import NamedTuple

from bercail.core.errors import ReadError

LOOK_BYTES = 4096
"""How much of the beginning is looked at."""

CONVERT = "convert it with llama.cpp's convert_hf_to_gguf.py, or download a GGUF version of the model"
"""What to do about a model in a format that Hugging Face's tools read."""
_REPEAT = "delete it and download it again"


class _Kind(NamedTuple):
    code: str
    message: str
    hint: str
    fits: Callable[[bytes], bool]


def _starts(*heads: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(heads)


def _html(head: bytes) -> bool:
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml"))


def _safetensors(head: bytes) -> bool:
    """Eight bytes of length, then a JSON object."""
    length = int.from_bytes(head[:8], "little")
    return 2 <= length < 2**32 and head[8:9] == b"{"


def _torch_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04") and (b"data.pkl" in head or b"/data/" in head or b"archive/" in head)


def _text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # A character may be cut by the end of what is looked at.
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return bool(text) and all(letter.isprintable() or letter in "\r\n\t\f\ufeff" for letter in text)


_KINDS = (
    _Kind(
        "lfs_pointer",
        "a git-LFS pointer, the note that stands in for the model in a repository",
        "run `git lfs pull` in the repository, or download the model file itself",
        _starts(b"version https://git-lfs.github.com/spec/"),
    ),
    _Kind("html_page", "a web page saved under a model's name", "use the download link, not the page's address", _html),
    _Kind("pytorch", "a PyTorch checkpoint", CONVERT, _torch_zip),
    _Kind("compressed", "a gzip archive", "unpack it first (gunzip, or tar xf)", _starts(b"\x1f\x8b")),
    _Kind("compressed", "a zip archive", "unpack it first (unzip)", _starts(b"PK\x03\x04", b"PK\x05\x06")),
    _Kind("compressed", "a 7z archive", "unpack it first (7z x)", _starts(b"7z\xbc\xaf\x27\x1c")),
    _Kind("compressed", "an xz archive", "unpack it first (unxz)", _starts(b"\xfd7zXZ\x00")),
    _Kind("compressed", "a zstd archive", "unpack it first (unzstd)", _starts(b"\x28\xb5\x2f\xfd")),
    _Kind("compressed", "a bzip2 archive", "unpack it first (bunzip2)", _starts(b"BZh")),
    _Kind(
        "old_ggml",
        "a model in a ggml format from before GGUF (2023)",
        "download a GGUF version of the model; current engines read no other",
        _starts(b"lmgg", b"ggml", b"fmgg", b"ggmf", b"tjgg", b"ggjt", b"algg", b"ggla", b"ggsn"),
    ),
    _Kind(
        "pytorch",
        "a Python pickle, an old PyTorch checkpoint",
        CONVERT,
        _starts(b"\x80\x02", b"\x80\x03", b"\x80\x04"),
    ),
    _Kind("safetensors", "a safetensors file", CONVERT, _safetensors),
    _Kind("pdf", "a PDF document", "give the path of a .gguf file", _starts(b"%PDF-")),
    _Kind(
        "all_zeros",
        "nothing but zeros at its beginning: a download that only reserved its space",
        "let the download finish, or repeat it",
        lambda head: not head.strip(b"\0"),
    ),
    _Kind("text_file", "a text file", "give the path of a .gguf file", _text),
)


def explain(head: bytes, path: str) -> ReadError:
    """Why the file whose first bytes are ``head`` is no GGUF."""
    if not head:
        return ReadError("the file is empty", path=path, offset=0, hint=_REPEAT, code="empty_file")
    if len(head) < 4 or (len(head) < 24 and head.startswith(b"GGUF")):
        return ReadError(
            f"the file has {len(head)} bytes; a GGUF header alone takes 24",
            path=path,
            field="header",
            offset=len(head),
            hint=_REPEAT,
            code="too_short",
        )
    kind = next((kind for kind in _KINDS if kind.fits(head)), None)
    if kind is None:
        return ReadError(
            f"not a GGUF file: it begins with {head[:4]!r} instead of b'GGUF'",
            path=path,
            field="magic",
            offset=0,
            hint="give the path of a .gguf file; if it should be one, " + _REPEAT,
            code="not_gguf",
        )
    return ReadError(
        f"not a GGUF file but {kind.message}", path=path, field="magic", offset=0, hint=kind.hint, code=kind.code
    )
