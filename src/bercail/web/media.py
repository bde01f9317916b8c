"""Images and sound in a request: what is sent along is welcome, what would have to be fetched is not."""

import re

from msgspec import json

from bercail.core.chat import ApiError
from bercail.core.model import Capability
from bercail.core.route import ServedModel
from bercail.web.errors import ReplyError

_SENSES = {Capability.VISION, Capability.AUDIO}
_MEDIA = {"image_url", "input_audio", "video_url", "input_video"}
_SIGNS = re.compile(rb'"(?:image_url|input_audio|video_url|input_video)"')
"""Looked for in every request: in a chat of text four times as fast as one after the other."""
_REMOTE = ("http://", "https://", "ftp://")
_ADDRESSES = (b":/", b":\\/", b"\\u")
"""One of these is in every body that holds an address, however its JSON is escaped."""


def check_media(body: bytes, model: ServedModel) -> None:
    """Refuse pictures and sound that the model cannot take, and such as would have to be fetched.

    llama.cpp answers the former with status 500, and fetches the latter, where nothing here uses the network.

    Args:
        body: a valid JSON object.
        model: whose capabilities may be unknown yet.

    Raises:
        ReplyError: in words, with status 400.
    """
    senseless = bool(model.capabilities) and _SENSES.isdisjoint(model.capabilities)
    if not (_SIGNS.search(body) if senseless else _has(body, _ADDRESSES)):
        return
    for message in _lists(json.decode(body), "messages"):
        for part in _lists(message, "content"):
            if senseless and isinstance(part, dict) and part.get("type") in _MEDIA:
                raise _refused(f"{model.id} takes text alone, no {part['type']}", "media_unsupported")
            if not senseless and _is_remote(part):
                raise _refused(_REMOTE_WORDS, "remote_media")


_PARTS = {
    "image", "image_url", "input_image", "document", "input_file", "input_audio", "audio", "video_url", "input_video",
}  # fmt: skip
_HINTS = (b'"image', b'"input_', b'"document"', b'"audio"', b'"video_url"')


def check_parts(body: bytes, model: ServedModel) -> None:
    """The same for bodies in which pictures may lie anywhere: Anthropic's messages and OpenAI's responses.

    Args:
        body: a valid JSON object.
        model: whose capabilities may be unknown yet.

    Raises:
        ReplyError: in words, with status 400.
    """
    if not _has(body, _HINTS):
        return
    senseless = bool(model.capabilities) and _SENSES.isdisjoint(model.capabilities)
    found = json.decode(body)
    rest: list[object] = [*_lists(found, "messages"), *_lists(found, "input")]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest.extend(part)
        elif isinstance(part, dict):
            if part.get("type") in _PARTS:
                if senseless:
                    raise _refused(f"{model.id} takes text alone, no {part['type']}", "media_unsupported")
                if _is_remote(part):
                    raise _refused(_REMOTE_WORDS, "remote_media")
            rest.extend(value for value in part.values() if isinstance(value, (dict, list)))


_REMOTE_WORDS = "this server fetches nothing from the network; send the image or sound as a data: URL"


def _has(body: bytes, signs: tuple[bytes, ...]) -> bool:
    for sign in signs:  # noqa: SIM110 - a generator costs three times as much, for every request
        if sign in body:
            return True
    return False


def _refused(words: str, code: str) -> ReplyError:
    return ReplyError(ApiError(status=400, message=words, param="messages", code=code))


def _lists(holder: object, name: str) -> list[object]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []


def _is_remote(part: object) -> bool:
    """Whether any text of a content part, however deep, is the address of something elsewhere."""
    rest = [value for name, value in part.items() if name != "text"] if isinstance(part, dict) else []
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
        elif isinstance(value, str) and value.lstrip().lower().startswith(_REMOTE):
            return True
    return False
