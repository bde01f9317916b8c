"""The page of the state: static, closed to the web, and without a word that needs a key."""

import re

import pytest

from bercail.web import pages
from fakes.bench import Bench
from fakes.client import Client
from fakes.host import FakeHost, served

BROWSER = ((b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),)
PAGE = ("/ui", "/ui/", "/ui/state.css", "/ui/state.js")


def fetch(path: str, headers: tuple[tuple[bytes, bytes], ...] = (), method: str = "GET") -> Client:
    bench = Bench(FakeHost(known=[served("secret-model")]))
    client = bench.client()

    async def scene(_: Bench) -> None:
        await client.start(path, b"", method=method, headers=headers).end()

    bench.play(scene)
    return client


@pytest.mark.parametrize("path", PAGE)
def test_the_page_and_its_parts_are_there(path: str) -> None:
    client = fetch(path)
    assert client.status == 200
    assert client.headers["content-length"] == str(len(client.body))
    assert client.headers["content-type"].endswith("charset=utf-8")


def test_a_browser_is_shown_the_page_where_a_script_gets_json() -> None:
    assert fetch("/", BROWSER).body == fetch("/ui").body
    assert fetch("/").json["server"] == "bercail"
    assert fetch("/", ((b"accept", b"application/json"),)).json["models"] == ["secret-model"]


@pytest.mark.parametrize("path", [*PAGE, "/"])
def test_a_browser_is_told_to_take_nothing_from_elsewhere(path: str) -> None:
    policy = fetch(path, BROWSER).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", PAGE)
def test_nothing_is_written_into_the_page_nor_asked_of_another_server(path: str) -> None:
    text = fetch(path).body.decode()
    assert "secret-model" not in text
    assert not re.findall(r"(?:https?:)?//[a-z]", text)
    assert not re.findall(r"\son[a-z]+=|style=|innerHTML|eval\(", text)


def test_everything_that_the_page_names_is_there() -> None:
    for path in re.findall(r'(?:href|src)="([^"]+)"', fetch("/ui").body.decode()):
        assert fetch(path).status == 200, path


@pytest.mark.parametrize("path", ["/ui", "/ui/state.js"])
def test_the_page_takes_no_orders(path: str) -> None:
    client = fetch(path, BROWSER, method="POST")
    assert (client.status, client.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_what_is_not_there_is_told_with_what_is() -> None:
    client = fetch("/ui/other", BROWSER)
    assert client.status == 404
    assert "GET / lists every route" in client.error["message"]


def test_a_page_is_for_browsers_that_ask_for_one() -> None:
    assert pages.page("GET", "/", ()) is None
    assert pages.page("POST", "/ui", BROWSER) is None
    assert pages.page("GET", "/nothing", BROWSER) is None
