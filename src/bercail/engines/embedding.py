"""Embeddings over HTTP, in the shapes of OpenAI and llama.cpp b11549, from a library that embeds in this process."""

import asyncio
import base64
import struct
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from bercail.core.units import Tokens
from bercail.engines.exchange import FAILED, Receive, RefusedError, Send, answer, read_body, until_left

PATHS = ("/v1/embeddings",)
Vector: TypeAlias = Sequence[float]
Hear: TypeAlias = Callable[[Sequence[Vector] | str], None]
EUCLIDEAN = 2
"""What llama.cpp makes of every vector, if nothing is said: one of length 1."""
_LARGEST = 32760
"""Of a vector whose largest value is scaled, as llama.cpp does with ``embd_normalize: 0``."""

_MOST_ORDER = 16


class Wish(msgspec.Struct):
    """A request; ``content`` is llama.cpp's word for the input."""

    input: str | list[str | int | list[int]] | None = None
    content: str | list[str | int | list[int]] | None = None
    encoding_format: str = "float"
    dimensions: int | None = None
    embd_normalize: int = EUCLIDEAN


@runtime_checkable
class Embeds(Protocol):
    """A library that embeds.

    Attributes:
        name: for people.
        context_tokens: of one text at most.
        width: values of a vector.
        lacks: names of what it cannot do.
    """

    name: str
    context_tokens: Tokens
    width: int
    lacks: frozenset[str]

    def counts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text as the model would read them, its own marks among them."""
        ...

    def embed(self, texts: Sequence[str], counts: Sequence[Tokens], hear: Hear) -> Callable[[], None]:
        """Make a vector of each text, of whatever length; what ends it early is given back.

        ``hear`` is called once, from any thread: with the vectors in the order of the texts, or with what went wrong.
        """
        ...


async def embed(library: Embeds, model_id: str, receive: Receive, send: Send) -> None:
    """Answer with a vector for each text.

    Raises:
        RefusedError: it cannot be answered.
    """
    wish = _understood(library, await read_body(receive))
    texts = _texts(library, wish)
    counts = await asyncio.to_thread(library.counts, texts)
    for place, count in enumerate(counts):
        if count > library.context_tokens:
            raise RefusedError.too_long(count, library.context_tokens, f"input {place}: " if len(texts) > 1 else "")
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[Sequence[Vector] | str] = asyncio.Queue()

    def hear(vectors: Sequence[Vector] | str) -> None:
        loop.call_soon_threadsafe(made.put_nowait, vectors)

    async def reply() -> None:
        vectors = await made.get()
        if isinstance(vectors, str):
            raise RefusedError(500, f"the engine {FAILED}{vectors}", "server_error")
        await answer(send, 200, await asyncio.to_thread(_document, wish, model_id, vectors, sum(counts)))

    await until_left(receive, reply(), library.embed(texts, counts, hear))


def _understood(library: Embeds, body: bytes) -> Wish:
    try:
        wish = msgspec.json.decode(body, type=Wish)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"parse error: {error}") from error
    if wish.encoding_format not in ("float", "base64"):
        raise RefusedError(400, f"encoding_format {wish.encoding_format!r} is neither float nor base64")
    if wish.dimensions is not None and not 1 <= wish.dimensions <= library.width:
        raise RefusedError(400, f"dimensions {wish.dimensions}: this model makes vectors of {library.width} values")
    if not -1 <= wish.embd_normalize <= _MOST_ORDER:
        raise RefusedError(400, f"embd_normalize {wish.embd_normalize} is none of -1 (as it is) to {_MOST_ORDER}")
    return wish


def _texts(library: Embeds, wish: Wish) -> list[str]:
    """What is to be embedded."""
    given = wish.content if wish.input is None else wish.input
    if given is None or given == []:
        raise RefusedError(400, "input is missing: a text, or a list of texts")
    texts = [given] if isinstance(given, str) else [text for text in given if isinstance(text, str)]
    if not isinstance(given, str) and len(texts) < len(given):
        raise RefusedError(400, f"{library.name} embeds texts, no token ids: send input as text", "not_supported_error")
    if "" in texts:
        raise RefusedError(400, f"input {texts.index('')} is empty" if len(texts) > 1 else "input is empty")
    return texts


def _document(wish: Wish, model_id: str, vectors: Sequence[Vector], tokens: Tokens) -> dict[str, object]:
    rows = [normalized(vector[: wish.dimensions], wish.embd_normalize) for vector in vectors]
    in_base64 = wish.encoding_format == "base64"
    kind = {"encoding_format": "base64"} if in_base64 else {}
    data = [
        {"embedding": _packed(row) if in_base64 else row, "index": place, "object": "embedding", **kind}
        for place, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model_id, "data": data, "usage": usage}


def normalized(vector: Vector, way: int) -> list[float]:
    """``vector`` as ``embd_normalize`` has it: -1 as it is, 0 by its largest value, else by the norm of that order."""
    match way:
        case -1:
            size = 1.0
        case 0:
            size = max(map(abs, vector)) / _LARGEST
        case _:
            size = sum(abs(value) ** way for value in vector) ** (1 / way)
    return [value / size for value in vector] if size else list(vector)


def _packed(vector: Vector) -> str:
    """As 32-bit floats, the lowest byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
