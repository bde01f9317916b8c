"""Answers that a page in a browser on this machine may read."""

from bercail.core.origin import Guests, reading_headers
from bercail.web.asgi import Headers, Message, Send


def readable(send: Send, headers: Headers, method: str, guests: Guests) -> Send:
    """``send``, with the headers that a browser wants to see if a page asks that may read the answer."""
    if b"origin" not in dict(headers):
        return send
    added = reading_headers(headers, guests, preflight=method == "OPTIONS")
    if not added:
        return send

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with
