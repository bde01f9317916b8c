"""The tokenizer of a file: its arrays must agree with one another before an engine builds its tables of them."""

from collections.abc import Iterable

from bercail.core.errors import ReadError
from bercail.core.model import ArraySummary, Model, Tokenizer
from bercail.readers.gguf.cursor import Cursor
from bercail.readers.gguf.header import Header, byte_order
from bercail.readers.gguf.keys import Keys
from bercail.readers.gguf.source import mapped

MODELS = frozenset(
    (
        "bert", "gemma4", "gpt2", "hybriddna", "llama", "no_vocab", "none", "plamo2", "plamo3", "rwkv", "t5", "test",
        "whitespace",
    )
)  # fmt: skip
"""What ``tokenizer.ggml.model`` may say. Source: llama_vocab::impl::load of b11549."""

_WITHOUT_TOKENS = frozenset(("no_vocab", "none"))
_WITH_MERGES = frozenset(("gemma4", "gpt2", "hybriddna", "whitespace"))
_NONE_U32 = 2**32 - 1
_MODEL = "tokenizer.ggml.model"
_TOKENS = "tokenizer.ggml.tokens"
_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"


def describe(header: Header) -> Tokenizer:
    """The tokenizer as the keys name it, unchecked."""
    model = header.metadata.get(_MODEL)
    pre = header.metadata.get("tokenizer.ggml.pre")
    tokens = header.metadata.get(_TOKENS)
    return Tokenizer(
        model=model if isinstance(model, str) else None,
        pre=pre if isinstance(pre, str) else None,
        tokens=tokens.count if isinstance(tokens, ArraySummary) else None,
    )


def check(keys: Keys) -> int | None:
    """Check the arrays against one another; the number of tokens, or None if the file leaves it open."""
    header = keys.header
    model = header.metadata.get(_MODEL)
    if model is None:
        raise header.refuse("the key is missing: the file has no tokenizer", _MODEL, hint="get a complete conversion")
    if not isinstance(model, str) or model not in MODELS:
        shown = repr(model)[:60]
        raise header.refuse(f"{shown} is no tokenizer that llama.cpp b11549 knows", _MODEL, hint="a newer engine may")
    if model in _WITHOUT_TOKENS:
        return keys.count("vocab_size") if keys.has("vocab_size") else None
    tokens = _array(header, _TOKENS, ("string",))
    if tokens is None:
        raise header.refuse(
            "the key is missing: the tokenizer has no tokens", _TOKENS, hint="get a complete conversion"
        )
    if tokens == 0:
        raise header.refuse("the tokenizer has no tokens", _TOKENS, hint="get a complete conversion")
    _same_length(header, "tokenizer.ggml.scores", ("float32", "int32"), tokens)
    _same_length(header, "tokenizer.ggml.token_type", ("int32",), tokens)
    merges = _array(header, "tokenizer.ggml.merges", ("string",))
    if merges is None and model in _WITH_MERGES and header.metadata.get("tokenizer.ggml.pre") != "kimi-k2":
        raise header.refuse(
            f"the key is missing; a {model} tokenizer needs it",
            "tokenizer.ggml.merges",
            hint="get a complete conversion",
        )
    _array(header, _CHARSMAP, ("int8", "uint8"))
    return tokens


def odd_ids(header: Header, tokens: int | None) -> Iterable[str]:
    """Words about special tokens that the vocabulary does not hold; the engine ignores them."""
    for key, value in header.metadata.items():
        if not (key.startswith("tokenizer.ggml.") and key.endswith("_token_id") and isinstance(value, int) and tokens):
            continue
        # All ones is how writers say that there is no such token.
        if not 0 <= value < tokens and value not in (_NONE_U32, -1):
            yield f"{key} is {value}, but there are {tokens:,} tokens; the engine ignores it"


def audit(model: Model) -> None:
    """Read the tokens and refuse what an engine would not survive.

    Raises:
        ReadError: a token comes twice (the engine asserts that none does), the file changed since it was read, or its
            byte order is one that the engine does not load.
    """
    tokens = model.metadata.get(_TOKENS)
    first = model.files[0]
    with mapped(first.path) as data:
        if byte_order(data, first.path):
            raise ReadError(
                "a big-endian file, which the engine does not load on this machine",
                path=first.path,
                field="version",
                offset=4,
                hint="convert it with gguf_convert_endian.py of the gguf package",
                code="big_endian",
            )
        if len(data) != first.bytes:
            raise ReadError(
                f"the file has {len(data):,} bytes, but had {first.bytes:,} when it was read",
                path=first.path,
                hint="wait until whatever writes it is done, then try again",
                code="changed",
            )
        if not isinstance(tokens, ArraySummary) or model.tokenizer.model in _WITHOUT_TOKENS:
            return
        cursor = Cursor(data, first.path, offset=min(tokens.offset, len(data)))
        cursor.skip_strings(tokens.count, _TOKENS)
        cursor.offset = tokens.offset
        _no_twins(cursor.strings(tokens.count), first.path, tokens.offset)


def _no_twins(words: list[bytes], path: str, offset: int) -> None:
    """Refuse equal tokens. As the engine sees them: cut at a NUL, and an empty one is ``[EMPTY_`` and its number."""
    different = set(words)
    if len(different) == len(words) and b"" not in different and b"\0" not in b"".join(words):
        return
    seen: dict[bytes, int] = {}
    place = offset
    for number, raw in enumerate(words):
        word = raw.partition(b"\0")[0] or b"[EMPTY_%d]" % number
        if word in seen:
            raise ReadError(
                f"token {number:,} equals token {seen[word]:,}, {word[:40].decode(errors='replace')!r}; "
                "the engine aborts on such a vocabulary",
                path=path,
                field=_TOKENS,
                offset=place,
                hint="get a corrected conversion from the publisher",
                code="duplicate_token",
            )
        seen[word] = number
        place += 8 + len(raw)


def _array(header: Header, key: str, elements: tuple[str, ...]) -> int | None:
    """The length of an array of one of these types, or None without the key."""
    value = header.metadata.get(key)
    if value is None:
        return None
    kind = header.types[key]
    if kind not in {f"array[{element}]" for element in elements}:
        raise header.refuse(f"is {kind}, but must be array[{elements[0]}]", key, hint="get a corrected conversion")
    return value.count if isinstance(value, ArraySummary) else len(value) if isinstance(value, tuple) else 0


def _same_length(header: Header, key: str, elements: tuple[str, ...], tokens: int) -> None:
    found = _array(header, key, elements)
    if found is not None and found < tokens:
        raise header.refuse(f"has {found:,} entries for {tokens:,} tokens", key, hint="get a corrected conversion")
