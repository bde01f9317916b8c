import pytest

from bercail.core.anthropic import BILLING, without_billing
from bercail.core.chat import Json
from bercail.core.errors import SettingsError
from bercail.core.origin import Guests, at_home, guests, reading_headers, turned_away


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost",
        b"http://localhost:3000",
        b"https://127.0.0.1:8080",
        b"http://[::1]:5173",
        b"http://a.localhost",
        b"app://obsidian.md",
        b"vscode-webview://0a1b",
    ],
)
def test_pages_of_this_machine_may_read(origin: bytes) -> None:
    made = dict(reading_headers([(b"origin", origin)], Guests(), preflight=False))
    assert made[b"access-control-allow-origin"] == origin
    assert made[b"vary"] == b"origin"
    assert b"access-control-allow-methods" not in made


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.com", b"http://localhost.evil.com", b"http://127.0.0.1.evil.com", b"http://127.0.0.1@evil.com",
     b"null", b"http://localhost:3000/x", b"http://localhost\r\nx: y", b"app://a\r\nx: y",
     b"chrome-extension://a", b""],
)  # fmt: skip
def test_pages_from_elsewhere_may_not(origin: bytes) -> None:
    assert reading_headers([(b"origin", origin)], Guests(), preflight=True) == []


def test_what_is_no_page_gets_no_such_headers() -> None:
    assert reading_headers([(b"host", b"localhost")], Guests(), preflight=True) == []


def test_a_browser_that_asks_before_is_told_what_it_may_send() -> None:
    asked = [
        (b"origin", b"http://localhost:3000"),
        (b"access-control-request-headers", b"authorization, content-type"),
        (b"access-control-request-private-network", b"true"),
    ]
    made = dict(reading_headers(asked, Guests(), preflight=True))
    assert made[b"access-control-allow-headers"] == b"authorization, content-type"
    assert made[b"access-control-allow-private-network"] == b"true"
    assert b"POST" in made[b"access-control-allow-methods"]
    hostile = [(b"origin", b"http://localhost"), (b"access-control-request-headers", b"a\r\nset-cookie: b")]
    assert b"access-control-allow-headers" not in dict(reading_headers(hostile, Guests(), preflight=True))


HOME = at_home(guests("https://chat.example, chrome-extension://*", "ai.example"), ("127.0.0.1", "Box"))
EVIL = (b"origin", b"https://evil.example")
CROSS = (b"sec-fetch-site", b"cross-site")
HERE = (b"host", b"127.0.0.1:8123")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (HERE,),
        (HERE, (b"sec-fetch-site", b"same-site")),
        (HERE, CROSS, (b"origin", b"http://localhost:3000")),
        (HERE, CROSS, (b"origin", b"https://chat.example")),
        (HERE, CROSS, (b"origin", b"chrome-extension://abc")),
        ((b"host", b"ai.example:8123"), (b"origin", b"https://ai.example:8123")),
        *(
            ((b"host", name),)
            for name in (
                b"localhost", b"LOCALHOST:1", b"a.localhost:1", b"[::1]:8123", b"[::1]", b"192.168.1.7:8123", b"box:1",
                b"box.local", b"host.docker.internal:8123", b"ai.example",
            )
        ),
    ],
)  # fmt: skip
def test_programs_and_pages_of_this_machine_come_in_and_those_that_are_named(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    assert turned_away(headers, HOME, page=False) == ""


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((HERE, EVIL), "pages of https://evil.example may not use this server"),
        ((HERE, (b"origin", b"null")), "pages of null may not"),
        ((HERE, (b"origin", b"https://chat.example.evil.example")), "may not"),
        ((HERE, CROSS), "pages from elsewhere may not use this server"),
        (
            ((b"host", b"evil.example:8123"), (b"origin", b"http://evil.example:8123")),
            "evil.example is no name of",
        ),
        (((b"host", b"127.0.0.1.evil.example"),), "is no name of this server"),
        (((b"host", b""),), "is no name of this server"),
    ],
)
def test_pages_from_elsewhere_and_names_that_lead_here_are_turned_away(
    headers: tuple[tuple[bytes, bytes], ...], words: str
) -> None:
    assert words in turned_away(headers, HOME, page=False)


def test_a_link_from_anywhere_leads_to_a_page() -> None:
    assert turned_away((HERE, CROSS), HOME, page=True) == ""


def test_a_server_of_a_network_goes_by_any_name_unless_its_names_are_told() -> None:
    named = ((b"host", b"gpu.lan:8123"), (b"origin", b"http://gpu.lan:8123"))
    assert turned_away(named, guests("", ""), page=False) == ""
    assert turned_away((named[0], EVIL), guests("", ""), page=False)
    assert turned_away((named[0], EVIL), guests("*", "*"), page=False) == ""
    assert turned_away(named, guests("", "other.lan"), page=False)
    assert turned_away(((b"host", b"other.lan:8123"),), guests("", "other.lan"), page=False) == ""


@pytest.mark.parametrize(
    ("origins", "hosts", "words"),
    [
        ("chat.example", "", "server.origins: 'chat.example' is no origin"),
        ("https://a/b", "", "is no origin"),
        ("", "https://a", "server.hosts: 'https://a' is no name of a host"),
        ("", "a:80", "is no name"),
    ],
)
def test_what_is_no_origin_and_no_host_is_told(origins: str, hosts: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        guests(origins, hosts)


TEXT = {"type": "text", "text": "be brief"}


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([{"type": "text", "text": BILLING + " v=1"}, TEXT, 5], [TEXT, 5]),
        (BILLING + " v=1\nbe brief", "be brief"),
        ("be brief", "be brief"),
        (None, None),
    ],
)
def test_a_block_that_only_counts_is_left_out_so_that_the_cache_is_found(system: object, left: object) -> None:
    body: Json = {"system": system, "messages": []}
    assert without_billing(body) == {"system": left, "messages": []}
