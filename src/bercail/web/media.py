"""Images and sound in a request: what is sent along is welcome, what would have to be fetched is not."""

from msgspec import json

from bercail.core.chat import ApiError
from bercail.core.model import Capability
from bercail.core.route import ServedModel
from bercail.web.errors import ReplyError

_SENSES = {Capability.VISION, Capability.AUDIO}
_REMOTE = ("http://", "https://", "ftp://")


def refuse_remote_media(body: bytes, model: ServedModel) -> None:
    """Refuse a chat whose pictures or sound lie elsewhere: llama.cpp would fetch them; nothing here uses the network.

    Args:
        body: a valid JSON object.
        model: those that neither see nor hear are not looked at.

    Raises:
        ReplyError: a part of a message is a web address.
    """
    if model.capabilities and _SENSES.isdisjoint(model.capabilities):
        return
    chat = json.decode(body)
    for message in _lists(chat, "messages"):
        for part in _lists(message, "content"):
            if _is_remote(part):
                raise ReplyError(
                    ApiError(
                        status=400,
                        message="this server fetches nothing from the network; send the image or sound as a data: URL",
                        param="messages",
                        code="remote_media",
                    )
                )


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
