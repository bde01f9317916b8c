"""Small encoders as folders of OpenVINO, written with OpenVINO, and the same arithmetic once more in numpy.

Run as a program it writes such a folder: its bindings warn of what is none of our business, in a process of their own.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "the", "cat", "dog", "sat", "##s", "##ly", "un", ".")
"""A vocabulary of word pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of a BERT."""

    vocabulary: int = len(WORDS)
    width: int = 32
    heads: int = 4
    layers: int = 2
    inner: int = 64
    positions: int = 64
    epsilon: float = 1e-12

    def config(self) -> dict[str, Any]:
        """As ``config.json`` of Hugging Face says it."""
        return {
            "model_type": "bert", "architectures": ["BertModel"], "hidden_size": self.width,
            "num_attention_heads": self.heads, "num_hidden_layers": self.layers, "intermediate_size": self.inner,
            "max_position_embeddings": self.positions, "vocab_size": self.vocabulary, "type_vocab_size": 2,
            "layer_norm_eps": self.epsilon,
        }  # fmt: skip


def some_weights(sizes: Sizes) -> dict[str, Any]:
    """Always the same ones, by their names in PyTorch; linear layers are (out, in)."""
    dice = np.random.default_rng(5)

    def drawn(*shape: int) -> Any:
        return (dice.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)

    width, inner = sizes.width, sizes.inner
    found: dict[str, Any] = {
        "embeddings.word_embeddings.weight": drawn(sizes.vocabulary, width) * 4,
        "embeddings.position_embeddings.weight": drawn(sizes.positions, width),
        "embeddings.token_type_embeddings.weight": drawn(2, width),
        **norm("embeddings.LayerNorm", width),
    }
    for layer in range(sizes.layers):
        at = f"encoder.layer.{layer}."
        shapes = {
            "attention.self.query": (width, width), "attention.self.key": (width, width),
            "attention.self.value": (width, width), "attention.output.dense": (width, width),
            "intermediate.dense": (inner, width), "output.dense": (width, inner),
        }  # fmt: skip
        for name, shape in shapes.items():
            found[f"{at}{name}.weight"], found[f"{at}{name}.bias"] = drawn(*shape), drawn(shape[0])
        found |= norm(f"{at}attention.output.LayerNorm", width) | norm(f"{at}output.LayerNorm", width)
    return found


def norm(name: str, width: int) -> dict[str, Any]:
    return {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}


def states(weights: Mapping[str, Any], sizes: Sizes, ids: Sequence[int]) -> Any:
    """The last hidden state of one text, (tokens, width), in numpy and double precision."""
    table = {name: value.astype(np.float64) for name, value in weights.items()}

    def linear(x: Any, name: str) -> Any:
        return x @ table[f"{name}.weight"].T + table[f"{name}.bias"]

    def normed(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + sizes.epsilon)
        return scaled * table[f"{name}.weight"] + table[f"{name}.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(len(ids), sizes.heads, -1).transpose(1, 0, 2)

    x = table["embeddings.word_embeddings.weight"][list(ids)]
    x = x + table["embeddings.position_embeddings.weight"][: len(ids)]
    x = normed(x + table["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(sizes.layers):
        at = f"encoder.layer.{layer}."
        query, key, value = (heads(linear(x, f"{at}attention.self.{name}")) for name in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(sizes.width // sizes.heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares = shares / shares.sum(-1, keepdims=True)
        seen = (shares @ value).transpose(1, 0, 2).reshape(len(ids), sizes.width)
        x = normed(x + linear(seen, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        inner = linear(x, f"{at}intermediate.dense")
        inner = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normed(x + linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x


def network(weights: Mapping[str, Any], sizes: Sizes) -> Any:
    """The graph, as exporters write it: ``last_hidden_state`` of ``input_ids`` and ``attention_mask``."""
    from openvino import Model, Type
    from openvino import opset13 as ops

    def const(value: Any) -> Any:
        return ops.constant(value, dtype=np.asarray(value).dtype)

    def linear(x: Any, name: str) -> Any:
        product = ops.matmul(x, const(weights[f"{name}.weight"]), transpose_a=False, transpose_b=True)
        return ops.add(product, const(weights[f"{name}.bias"]))

    def normed(x: Any, name: str) -> Any:
        axis = const(np.array([-1], np.int64))
        x = ops.mvn(x, axis, normalize_variance=True, eps=sizes.epsilon, eps_mode="inside_sqrt")
        return ops.add(ops.multiply(x, const(weights[f"{name}.weight"])), const(weights[f"{name}.bias"]))

    def heads(x: Any) -> Any:
        split = const(np.array([0, 0, sizes.heads, sizes.width // sizes.heads], np.int64))
        return ops.transpose(ops.reshape(x, split, special_zero=True), const(np.array([0, 2, 1, 3], np.int64)))

    names = ("input_ids", "attention_mask", "token_type_ids")
    ids, mask, kinds = (ops.parameter([-1, -1], Type.i64, name=name) for name in names)
    for node, name in zip((ids, mask, kinds), names, strict=True):
        node.output(0).get_tensor().set_names({name})
    zero = const(np.array(0, np.int64))

    def rows(name: str, numbers: Any) -> Any:
        return ops.gather(const(weights[f"embeddings.{name}_embeddings.weight"]), numbers, zero)

    length = ops.gather(ops.shape_of(ids), const(np.array(1, np.int64)), zero)
    places = ops.range(zero, length, const(np.array(1, np.int64)), output_type="i64")
    x = ops.add(ops.add(rows("word", ids), rows("token_type", kinds)), rows("position", places))
    x = normed(x, "embeddings.LayerNorm")
    seen = ops.unsqueeze(ops.convert(mask, "f32"), const(np.array([1, 2], np.int64)))
    bias = ops.multiply(ops.subtract(const(np.float32(1)), seen), const(np.float32(-1e9)))
    for layer in range(sizes.layers):
        at = f"encoder.layer.{layer}."
        query, key, value = (heads(linear(x, f"{at}attention.self.{name}")) for name in ("query", "key", "value"))
        found = ops.transpose(
            ops.scaled_dot_product_attention(query, key, value, bias), const(np.array([0, 2, 1, 3], np.int64))
        )
        flat = ops.reshape(found, const(np.array([0, 0, sizes.width], np.int64)), special_zero=True)
        x = normed(ops.add(x, linear(flat, f"{at}attention.output.dense")), f"{at}attention.output.LayerNorm")
        inner = ops.gelu(linear(x, f"{at}intermediate.dense"), "erf")
        x = normed(ops.add(x, linear(inner, f"{at}output.dense")), f"{at}output.LayerNorm")
    x.output(0).get_tensor().set_names({"last_hidden_state"})
    return Model([ops.result(x, name="last_hidden_state")], [ids, mask, kinds], "bert")


def tokenizer(words: Sequence[str], longest: int, *, cuts: bool = False) -> Any:
    """Word pieces, as ``convert_tokenizer`` writes those of a BERT; ``longest`` is what it cuts texts to if it does."""
    from openvino import Type
    from openvino_tokenizers import tokenizer_pipeline as steps
    from openvino_tokenizers.utils import change_outputs_type

    pipeline = steps.TokenizerPipeline()
    pipeline.vocab = list(words)
    first, last = (steps.AddToken(token=name, _token_id=words.index(name)) for name in ("[CLS]", "[SEP]"))
    pipeline.add_steps(steps.SpecialTokensSplit.from_string_iter(words[:4]))
    pipeline.add_steps([steps.CaseFoldStep(), *steps.RegexSplitStep.bert_splitter()])
    pipeline.add_steps(steps.WordPieceTokenizationStep(list(words)))
    pipeline.add_steps(steps.TruncationStep(longest - 2, truncation=cuts))
    pipeline.add_steps(steps.CombineSegmentsStep([first, steps.Sequence(), last], segment_ids=[0, 0, 0]))
    pipeline.add_steps(steps.PaddingStep(token="[PAD]", _token_id=words.index("[PAD]"), token_type_id=0))
    return change_outputs_type(pipeline.get_tokenizer_ov_subgraph(), Type.i64)


def write_encoder(
    folder: Path, weights: Mapping[str, Any], sizes: Sizes, words: Sequence[str] = WORDS, *, cuts: bool = False
) -> None:
    """A folder of OpenVINO; nothing in it says how it pools."""
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    read = tokenizer(words, sizes.positions, cuts=cuts)
    openvino.save_model(network(weights, sizes), folder / "openvino_model.xml", compress_to_fp16=False)
    openvino.save_model(read, folder / "openvino_tokenizer.xml", compress_to_fp16=False)
    (folder / "config.json").write_text(json.dumps(sizes.config()))


def a_small_encoder(folder: Path, *, cuts: bool = False) -> Path:
    """The folder of one with weights that are always the same, made in a process of its own."""
    code = [sys.executable, "-W", "ignore", __file__, str(folder), *(["cuts"] if cuts else [])]
    subprocess.run(code, check=True, timeout=120)
    return folder


def vector_of(ids: Sequence[int], pooling: str) -> Any:
    """What such an encoder makes of a text, as long as it is: in numpy."""
    found = states(some_weights(Sizes()), Sizes(), ids)
    return {"mean": found.mean(0), "cls": found[0], "last": found[-1]}[pooling]


if __name__ == "__main__":
    write_encoder(Path(sys.argv[1]), some_weights(Sizes()), Sizes(), cuts="cuts" in sys.argv[2:])
