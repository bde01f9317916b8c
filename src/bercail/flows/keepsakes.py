"""The contexts of a model survive its swap: saved before it leaves memory, brought back when it returns."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from bercail.core import news
from bercail.core.errors import BercailError, EngineError
from bercail.core.keepsake import WORTH_TOKENS, name_of
from bercail.core.launch import Address
from bercail.core.units import Seconds
from bercail.flows.prepare import Prepared
from bercail.ports import House

PATIENCE_S: Seconds = 20.0
"""Saving or bringing back a slot that takes longer is given up: reading the prompt again is then as quick."""
_JSON = ((b"content-type", b"application/json"),)


async def save(house: House, prepared: Prepared, address: Address, tell: Callable[[news.News], None]) -> None:
    """Save what the slots of an engine hold that nobody uses any more; what cannot be saved is told.

    One after the other, so that the budget is exceeded by no more than the one that is being written.
    """
    if not prepared.spec.slot_folder:
        return
    tokens = 0
    for slot in range(prepared.spec.settings.slots):
        name = _name(prepared, slot)
        try:
            done = await _asked(house, address, slot, "save", name)
        except BercailError as error:
            house.shelf.drop(name)  # llama.cpp b11549 leaves what it had written when the disk ran full
            tell(news.Warned(text=f"the contexts of {prepared.spec.model_id} could not be saved: {error}"))
            break
        if done.get("n_saved", 0) < WORTH_TOKENS:
            house.shelf.drop(name)
            continue
        tokens += int(done["n_saved"])
        await asyncio.to_thread(house.shelf.settle)
    if tokens:
        tell(news.ContextKept(model_id=prepared.spec.model_id, tokens=tokens))


async def bring_back(house: House, prepared: Prepared, address: Address, tell: Callable[[news.News], None]) -> None:
    """Bring back what was saved of a model; what cannot be brought back is told, and deleted."""
    if not prepared.spec.slot_folder:
        return
    tokens = 0
    for slot in range(prepared.spec.settings.slots):
        name = _name(prepared, slot)
        if not house.shelf.has(name):
            continue
        try:
            done = await _asked(house, address, slot, "restore", name)
        except BercailError as error:
            house.shelf.drop(name)
            tell(news.Warned(text=f"a context of {prepared.spec.model_id} could not be brought back: {error}"))
            continue
        tokens += int(done.get("n_restored", 0))
    if tokens:
        tell(news.ContextRestored(model_id=prepared.spec.model_id, tokens=tokens))


def _name(prepared: Prepared, slot: int) -> str:
    engine = prepared.engine
    return name_of(prepared.spec, f"{engine.name}-{engine.build}", prepared.modified_s, slot)


async def _asked(house: House, address: Address, slot: int, action: str, name: str) -> dict[str, Any]:
    """The engine's answer.

    Raises:
        EngineError: it refuses, or takes too long.
    """
    body = json.dumps({"filename": name}).encode()
    try:
        async with asyncio.timeout(PATIENCE_S):
            response = await house.upstream.send(address, "POST", f"/slots/{slot}?action={action}", _JSON, body)
            answer = json.loads(b"".join([chunk async for chunk in response.chunks()]))
    except TimeoutError as error:
        raise EngineError(f"no answer within {PATIENCE_S:.0f} s", code="engine_timeout") from error
    except ValueError as error:
        raise EngineError("the engine answered with no JSON", code="engine_answer") from error
    if response.status != 200 or not isinstance(answer, dict):
        told = answer.get("error") if isinstance(answer, dict) else None
        words = told.get("message") if isinstance(told, dict) else None
        raise EngineError(str(words or f"status {response.status}"), code="engine_answer")
    return answer
