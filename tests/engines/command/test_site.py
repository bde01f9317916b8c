"""From a URL to an address."""

import pytest

from bercail.core.errors import EngineError
from bercail.core.launch import Address, Site
from bercail.engines.command.site import check_target, parse_url
from bercail.engines.head import render_head

KEY = (("Authorization", "Bearer theirs"),)


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("http://localhost:5801", "localhost", 5801, "http://localhost:5801"),
        ("http://gpu-box", "gpu-box", 80, "http://gpu-box"),
        ("https://models.example/api/", "models.example", 443, "https://models.example/api"),
        ("HTTPS://Models.Example:443", "models.example", 443, "https://models.example"),
        ("https://models.example:8443/a/b", "models.example", 8443, "https://models.example:8443/a/b"),
        ("http://[::1]:9000", "::1", 9000, "http://[::1]:9000"),
    ],
)
def test_a_url_says_where(url: str, host: str, port: int, shown: str) -> None:
    address = parse_url(url)
    assert (address.host, address.port, str(address)) == (host, port, shown)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "neither http:// nor https://"),
        ("htps://models.example", "did you mean https://"),
        ("http:/models.example", "neither http:// nor https://"),
        ("http://", "names no host"),
        ("http://a:0", "port 0"),
        ("http://a:99999", "no number from 1"),
        ("http://a:b", "no number from 1"),
        ("http://[::1", "Invalid IPv6"),
        ("http://a..b", "its host is no name"),
        (f"http://{64 * 'a'}.example", "its host is no name"),
        ("http://a/x?y=1", "query"),
        ("http://a/x#y", "query"),
        ("http://a/x y", "blanks"),
        ("http://a/x\r\ny", "blanks"),
        ("http://\N{LATIN SMALL LETTER A WITH GRAVE}", "blanks"),
    ],
)
def test_what_is_no_url_is_refused_with_what_to_do(url: str, words: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse_url(url)
    assert words in str(caught.value)
    assert caught.value.hint
    assert caught.value.code == "bad_url"


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(EngineError) as caught:
        parse_url("https://me:sesame@models.example")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("header", [("a b", "c"), ("", "c"), ("Host", "c"), ("a", "b\r\nc: d"), ("a", "\N{EURO SIGN}")])
def test_a_header_that_would_break_requests_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(EngineError, match="cannot be asked"):
        parse_url("http://a", (header,))


@pytest.mark.parametrize(("path", "fine"), [("", True), ("/health", True), ("health", False), ("/a b", False)])
def test_a_check_is_a_path(path: str, *, fine: bool) -> None:
    if fine:
        check_target(path)
    else:
        with pytest.raises(EngineError, match="is no path"):
            check_target(path)


def test_the_clients_key_stays_with_us_and_theirs_is_sent() -> None:
    site = parse_url("https://models.example:8443/api", KEY).site
    said = [(b"authorization", b"Bearer ours"), (b"X-Api-Key", b"ours"), (b"cookie", b"ours"), (b"accept", b"*/*")]
    assert render_head("POST", "/v1/models", said, 2, site) == (
        b"POST /api/v1/models HTTP/1.1\r\nhost: models.example:8443\r\naccept: */*\r\n"
        b"Authorization: Bearer theirs\r\ncontent-length: 2\r\n\r\n"
    )


def test_a_child_of_ours_gets_what_the_client_says_unless_told_otherwise() -> None:
    said = [(b"authorization", b"Bearer mine"), (b"x-api-key", b"mine")]
    plain = render_head("GET", "/x", said, 0, parse_url("http://localhost:1", ours=True).site)
    assert plain == b"GET /x HTTP/1.1\r\nhost: localhost:1\r\nauthorization: Bearer mine\r\nx-api-key: mine\r\n\r\n"
    told = render_head("GET", "/x", said, 0, parse_url("http://localhost:1", KEY, ours=True).site)
    assert told == (b"GET /x HTTP/1.1\r\nhost: localhost:1\r\nx-api-key: mine\r\nAuthorization: Bearer theirs\r\n\r\n")


def test_a_key_is_not_in_what_is_printed() -> None:
    assert "theirs" not in repr(parse_url("https://models.example", KEY))


def test_engines_of_ours_are_shown_as_ever() -> None:
    assert str(Address(port=1)) == "127.0.0.1:1"
    assert str(Address(unix_path="/x.sock")) == "unix:/x.sock"
    assert str(Address(host="a", port=1, site=Site(authority="a:1"))) == "http://a:1"
