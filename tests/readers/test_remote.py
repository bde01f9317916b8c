"""Headers from a web server: a few bytes of the file, all parts, and clear words when it will not give them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from bercail.core.errors import ReadError
from bercail.core.model import Model
from bercail.readers import Readers, remote
from tools.synth.shapes import known, read_table, tiny
from tools.synth.write import write_gguf


class Shop(BaseHTTPRequestHandler):
    """Gives files out of a folder, by ranges unless told otherwise; remembers what it was asked."""

    root: Path
    ranges: bool = True
    sized: bool = True
    asked: list[str | None]
    cut: int = 0

    def do_GET(self) -> None:
        self.asked.append(self.headers["Range"])
        path = self.root / unquote(urlsplit(self.path).path.rsplit("/", 1)[-1])
        if self.path.startswith("/locked"):
            self.send_error(401)
            return
        if not path.exists():
            self.send_error(404)
            return
        size = path.stat().st_size
        begin, end = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        begin, end = (begin, min(end + 1, size)) if self.ranges else (0, size)
        self.send_response(206 if self.ranges else 200)
        if self.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        if self.sized:
            self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(begin)
            self.wfile.write(file.read(end - begin - self.cut))

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[type[Shop]]:
    class Own(Shop):
        root = tmp_path

    Own.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        Own.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Own
        server.shutdown()


def read(shop: type[Shop], tmp_path: Path, name: str) -> Model:
    home = tmp_path / "home"
    return Readers({}, home, home, None, tmp_path / "headers").read_remote(f"{shop.url}/{name}")  # type: ignore[attr-defined]


def test_a_model_of_gibibytes_is_read_by_its_first_bytes(shop: type[Shop], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "big model.gguf", *known(read_table()["Llama-3.1-8B"]))
    here = Readers({}, tmp_path, tmp_path).read(str(path))
    there = read(shop, tmp_path, "big%20model.gguf?download=true")
    assert (there.id, there.tensors, there.file_bytes) == ("big model", here.tensors, here.file_bytes)
    assert there.file_bytes > 10**10
    assert shop.asked == [f"bytes=0-{remote.FIRST_BYTES - 1}"]
    kept = Path(there.path)
    assert kept.stat().st_size == here.file_bytes
    assert kept.stat().st_blocks * 512 <= remote.FIRST_BYTES + 65536


def test_more_is_fetched_until_the_header_is_whole(
    shop: type[Shop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_BYTES", 512)
    path = write_gguf(tmp_path / "m.gguf", *known(read_table()["Qwen3-4B"]))
    here = Readers({}, tmp_path, tmp_path).read(str(path))
    assert read(shop, tmp_path, "m.gguf").tensors == here.tensors
    assert shop.asked[:3] == ["bytes=0-511", "bytes=512-2047", "bytes=2048-8191"]


def test_a_server_without_ranges_serves_as_well(
    shop: type[Shop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_BYTES", 512)
    shop.ranges = False
    path = write_gguf(tmp_path / "m.gguf", *tiny())
    assert read(shop, tmp_path, "m.gguf").tensors == Readers({}, tmp_path, tmp_path).read(str(path)).tensors
    assert len(shop.asked) > 1


def test_all_parts_of_a_split_model_are_read(shop: type[Shop], tmp_path: Path) -> None:
    metadata, tensors = tiny()
    for number, part in enumerate((tensors[:3], tensors[3:])):
        keys = {"split.no": number, "split.count": 2, "split.tensors.count": len(tensors)}
        write_gguf(tmp_path / f"m-0000{number + 1}-of-00002.gguf", {**(metadata if number == 0 else {}), **keys}, part)
    model = read(shop, tmp_path, "m-00002-of-00002.gguf")
    assert len(model.files) == 2
    assert len(model.tensors) == len(tensors)


def test_what_is_no_model_is_refused_as_a_file_would_be(shop: type[Shop], tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>Sign in</html>", encoding="utf-8")
    with pytest.raises(ReadError, match="GGUF") as refused:
        read(shop, tmp_path, "page.gguf")
    assert refused.value.message.startswith(f"{shop.url}/page.gguf")  # type: ignore[attr-defined]
    assert "headers" not in refused.value.message


@pytest.mark.parametrize(
    ("path", "words"),
    [("m.gguf", "answers 404"), ("locked/m.gguf", "answers 401")],
)
def test_what_the_server_refuses_is_told_with_what_to_do(
    shop: type[Shop], tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(ReadError, match=words) as refused:
        read(shop, tmp_path, path)
    assert refused.value.hint


def test_a_server_that_stops_midway_or_hides_the_size_is_told(shop: type[Shop], tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", *tiny())
    shop.cut = 10
    with pytest.raises(ReadError, match="stopped after"):
        read(shop, tmp_path, "m.gguf")
    shop.cut, shop.ranges, shop.sized = 0, False, False
    with pytest.raises(ReadError, match="does not say how large"):
        read(shop, tmp_path, "m.gguf")


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be fetched"):
        Readers({}, tmp_path, tmp_path).read_remote("http://127.0.0.1:9/m.gguf")


def test_a_header_that_cannot_be_kept_is_told(shop: type[Shop], tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", *tiny())
    (tmp_path / "headers").write_text("in the way", encoding="utf-8")
    with pytest.raises(ReadError, match="cannot be kept here"):
        read(shop, tmp_path, "m.gguf")


def test_an_address_is_no_model_to_serve_and_what_to_do_is_said(tmp_path: Path) -> None:
    findings = Readers({}, tmp_path, tmp_path).find(("https://hub.example/m.gguf",), ())
    assert not findings.models
    assert "does not download models" in findings.problems[0]
    with pytest.raises(ReadError, match="does not download") as refused:
        Readers({}, tmp_path, tmp_path).read("https://hub.example/m.gguf")
    assert "curl -LO" in refused.value.hint
