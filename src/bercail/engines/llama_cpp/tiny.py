"""Small llama models with random weights, written here: to try chat templates on, and for tests and measurements."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bercail.core.units import MIB

_ALIGNMENT = 32
_F32, _Q8_0 = 0, 8
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_BLOCK_WEIGHTS, _BLOCK_BYTES = 32, 34
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_PIECE_BLOCKS = MIB // _BLOCK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Size of a model; every width is a multiple of 32, a block of q8_0."""

    layers: int = 1
    embedding: int = 32
    feed_forward: int = 32
    heads: int = 2
    kv_heads: int = 1
    context_tokens: int = 2048
    vocabulary: int = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorPlan:
    name: str
    shape: tuple[int, ...]

    @property
    def type(self) -> int:
        return _F32 if len(self.shape) == 1 else _Q8_0

    @property
    def bytes(self) -> int:
        if self.type == _F32:
            return 4 * self.shape[0]
        return self.shape[0] // _BLOCK_WEIGHTS * _BLOCK_BYTES * self.shape[1]


def write_llama(path: Path, shape: LlamaShape = LlamaShape(), *, template: str = "", seed: int = 1) -> None:
    """Write a model of architecture ``llama`` with random q8_0 weights and a byte vocabulary; llama.cpp loads it.

    Args:
        path: the file; replaced if it exists.
        shape: its size; the default makes 45 KB.
        template: chat template to put in, or none.
        seed: of the weights; the same seed gives the same file.
    """
    tensors = list(_tensors(shape))
    with path.open("wb") as file:
        _write_header(file, _metadata(shape, template), tensors)
        _write_data(file, tensors, seed)


def _tensors(shape: LlamaShape) -> Iterator[_TensorPlan]:
    width, ff = shape.embedding, shape.feed_forward
    kv_width = width // shape.heads * shape.kv_heads
    yield _TensorPlan(name="token_embd.weight", shape=(width, shape.vocabulary))
    yield _TensorPlan(name="output_norm.weight", shape=(width,))
    yield _TensorPlan(name="output.weight", shape=(width, shape.vocabulary))
    for layer in range(shape.layers):
        parts = {
            "attn_norm": (width,), "attn_q": (width, width), "attn_k": (width, kv_width), "attn_v": (width, kv_width),
            "attn_output": (width, width), "ffn_norm": (width,), "ffn_gate": (width, ff), "ffn_up": (width, ff),
            "ffn_down": (ff, width),
        }  # fmt: skip
        for name, extents in parts.items():
            yield _TensorPlan(name=f"blk.{layer}.{name}.weight", shape=extents)


def _metadata(shape: LlamaShape, template: str) -> list[bytes]:
    tokens, scores, types = _vocabulary(shape.vocabulary)
    fields = [
        _key("general.architecture", _STRING) + _string("llama"),
        _key("general.name", _STRING) + _string("random"),
        *(
            _key(f"llama.{name}", _UINT32) + struct.pack("<I", value)
            for name, value in (
                ("block_count", shape.layers),
                ("context_length", shape.context_tokens),
                ("embedding_length", shape.embedding),
                ("feed_forward_length", shape.feed_forward),
                ("attention.head_count", shape.heads),
                ("attention.head_count_kv", shape.kv_heads),
                ("rope.dimension_count", shape.embedding // shape.heads),
                ("vocab_size", shape.vocabulary),
            )
        ),
        _key("llama.attention.layer_norm_rms_epsilon", _FLOAT32) + struct.pack("<f", 1e-5),
        _key("tokenizer.ggml.model", _STRING) + _string("llama"),
        _array("tokenizer.ggml.tokens", _STRING, len(tokens)) + b"".join(map(_string, tokens)),
        _array("tokenizer.ggml.scores", _FLOAT32, len(scores)) + struct.pack(f"<{len(scores)}f", *scores),
        _array("tokenizer.ggml.token_type", _INT32, len(types)) + struct.pack(f"<{len(types)}i", *types),
        _key("tokenizer.ggml.bos_token_id", _UINT32) + struct.pack("<I", 1),
        _key("tokenizer.ggml.eos_token_id", _UINT32) + struct.pack("<I", 2),
        _key("tokenizer.ggml.unknown_token_id", _UINT32) + struct.pack("<I", 0),
        _key("tokenizer.ggml.add_bos_token", _BOOL) + b"\x01",
    ]
    if template:
        fields.append(_key("tokenizer.chat_template", _STRING) + _string(template))
    return fields


def _vocabulary(count: int) -> tuple[list[str], list[float], list[int]]:
    """SentencePiece style: three specials, the 256 bytes, then printable characters and made-up syllables."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256)]
    letters = ["\u2581", *(chr(code) for code in range(33, 127) if chr(code) != "<")]
    syllables = (f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in letters)
    while len(tokens) < count:
        tokens.append(letters[len(tokens) - 259] if len(tokens) - 259 < len(letters) else next(syllables))
    types += [_NORMAL] * (len(tokens) - len(types))
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(tokens) - 259)]
    return tokens, scores, types


def _write_header(file: BinaryIO, fields: list[bytes], tensors: list[_TensorPlan]) -> None:
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields)) + b"".join(fields))
    offset = 0
    for tensor in tensors:
        extents = struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        file.write(_string(tensor.name) + struct.pack("<I", len(tensor.shape)) + extents)
        file.write(struct.pack("<IQ", tensor.type, offset))
        offset += tensor.bytes + _padding(tensor.bytes)
    file.write(b"\0" * _padding(file.tell()))


def _write_data(file: BinaryIO, tensors: list[_TensorPlan], seed: int) -> None:
    dice = random.Random(seed)
    scale = struct.pack("<e", 0.0008)  # int8 of uniform size, so that a row of some thousand keeps the stream bounded
    piece = b"".join(scale + dice.randbytes(_BLOCK_WEIGHTS) for _ in range(_PIECE_BLOCKS))
    for tensor in tensors:
        if tensor.type == _F32:
            file.write(struct.pack("<f", 1.0) * tensor.shape[0])
        else:
            _write_blocks(file, piece, tensor.bytes, dice.randrange(_PIECE_BLOCKS))
        file.write(b"\0" * _padding(tensor.bytes))


def _write_blocks(file: BinaryIO, piece: bytes, size_bytes: int, first_block: int) -> None:
    start = first_block * _BLOCK_BYTES
    while size_bytes > 0:
        size_bytes -= file.write(piece[start : start + size_bytes])
        start = 0


def _padding(size: int) -> int:
    return -size % _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int) -> bytes:
    return _string(name) + struct.pack("<I", kind)


def _array(name: str, element: int, count: int) -> bytes:
    return _key(name, _ARRAY) + struct.pack("<IQ", element, count)
