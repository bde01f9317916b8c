import json

import pytest

from bercail.core.model import Capability
from bercail.web.errors import ReplyError
from bercail.web.media import check_media
from fakes.host import served

SEEING = served("a", capabilities=(Capability.CHAT, Capability.VISION))
BLIND = served("a", capabilities=(Capability.CHAT,))


def chat(*parts: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": [*parts]}]}).encode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": "http://example.org/a.png"},
        {"type": "video_url", "video_url": {"url": " HTTPS://example.org/a.mp4"}},
        {"type": "input_audio", "input_audio": [{"data": "ftp://example.org/a.wav"}]},
    ],
)
def test_media_that_would_have_to_be_fetched_are_refused(part: object) -> None:
    with pytest.raises(ReplyError) as refused:
        check_media(chat({"type": "text", "text": "look"}, part), SEEING)
    assert (refused.value.error.status, refused.value.error.code) == (400, "remote_media")


def test_an_escaped_name_does_not_slip_through() -> None:
    body = chat({"image_url": {"url": "http://example.org"}}).replace(b"image_url", b"image\\u005furl")
    with pytest.raises(ReplyError):
        check_media(body, SEEING)


@pytest.mark.parametrize("colon", [b"\\u003a//", b":\\/\\/", b":\\/\\u002f", b":/\\/"])
def test_an_escaped_address_does_not_slip_through(colon: bytes) -> None:
    body = chat({"image_url": {"url": "http://example.org"}}).replace(b"://", colon)
    assert b"://" not in body
    with pytest.raises(ReplyError):
        check_media(body, SEEING)


@pytest.mark.parametrize(
    "body",
    [
        chat({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        chat({"type": "text", "text": "https://example.org is a fine place"}),
        b'{"messages":[{"role":"user","content":"http://example.org"}]}',
        b'{"prompt":"http://example.org"}',
    ],
)
def test_what_is_sent_along_and_what_is_mere_text_passes(body: bytes) -> None:
    assert check_media(body, SEEING) is None  # type: ignore[func-returns-value]  # that it returns is the point


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url"])
def test_a_model_that_takes_text_alone_is_not_shown_anything_else(kind: str) -> None:
    with pytest.raises(ReplyError) as refused:
        check_media(chat({"type": "text", "text": "look"}, {"type": kind, kind: {"url": "data:,"}}), BLIND)
    assert (refused.value.error.status, refused.value.error.code) == (400, "media_unsupported")
    assert kind in refused.value.error.message
    only_words = chat({"type": "text", "text": f'"{kind}"'})
    assert check_media(only_words, BLIND) is None  # type: ignore[func-returns-value]  # that it returns is the point


def test_a_model_that_was_not_read_yet_may_see() -> None:
    with pytest.raises(ReplyError):
        check_media(chat({"image_url": {"url": "http://example.org/a.png"}}), served("a", capabilities=()))
