"""What of a request and its answer is kept, and what never is."""

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.captured import HIDDEN, Captured, document, harmless, is_text, row, secrets_of, without

TOKEN = b"bk-0011-secret-of-somebody"


@pytest.mark.parametrize(
    "name", [b"Authorization", b"x-api-key", b"api-key", b"cookie", b"Set-Cookie", b"proxy-authorization", b"x-token"]
)
def test_no_credential_is_kept(name: bytes) -> None:
    assert harmless([(name, TOKEN)]) == ((name.decode(), HIDDEN),)


def test_other_headers_are() -> None:
    assert harmless([(b"user-agent", b"x/1")]) == (("user-agent", "x/1"),)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_credential_is_taken_out_of_bodies_too(before: bytes, after: bytes) -> None:
    secrets = secrets_of([(b"authorization", b"Bearer " + TOKEN), (b"x-api-key", b"abc")])
    assert secrets == (b"Bearer " + TOKEN, TOKEN)
    assert TOKEN not in without(before + TOKEN + after, secrets)
    assert without(b"abc", secrets) == b"abc", "so short a word is found everywhere by chance"


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (b"application/json; charset=utf-8", True),
        (b"text/event-stream", True),
        (b"application/x-ndjson", True),
        (b"multipart/form-data; boundary=x", False),
        (b"audio/wav", False),
        (None, True),
    ],
)
def test_only_texts_are_kept(kind: bytes | None, kept: bool) -> None:
    assert is_text([] if kind is None else [(b"Content-Type", kind)]) == kept


def test_a_document_holds_all_of_it() -> None:
    captured = Captured(
        id=7, at_s=1.5, endpoint="chat/completions", path="/v1/chat/completions", model="m", key_id="aa", status=200,
        request_headers=(("a", "b"),), request_body=b"\xff{}", response_headers=(), response_body=None,
    )  # fmt: skip
    told = json.loads(json.dumps(document(captured)))
    assert b64decode(told["req_body"]) == b"\xff{}"
    assert (told["resp_body"], told["req_headers"], told["cut"]) == (None, {"a": "b"}, False)
    assert row(captured).items() <= told.items()
