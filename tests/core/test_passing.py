import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.configuration import ASSETS
from bercail.core.errors import UsageError
from bercail.core.passing import (
    PARTS,
    form_field,
    place_in,
    request_headers,
    response_headers,
    wants_websocket,
    with_field,
)

KNOWN = ("m", "org/m", "org/m/x", "é")


@pytest.mark.parametrize(
    ("path", "model", "rest"),
    [
        (b"/upstream/m", "m", b""),
        (b"/upstream/m/", "m", b"/"),
        (b"/upstream/m/a/b", "m", b"/a/b"),
        (b"/upstream/org/m/v1/models", "org/m", b"/v1/models"),
        (b"/upstream/org/m/x/y", "org/m/x", b"/y"),
        (b"/upstream/org%2Fm/y", "org/m", b"/y"),
        (b"/upstream/%C3%A9/y", "é", b"/y"),
        (b"/upstream/m/a%2Fb%252F%C3%A9//c", "m", b"/a%2Fb%252F%C3%A9//c"),
        (b"/upstream/m/...", "m", b"/..."),
        (b"/upstream/m/%252e%252e/x", "m", b"/%252e%252e/x"),
    ],
)
def test_the_longest_known_id_wins_and_the_rest_stays_as_it_came(path: bytes, model: str, rest: bytes) -> None:
    place = place_in(path, KNOWN)
    assert place is not None
    assert (place.model, place.rest) == (model, rest)


def test_a_path_that_names_no_model_has_no_place() -> None:
    assert place_in(b"/upstream/other/m", KNOWN) is None
    assert place_in(b"/upstream/", KNOWN) is None
    assert place_in(b"/upstream/m", ()) is None


PATTERNS = {"gpt-*": "m", "org/*-mini": "org/m", "*": "other"}


@pytest.mark.parametrize(
    ("path", "model", "rest"),
    [
        (b"/upstream/gpt-4/v1/models", "gpt-4", b"/v1/models"),
        (b"/upstream/org/x-mini/y", "org", b"/x-mini/y"),
        (b"/upstream/org/m/y", "org/m", b"/y"),
        (b"/upstream/x", "x", b""),
    ],
)
def test_a_pattern_begins_a_path_that_no_name_begins(path: bytes, model: str, rest: bytes) -> None:
    place = place_in(path, KNOWN, PATTERNS)
    assert place is not None
    assert (place.model, place.rest) == (model, rest)


def test_a_pattern_takes_as_many_parts_as_it_has_itself() -> None:
    patterns = {"org/*-mini": "m"}
    place = place_in(b"/upstream/org/x-mini/y", KNOWN, patterns)
    assert place is not None
    assert (place.model, place.rest) == ("org/x-mini", b"/y")
    assert place_in(b"/upstream/org/x/y-mini", KNOWN, patterns) is None
    assert place_in(b"/upstream/a%2Fb-mini/y", KNOWN, {"*-mini": "m"}) is None


@pytest.mark.parametrize(
    "rest",
    [b"..", b"a/../b", b"a/./b", b"%2e%2E/x", b"a%2f..%2fb", b"a/..%5cb", b"a\\..\\b", b"%00", b"a%0d%0ab", b"%7f",
     b"a b", b"\xff", b"%zz", b"%4", b"a%"],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_is_refused(rest: bytes) -> None:
    with pytest.raises(UsageError):
        place_in(b"/upstream/org/m/" + rest, KNOWN)


@given(st.binary(max_size=60))
def test_what_passes_has_no_part_that_climbs(rest: bytes) -> None:
    try:
        place = place_in(b"/upstream/m/" + rest, ["m"])
    except UsageError:
        return
    assert place is not None
    assert place.rest == b"/" + rest
    assert b".." not in place.rest.split(b"/")
    assert not set(place.rest) & set(b"\r\n \x00")


@pytest.mark.parametrize(
    ("rest", "ignored"),
    [(b"/a/app.js", True), (b"/x.PNG", False), (b"/favicon.ico", True), (b"/v1/models", False), (b"/a.json?x", False)],
)
def test_files_of_a_page_load_nothing(rest: bytes, ignored: bool) -> None:
    place = place_in(b"/upstream/m" + rest, ["m"])
    assert place is not None
    assert place.matches([re.compile(ASSETS)]) is ignored


def test_an_expression_of_ones_own_is_searched_for_in_the_decoded_path() -> None:
    place = place_in(b"/upstream/m/static/%C3%A9/x", ["m"])
    assert place is not None
    assert place.matches([re.compile("^/none"), re.compile("/é/")])
    assert not place.matches([])


def test_an_engine_gets_neither_the_key_nor_what_belongs_to_the_connection() -> None:
    given_ones = [
        (b"Host", b"h"), (b"authorization", b"Bearer s"), (b"X-Api-Key", b"s"), (b"api-key", b"s"), (b"te", b"x"),
        (b"connection", b"close, X-Odd"), (b"x-odd", b"1"), (b"transfer-encoding", b"chunked"),
        (b"content-length", b"3"),
        (b"expect", b"100-continue"), (b"upgrade", b"websocket"), (b"accept", b"*/*"), (b"content-type", b"text/plain"),
    ]  # fmt: skip
    assert request_headers(given_ones) == [(b"accept", b"*/*"), (b"content-type", b"text/plain")]


def test_a_client_gets_the_engines_headers_but_for_the_connection_and_its_word_on_origins() -> None:
    given_ones = [
        (b"content-type", b"a"), (b"content-length", b"3"), (b"connection", b"keep-alive, content-length"),
        (b"keep-alive", b"5"), (b"access-control-allow-origin", b"*"), (b"server", b"llama.cpp"),
    ]  # fmt: skip
    assert response_headers(given_ones) == [
        (b"content-type", b"a"),
        (b"content-length", b"3"),
        (b"server", b"llama.cpp"),
    ]


TYPE = b'multipart/form-data; boundary="b o"'


def form(*parts: tuple[bytes, bytes], end: bytes = b"--b o--\r\n", mark: bytes = b"b o") -> bytes:
    return b"".join(b"--" + mark + b"\r\ncontent-disposition: form-data; " + head + b"\r\n\r\n" + body + b"\r\n"
                    for head, body in parts) + end  # fmt: skip


def test_the_model_of_a_form_is_found_before_and_after_its_files() -> None:
    file = (b'name="file"; filename="a.wav"', b'x\r\n\r\nname="model"\r\n\r\nno' * 3)
    model = (b'name="model"', b"tiny")
    assert form_field(form(model, file), TYPE, b"model") == "tiny"
    assert form_field(b"preamble\r\n" + form(file, model), TYPE, b"model") == "tiny"
    assert form_field(form(file), TYPE, b"model") == ""
    assert form_field(form((b'name="model"; filename="x"', b"no")), TYPE, b"model") == ""
    assert form_field(form((b'x="y"', b"no")), TYPE, b"model") == ""
    assert form_field(form(model, model), TYPE, b"model") == "tiny"
    plain = form(model, end=b"--q--", mark=b"q")
    assert form_field(plain, b"Multipart/Form-Data; charset=x; Boundary=q", b"model") == "tiny"


def test_a_field_of_a_form_is_replaced_wherever_it_stands_and_nothing_else() -> None:
    file, model = (b'name="file"; filename="a.wav"', b"tiny"), (b'name="model"', b"tiny")
    other = (b'name="model"', b"a/longer-name")
    assert with_field(form(model, file, model), TYPE, b"model", other[1]) == form(other, file, other)
    assert with_field(form(file), TYPE, b"model", b"x") == form(file)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"{}", b"application/json", "must be a form"),
        (b"{}", b"multipart/form-data", "must be a form"),
        (b"{}", TYPE, "damaged"),
        (form((b'name="model"', b"a"), end=b""), TYPE, "damaged"),
        (form((b'name="model"', b"a"), end=b"--b o\r\nx"), TYPE, "damaged"),
        (form(*[(b'name="x"', b"a")] * (PARTS + 1)), TYPE, "too many"),
        (form((b'name="model"', b"a"), (b'name="model"', b"b")), TYPE, "twice"),
    ],
)
def test_a_form_that_is_none_is_refused_in_words(body: bytes, kind: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        form_field(body, kind, b"model")


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_form_breaks_the_search(body: bytes, boundary: bytes) -> None:
    for whole in (body, b"--" + boundary + b"\r\n" + body):
        with suppress(UsageError):
            found = form_field(whole, b"multipart/form-data; boundary=" + boundary, b"model")
            assert found.encode(errors="replace") in whole or not found.isascii()


SHAKE = ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Key", b"x"))


Headers = tuple[tuple[bytes, bytes], ...]


@pytest.mark.parametrize(
    ("method", "headers", "wants"),
    [
        ("GET", SHAKE, True),
        ("POST", SHAKE, False),
        ("GET", SHAKE[1:], False),
        ("GET", SHAKE[:2], False),
        ("GET", (SHAKE[0], (b"upgrade", b"h2c"), SHAKE[2]), False),
    ],
)
def test_a_websocket_is_known_by_its_handshake(
    method: str, headers: tuple[tuple[bytes, bytes], ...], wants: bool
) -> None:
    assert wants_websocket(method, headers) is wants
