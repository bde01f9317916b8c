import pytest

from bercail.core.anthropic import BILLING, without_billing
from bercail.core.chat import Json
from bercail.core.origin import reading_headers


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost",
        b"http://localhost:3000",
        b"https://127.0.0.1:8080",
        b"http://[::1]:5173",
        b"http://a.localhost",
    ],
)
def test_pages_of_this_machine_may_read(origin: bytes) -> None:
    made = dict(reading_headers([(b"origin", origin)], preflight=False))
    assert made[b"access-control-allow-origin"] == origin
    assert made[b"vary"] == b"origin"
    assert b"access-control-allow-methods" not in made


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.com", b"http://localhost.evil.com", b"http://127.0.0.1.evil.com", b"http://127.0.0.1@evil.com",
     b"null", b"http://localhost:3000/x", b"http://localhost\r\nx: y", b"file://localhost", b""],
)  # fmt: skip
def test_pages_from_elsewhere_may_not(origin: bytes) -> None:
    assert reading_headers([(b"origin", origin)], preflight=True) == []


def test_what_is_no_page_gets_no_such_headers() -> None:
    assert reading_headers([(b"host", b"localhost")], preflight=True) == []


def test_a_browser_that_asks_before_is_told_what_it_may_send() -> None:
    asked = [
        (b"origin", b"http://localhost:3000"),
        (b"access-control-request-headers", b"authorization, content-type"),
        (b"access-control-request-private-network", b"true"),
    ]
    made = dict(reading_headers(asked, preflight=True))
    assert made[b"access-control-allow-headers"] == b"authorization, content-type"
    assert made[b"access-control-allow-private-network"] == b"true"
    assert b"POST" in made[b"access-control-allow-methods"]
    hostile = [(b"origin", b"http://localhost"), (b"access-control-request-headers", b"a\r\nset-cookie: b")]
    assert b"access-control-allow-headers" not in dict(reading_headers(hostile, preflight=True))


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
