"""Questions about tokens to the engine of a lease."""

from collections.abc import Sequence

from msgspec import DecodeError, json

from bercail.core.chat import Json
from bercail.core.units import Bytes
from bercail.ports import Lease, Upstream
from bercail.web.asgi import JSON

_ANSWER_BYTES: Bytes = 64 * 1024 * 1024


async def told(upstream: Upstream, lease: Lease, target: str, body: bytes) -> Json | None:
    """What the engine answers; None if that is no result."""
    response = await upstream.send(lease.address, "POST", target, [JSON], body)
    answer = bytearray()
    try:
        async for chunk in response.chunks():
            answer += chunk
            if len(answer) > _ANSWER_BYTES:
                break
    finally:
        response.abort()
    try:
        found = json.decode(bytes(answer)) if response.status == 200 else None
    except (DecodeError, UnicodeDecodeError):
        found = None
    return found if isinstance(found, dict) else None


async def tokens_of(
    upstream: Upstream, lease: Lease, text: str, *, whole: bool, parse_special: bool
) -> Sequence[int] | None:
    """The tokens of a text, or None if the engine does not tell.

    Args:
        upstream: the client towards engines.
        lease: on the engine.
        text: to be read.
        whole: as a prompt begins, and ends.
        parse_special: what looks like one of the model's own tokens is one.
    """
    body = json.encode({"content": text, "add_special": whole, "parse_special": parse_special})
    found = (await told(upstream, lease, "/tokenize", body) or {}).get("tokens")
    return found if isinstance(found, list) and all(isinstance(token, int) for token in found) else None
