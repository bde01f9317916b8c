"""A model that always says one sentence and stops: real weights, real engine, known text."""

import struct
from pathlib import Path

from tools.synth.write import TensorSpec, Typed, Value, write_gguf

_WIDTH = 32
_SHARPNESS = 6.0


_GAPS = tuple(f"tokenizer.ggml.fim_{part}_token_id" for part in ("pre", "suf", "mid"))


def write_parrot(
    path: Path, sentence: str, *, template: str, context_tokens: int = 2048, endless: bool = False,
    marks: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """A llama of one idle layer whose output follows from the last token alone: the sentence, after it the end.

    Every token points along the first axis; the sentence, a single token, mostly along the second. The output matrix
    answers the first axis with the sentence and the second with the end of the text, or with the sentence once more if
    it is to be ``endless``. ``marks`` are further tokens of its own: those of gaps, before, after and in them.
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), sentence.replace(" ", "\u2581")]
    own = range(len(tokens), len(tokens) + len(marks))
    tokens += marks
    tokens += [f"filler{number}" for number in range(-len(tokens) % 32)]
    said = 259
    plain, spoken = _row({0: 1.0}), _row({0: 1.0, 1: 10.0})
    embedding = b"".join(spoken if index == said else plain for index in range(len(tokens)))
    again = {said: _row({0: _SHARPNESS, 1: _SHARPNESS})}
    answers = again if endless else {said: _row({0: _SHARPNESS}), 2: _row({1: _SHARPNESS})}
    output = b"".join(answers.get(index, _row({})) for index in range(len(tokens)))
    ones = struct.pack(f"<{_WIDTH}f", *([1.0] * _WIDTH))
    layer = {"attn_q": 32, "attn_k": 32, "attn_v": 32, "attn_output": 32, "ffn_gate": 32, "ffn_up": 32, "ffn_down": 32}
    tensors = [
        TensorSpec("token_embd.weight", (_WIDTH, len(tokens)), "f32", embedding),
        TensorSpec("output_norm.weight", (_WIDTH,), "f32", ones),
        TensorSpec("output.weight", (_WIDTH, len(tokens)), "f32", output),
        *(TensorSpec(f"blk.0.{name}.weight", (_WIDTH,), "f32", ones) for name in ("attn_norm", "ffn_norm")),
        *(TensorSpec(f"blk.0.{name}.weight", (_WIDTH, width), "f32") for name, width in layer.items()),
    ]
    kinds = [2, 3, 3, *([6] * 256), *(3 if index in own else 1 for index in range(259, len(tokens)))]
    metadata: dict[str, Value] = {
        "general.architecture": "llama", "general.name": "parrot", "llama.block_count": 1,
        "llama.context_length": context_tokens, "llama.embedding_length": _WIDTH, "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 16,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": Typed("array[float32]", [0.0] * len(tokens)),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.chat_template": template,
    }  # fmt: skip
    metadata |= dict(zip(_GAPS, own, strict=False))
    return write_gguf(path, metadata, tensors)


def _row(axes: dict[int, float]) -> bytes:
    return struct.pack(f"<{_WIDTH}f", *(axes.get(axis, 0.0) for axis in range(_WIDTH)))
