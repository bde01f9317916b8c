"""A completion with a ``suffix``: what is to fill the gap before it is asked of the engine as a prompt of tokens."""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import json

from bercail.core.chat import ApiError
from bercail.core.dialect import PASSAGES, absent, missing
from bercail.core.gap import MARKS, Frame, frame_in, framed
from bercail.core.members import text
from bercail.core.route import ServedModel
from bercail.ports import Lease, Upstream
from bercail.web.asking import tokens_of
from bercail.web.errors import ReplyError
from bercail.web.request import decoded, encoded

_decoder = json.Decoder(dict[str, object])


def check_gap(model: ServedModel) -> None:
    """Refuse a suffix for an engine that fills no gaps.

    Raises:
        ReplyError: in words.
    """
    error = missing(PASSAGES["/infill"], model.engine, on_disk=model.format is not None)
    if error is not None:
        raise ReplyError(replace(error, message=f"suffix: {error.message}", param="suffix"))


async def filled(upstream: Upstream, lease: Lease, payload: bytes) -> bytes:
    """A request for the engine that fills the gap.

    Raises:
        ReplyError: the model learned to fill none, or its engine does not tell.
        EngineError: the engine failed.
    """
    check_gap(lease.model)
    body = decoded(_decoder, payload)
    frame = await _frame(upstream, lease)
    before = await _read(upstream, lease, text(body, "prompt"))
    after = await _read(upstream, lease, text(body, "suffix"))
    return encoded(framed(body, frame, before, after))


async def _frame(upstream: Upstream, lease: Lease) -> Frame:
    for marks in MARKS:
        read = await _read(upstream, lease, marks, parse_special=True)
        if frame := frame_in(read, await _read(upstream, lease, marks, whole=True, parse_special=True)):
            return frame
    words = f"suffix: {lease.model.id} fills no gaps, for its vocabulary has no tokens for that; leave it out"
    raise ReplyError(ApiError(status=400, message=words, param="suffix", code="infill_unsupported"))


async def _read(
    upstream: Upstream, lease: Lease, words: str, *, whole: bool = False, parse_special: bool = False
) -> Sequence[int]:
    found = await tokens_of(upstream, lease, words, whole=whole, parse_special=parse_special)
    if found is None:
        error = absent(f"suffix: the engine of {lease.model.id} does not say how it reads a text")
        raise ReplyError(replace(error, param="suffix"))
    return found
