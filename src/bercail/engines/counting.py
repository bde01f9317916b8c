"""Counts of tokens over HTTP, in the shapes of llama.cpp b11549, from a library that generates in this process."""

import asyncio
from typing import TypeVar

import msgspec

from bercail.engines.exchange import Receive, RefusedError, Send, answer, read_body
from bercail.engines.generating import Generates, ids_of, understood

CHATS = ("/v1/chat/completions/input_tokens", "/chat/completions/input_tokens")
T = TypeVar("T")
PATHS = (*CHATS, "/tokenize", "/detokenize")


class _Text(msgspec.Struct):
    """A text to take apart; the defaults are those of llama.cpp."""

    content: str = ""
    add_special: bool = False


class _Tokens(msgspec.Struct):
    """Tokens to put together."""

    tokens: list[int] = []


async def count(library: Generates, path: str, receive: Receive, send: Send) -> None:
    """Answer a question about tokens.

    Raises:
        RefusedError: it cannot be answered.
    """
    body = await read_body(receive)
    if path in CHATS:
        ids = await asyncio.to_thread(ids_of, library, understood(library, body))
        return await answer(send, 200, {"input_tokens": len(ids), "object": "response.input_tokens"})
    if path == "/tokenize":
        text = _read(body, _Text)
        ids = await asyncio.to_thread(library.text_ids, text.content, special=text.add_special)
        return await answer(send, 200, {"tokens": ids})
    tokens = _read(body, _Tokens).tokens
    return await answer(send, 200, {"content": await asyncio.to_thread(library.text_of, tokens, special=True)})


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"parse error: {error}") from error
